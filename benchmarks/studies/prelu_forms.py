"""How each way of writing PReLU runs in each runtime: operators, XNNPACK partitions, milliseconds, float and int8.

    python -m facekd.benchmarks.studies.prelu_forms --runtimes onnx,tflite,executorch --rounds 30

A MobileFaceNet whose norms and slopes look trained is converted in every form, in float32 and, calibrated on drawn
faces, in int8. All files of a runtime are then timed in turn, on one thread, so that other loads on the machine meet
them alike. `to native` is the median over the rounds of a file's time by that of `native` in the same round: it holds
on a busy machine, where the milliseconds do not. The table of docs/export.md is made by this.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from facekd.common.errors import FacekdError
from facekd.common.table import Table
from facekd.export.faces import synthetic_faces
from facekd.export.logs import captured
from facekd.export.network import Network
from facekd.export.options import ExportOptions
from facekd.export.rewrite import PRELU_FORMS
from facekd.export.targets.base import get_target
from facekd.models.architectures.mobilefacenet import MobileFaceNet
from facekd.runtimes.opening import open_stated
from facekd.schemas.input_spec import InputSpec


def main() -> None:
    """Prints a table for each runtime, or JSON lines with --json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runtimes", default="onnx,tflite,executorch")
    parser.add_argument("--forms", default=",".join(PRELU_FORMS))
    parser.add_argument("--precisions", default="fp32,int8")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for runtime in arguments.runtimes.split(","):
        rows = measure(runtime, arguments.forms.split(","), arguments.precisions.split(","), arguments.rounds)
        print("\n".join(map(json.dumps, rows)) if arguments.json else _table(rows).markdown(), flush=True)


def measure(runtime: str, forms: list[str], precisions: list[str], rounds: int) -> list[dict[str, Any]]:
    """One row for each form and precision, and for the same network with plain ReLU, which loses the slopes.

    Args:
        runtime: a target of facekd.export.
        forms: of facekd.export.rewrite.
        precisions: of the target.
        rounds: timed runs of each file.
    """
    target = get_target(runtime)
    size = InputSpec().size
    faces = synthetic_faces(16, size).images
    rows: list[dict[str, Any]] = []
    runners = []
    with tempfile.TemporaryDirectory() as folder, captured(Path(folder) / "log"):
        for form in [*forms, "relu (another network)"]:
            network = _network("relu" if form not in PRELU_FORMS else "prelu")
            for precision in precisions:
                options = ExportOptions(
                    precision=precision,  # type: ignore[arg-type]
                    layout=target.layouts[0],
                    calibration=faces,
                    keep_float=(),
                    layer_report=False,
                    prelu_form=form if form in PRELU_FORMS else "native",
                )
                place = Path(tempfile.mkdtemp(dir=folder))
                row: dict[str, Any] = {"runtime": runtime, "form": form, "precision": precision}
                rows.append(row)
                try:
                    made = target.convert(network, place, options, Path(tempfile.mkdtemp(dir=folder)))
                except FacekdError as error:
                    row["problem"] = str(error)
                    continue
                row |= {"operators": sum(made.operators.values()), "partitions": made.partitions}
                embedder = open_stated(place / made.model, made.input, threads=1)
                runners.append((row, embedder.session, embedder.encoding.encode(faces[:1])))
        times: list[list[float]] = [[] for _ in runners]
        for _ in range(rounds):
            for (_, runner, x), record in zip(runners, times, strict=True):
                runner.run(x)  # the one before emptied the caches
                start = time.perf_counter()
                runner.run(x)
                record.append((time.perf_counter() - start) * 1e3)
    native = {
        row["precision"]: record for (row, _, _), record in zip(runners, times, strict=True) if row["form"] == "native"
    }
    for (row, _, _), record in zip(runners, times, strict=True):
        row |= {"ms_median": statistics.median(record), "ms_min": min(record)}
        if row["precision"] in native:
            ratios = [ms / other for ms, other in zip(record, native[row["precision"]], strict=True)]
            row["to_native"] = statistics.median(ratios)
    return rows


def _network(activation: str) -> Network:
    torch.manual_seed(0)
    model = MobileFaceNet(activation=activation)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data.uniform_(0.7, 1.3)
            module.bias.data.normal_(0, 0.2)
        if isinstance(module, nn.PReLU):
            module.weight.data.uniform_(-0.1, 0.5)
    model.train()
    with torch.no_grad():
        for _ in range(3):
            model(torch.rand(8, 3, 112, 112) * 2 - 1)
    return Network.build(
        model.eval(), spec=InputSpec(), embedding_width=model.embedding_width, metadata={"name": "prelu-forms"}
    )


def _table(rows: list[dict[str, Any]]) -> Table:
    columns = ("runtime", "precision", "form", "operators", "partitions", "to native", "ms median", "ms least")
    cells = []
    for row in rows:
        figures: tuple[Any, ...] = (row.get("problem"), None, None, None, None)
        if "problem" not in row:
            partitions = "-" if row["partitions"] is None else row["partitions"]
            ratio = f"{row['to_native']:.2f}" if "to_native" in row else "-"
            figures = (row["operators"], partitions, ratio, f"{row['ms_median']:.1f}", f"{row['ms_min']:.1f}")
        cells.append((row["runtime"], row["precision"], row["form"], *figures))
    return Table(columns, cells, left=3)


if __name__ == "__main__":
    main()
