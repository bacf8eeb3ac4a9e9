"""`facekd liveness`: does a photograph show a live face, or a picture of one?"""

import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from facekd.cli.output import JsonFlag, print_json, print_table, print_text
from facekd.common.errors import UsageError


def register(app: typer.Typer) -> None:
    """Attaches the verb."""
    app.command("liveness")(liveness)


def liveness(
    images: Annotated[list[Path], typer.Argument(help="Photographs, or one folder with live/ and attack/.")],
    model: Annotated[
        list[Path], typer.Option(help="Artefact exported with --liveness, or a liveness .onnx (several times).")
    ],
    detector: Annotated[
        Path | None, typer.Option(help="YuNet or SCRFD .onnx file to detect the faces (or FACEKD_DETECTOR).")
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(min=0, max=1, help="Live above it. Default: the artefact's, 0.5 for files.")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    json_output: JsonFlag = False,
) -> None:
    """Score faces as live or as a picture of one; on a folder with live/ and attack/, report APCER and BPCER.

    Exit code 0 whatever the scores, 2 for wrong usage. It does not stop masks, nor a film that is fed in behind the
    camera.
    """
    from facekd.common.progress import progress_bar
    from facekd.evaluation.presentation_attacks import error_rates, labelled_images, score_images
    from facekd.runtimes.detectors import open_detector
    from facekd.runtimes.liveness import open_liveness

    if detector is None and "FACEKD_DETECTOR" in os.environ:
        detector = Path(os.environ["FACEKD_DETECTOR"])
    if detector is None:
        raise UsageError("give --detector PATH (or FACEKD_DETECTOR): the crop is measured from the face box")
    folder = images[0] if len(images) == 1 and images[0].is_dir() else None
    labelled = labelled_images(folder) if folder is not None else [(path, None) for path in images]
    if missing := next((path for path, _ in labelled if not path.is_file()), None):
        raise UsageError(f"image {missing} does not exist: give photographs, or one folder with live/ and attack/")
    find, networks = open_detector(detector), open_liveness(model, threshold=threshold, threads=threads)
    with progress_bar("liveness", len(labelled), shown=not json_output) as bar:
        scores = list(score_images([path for path, _ in labelled], find, networks, each=bar.advance))
    rates = error_rates(scores, [kind for _, kind in labelled]) if folder is not None else None
    if json_output:
        found = {"threshold": networks.threshold, "images": [asdict(score) for score in scores]}
        print_json({**found, **({"rates": asdict(rates)} if rates is not None else {})})
        return
    if rates is None:
        print_table(
            f"live above {networks.threshold:g}",
            ["photograph", "score", "verdict"],
            [
                (s.file, *(("", "no face found") if s.score is None else (f"{s.score:.4f}", _word(s.live))))
                for s in scores
            ],
        )
        return
    bpcer = "" if rates.bpcer is None else f"{100 * rates.bpcer:.2f}"
    rows = [("BPCER: live faces refused", rates.live, bpcer)]
    rows += [(f"APCER: {kind} passed", rates.attacks[kind], f"{100 * rate:.2f}") for kind, rate in rates.apcer.items()]
    print_table(f"{folder}: live above {networks.threshold:g}", ["rate (ISO/IEC 30107-3)", "photographs", "%"], rows)
    if rates.without_face:
        print_text(f"{rates.without_face} photographs without a face, which count nowhere")


def _word(live: bool) -> str:
    return "live" if live else "not a live face"
