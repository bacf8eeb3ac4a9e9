"""`facekd verify`: do two photographs show the same person, at a measured false accept rate?"""

import os
from pathlib import Path
from typing import Annotated

import typer

from facekd.cli.output import JsonFlag, print_json, print_text
from facekd.common.errors import UsageError


def register(app: typer.Typer) -> None:
    """Attaches the verb."""
    app.command("verify")(verify)


def verify(
    first: Annotated[Path, typer.Argument(help="First photograph.")],
    second: Annotated[Path, typer.Argument(help="Second photograph.")],
    model: Annotated[Path, typer.Option(help="Bundle with measured thresholds (evaluate --save-thresholds).")],
    detector: Annotated[
        Path | None, typer.Option(help="YuNet or SCRFD .onnx file to detect and align the faces (or FACEKD_DETECTOR).")
    ] = None,
    far: Annotated[float, typer.Option(help="False accept rate of the threshold.")] = 1e-3,
    aligned: Annotated[bool, typer.Option("--aligned", help="The images are aligned crops.")] = False,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads. Default: all.")] = None,
    json_output: JsonFlag = False,
) -> None:
    """Decide whether two photographs show the same person, with the threshold measured at a given false accept rate.

    Exit code 0 for "same person" and "different people", 1 if no face was found, 2 for wrong usage.
    """
    from facekd.evaluation.verification import far_name
    from facekd.evaluation.verify import verify_images

    if detector is None and not aligned and "FACEKD_DETECTOR" in os.environ:
        detector = Path(os.environ["FACEKD_DETECTOR"])
    if aligned == (detector is not None):
        raise UsageError(
            "give --detector PATH (or FACEKD_DETECTOR) for photographs, or --aligned for aligned crops: one of them"
        )
    decision = verify_images(first, second, bundle=model, detector=detector, far=far, threads=threads)
    if json_output:
        print_json(decision.to_dict())
        return
    sign = ">" if decision.same else "<="
    for path, faces in zip((first, second), decision.faces, strict=True):
        if faces > 1:
            print_text(f"{path}: {faces} faces; used the largest central one")
    print_text("same person" if decision.same else "different people")
    print_text(
        f"cosine {decision.score_cos:.4f} {sign} {decision.threshold_cos:.4f}, "
        f"the threshold measured at FAR {far_name(decision.far)} on {decision.dataset}"
    )
