"""The quickstart: teacher, undistilled and distilled student on synthetic faces."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facekd.data.packing import pack_records
from facekd.data.sources.synthetic import SyntheticSource
from facekd.evaluation.verification import VerificationResult
from facekd.models.bundle import load_bundle
from facekd.recipe import load_recipe
from facekd.training.log import Reporter
from facekd.training.run import run_recipe

IDENTITIES, IMAGES = 200, 20
_STAGES = ("teacher", "undistilled", "distilled")


@dataclass(frozen=True)
class Trained:
    """One model of the quickstart: its bundle, size and verification result on people it never saw."""

    name: str
    bundle: Path
    parameters: int
    macs: int
    verification: VerificationResult


@dataclass(frozen=True)
class QuickstartResult:
    """What the quickstart made; `faces` is the .rec of the drawn training faces."""

    faces: Path
    teacher: Trained
    undistilled: Trained
    distilled: Trained

    @property
    def gain(self) -> float:
        """Verification accuracy of the distilled student minus that of the undistilled one, a fraction."""
        return self.distilled.verification.accuracy - self.undistilled.verification.accuracy

    @property
    def errors_removed(self) -> float:
        """Share of the undistilled student's verification errors that the distilled one does not make."""
        wrong = 1 - self.undistilled.verification.accuracy
        return self.gain / wrong if wrong else 0.0


def quickstart(
    out: Path,
    *,
    seed: int = 0,
    overrides: Sequence[str] = (),
    identities: int | None = None,
    reporter: Reporter | None = None,
    track: Any = None,
) -> QuickstartResult:
    """Draws faces, trains the teacher, then the student without and with it: same network, faces, seed and steps.

    Args:
        out: a new or empty folder.
        seed: of the faces and the trainings.
        overrides: `a.b=c` for all three recipes (`training.max_steps=5`).
        identities: drawn for training, each with 20 images; default 200.
        reporter: where progress goes; default stderr.
        track: progress of the drawing, as `facekd.data.packing.pack_records` takes it.

    Raises:
        UsageError: `out` is not empty.
    """
    reporter = reporter or Reporter()
    drawn = SyntheticSource(identities=identities or IDENTITIES, images=IMAGES, seed=seed)
    options = {"track": track} if track is not None else {}
    pack_records(drawn, out / "faces", overwrite=False, **options)
    faces = out / "faces" / "train.rec"
    made: dict[str, Trained] = {}
    for stage in _STAGES:
        reporter.say(f"{stage} ...")
        settings = [f"seed={seed}", f'data.source="{faces}"', *overrides]
        if stage == "distilled":
            settings.append(f'teacher.bundle="{made["teacher"].bundle}"')
        result = run_recipe(load_recipe(f"quickstart-{stage}", settings), out=out / stage, reporter=reporter)
        card = load_bundle(result.bundle).card
        (verification,) = result.report.values()
        made[stage] = Trained(stage, result.bundle, card.parameters, card.macs, verification)
    return QuickstartResult(faces, made["teacher"], made["undistilled"], made["distilled"])
