"""What `import facekd` gives: the functions that a program of one's own needs, from loading a model to exporting one.

Each is the function that the command of the same name calls. Everything here can be imported as `facekd.NAME`; nothing
heavy is imported before a name is used.
"""

from collections.abc import Sequence, Sized
from dataclasses import replace
from pathlib import Path

import numpy as np

from facekd.common.errors import FacekdError, UsageError
from facekd.data.detection import FaceDetector, YuNet
from facekd.data.opening import load_verification_set, open_source
from facekd.data.source import Source, count_identities
from facekd.data.verification_set import VerificationSet
from facekd.distillation.build import build_task as build_task_of_source
from facekd.distillation.losses.base import DistillationBatch, DistillationLoss, LossSettings, Shapes
from facekd.distillation.task import DistillationTask
from facekd.distillation.teachers.base import Teacher, TeacherOutput, TeacherSettings
from facekd.evaluation.embed_files import read_crop
from facekd.evaluation.embedding import embed_images, evaluate_verification
from facekd.evaluation.verification import VerificationResult, pair_distances
from facekd.evaluation.verify import Decision, verify_images
from facekd.export.check import CheckReport, check_artefact
from facekd.export.faces import faces_from_source, synthetic_faces
from facekd.export.options import ExportOptions
from facekd.export.pipeline import Gate, Reference, export_artefact
from facekd.export.targets.base import get_target
from facekd.models.bundle import Bundle, load_bundle, save_bundle
from facekd.models.describe import describe
from facekd.models.registry import create_model, register_model
from facekd.recipe import Recipe, load_recipe
from facekd.runtimes.detectors import open_detector
from facekd.runtimes.embedder import Embedder
from facekd.runtimes.opening import open_model
from facekd.schemas.input_spec import InputSpec
from facekd.schemas.manifest import Manifest
from facekd.training.loader import Loader, LoaderBatches
from facekd.training.log import Reporter
from facekd.training.loop import Trainer
from facekd.training.loop_result import LoopResult
from facekd.training.run import run_recipe
from facekd.training.task import TrainingTask
from facekd.training.trackers import DEFAULT, Callback

__all__ = [
    "Bundle",
    "CheckReport",
    "Decision",
    "DistillationBatch",
    "DistillationLoss",
    "DistillationTask",
    "Embedder",
    "FaceDetector",
    "FacekdError",
    "InputSpec",
    "LoopResult",
    "LossSettings",
    "Manifest",
    "Recipe",
    "Reporter",
    "Shapes",
    "Source",
    "Teacher",
    "TeacherOutput",
    "TeacherSettings",
    "TrainingTask",
    "UsageError",
    "VerificationResult",
    "VerificationSet",
    "YuNet",
    "build_task",
    "check_artefact",
    "compare_faces",
    "create_model",
    "describe",
    "embed_images",
    "evaluate_pairs",
    "export_bundle",
    "load_bundle",
    "load_recipe",
    "load_verification_set",
    "open_detector",
    "open_model",
    "open_source",
    "register_model",
    "run_recipe",
    "save_bundle",
    "train",
    "verify_images",
]


def compare_faces(
    model: Embedder,
    first: str | Path | np.ndarray,
    second: str | Path | np.ndarray,
    *,
    detector: FaceDetector | None = None,
) -> float:
    """Cosine of two faces' embeddings, flips summed as in every evaluation: 1 for the same picture.

    Args:
        model: see `open_model`.
        first: an image file, or uint8 RGB [h, w, 3].
        second: likewise.
        detector: finds and aligns the most prominent face; None where both are aligned crops of the model's size.

    Raises:
        UnreadableImage: not an image, no face found, or not of the model's size.
    """
    crops = [read_crop(image, model, detector).image for image in (first, second)]
    return float(1 - pair_distances(embed_images(model, crops, batch_size=2))[0] / 2)


def evaluate_pairs(
    model: Embedder | str | Path, pairs: VerificationSet | str | Path, *, images: str | Path | None = None
) -> VerificationResult:
    """1:1 verification by the one rule of all verbs (docs/evaluation.md).

    Args:
        model: an opened model, or where one is.
        pairs: a set, or what `load_verification_set` takes: a .bin, a list of pairs, `synthetic:...`.
        images: the folder of a list's images.

    Raises:
        UsageError: nothing of the kind is there.
        FacekdError: it cannot be read, or the embeddings have no direction.
    """
    opened = open_model(model) if isinstance(model, str | Path) else model
    given = isinstance(pairs, VerificationSet)
    found = pairs if given else load_verification_set(pairs, images, size=opened.input.size)  # type: ignore[arg-type]
    return evaluate_verification(opened, found)  # type: ignore[arg-type]


def build_task(recipe: Recipe, identities: Source | Sized | int) -> DistillationTask:
    """The task that a recipe describes: student, head, teacher and losses as one module, images and labels to a loss.

    Args:
        recipe: see `load_recipe`.
        identities: the training faces, or how many people they show, where they come from a DataLoader of your own;
            or a map-style Dataset of (image, label) that states its labels.

    Raises:
        UsageError: what the recipe names does not fit together, or a Dataset does not say how many people it shows.
    """
    return build_task_of_source(recipe, identities if isinstance(identities, Source) else count_identities(identities))


def train(
    recipe: Recipe,
    task: TrainingTask,
    loader: Loader,
    *,
    out: str | Path,
    resume: bool = False,
    reporter: Reporter | None = None,
    name: str = "a DataLoader",
    trackers: Sequence[str | Callback] = DEFAULT,
) -> LoopResult:
    """Trains a task on batches of your own, with facekd's loop: schedule, clipping, checkpoints, exact resume.

    Args:
        recipe: its optimisation and training sections are used.
        task: see `build_task`, or any `TrainingTask`; carries the trained weights afterwards.
        loader: a DataLoader of (images uint8 RGB [b, 3, h, w], labels int64 [b]).
        out: folder for checkpoints and log.jsonl.
        resume: go on from the newest checkpoint there.
        reporter: where progress goes; default stderr.
        name: of the data: a run goes on with data of the same name only.
        trackers: where the figures go besides log.jsonl: tensorboard, trackio, wandb, a name of your own, or a function
            of a step and its figures.

    Raises:
        FacekdError: the loss diverged, the disk is full, or the loader yields something else.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    data = LoaderBatches(loader, recipe.training, name=name)
    return Trainer(recipe, task, data, out=out, reporter=reporter, trackers=trackers).run(resume=resume)


def export_bundle(
    bundle: Bundle | str | Path,
    out: str | Path,
    *,
    target: str = "onnx",
    precision: str = "fp32",
    calibration: str | Path | None = None,
    pairs: VerificationSet | None = None,
    overwrite: bool = False,
) -> Manifest:
    """Exports a student and verifies the file against it; nothing is left where it is not the same network.

    Args:
        bundle: the student.
        out: the artefact's folder.
        target: onnx, coreml, tflite, executorch, android.
        precision: fp32, fp16, w8, int8, palette, as the target offers them.
        calibration: faces for int8: what `open_source` takes.
        pairs: measure accuracy before and after, and refuse a drop of more than 0.3 points.
        overwrite: replace an artefact that is there.

    Raises:
        UsageError: target or option not valid, `out` taken, or a package missing.
        FacekdError: the conversion failed, or the artefact is not the bundle.
    """
    loaded = bundle if isinstance(bundle, Bundle) else load_bundle(bundle)
    maker = get_target(target)
    size = loaded.card.input.size
    options = ExportOptions(
        precision=precision,  # type: ignore[arg-type]  # checked by the target, which names the valid ones
        batch=maker.default_batch,
        layout=maker.layouts[0],
        preprocess=maker.default_preprocess,
    )
    if calibration is not None:
        faces = faces_from_source(calibration, 128, size)
        options = replace(options, calibration=faces.images, calibration_source=faces.source)
    reference = Reference(loaded, synthetic_faces(32, size), pairs)
    return export_artefact(reference, target, options, Path(out), gate=Gate(), overwrite=overwrite)
