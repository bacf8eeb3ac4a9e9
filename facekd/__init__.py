"""facekd: distil a Transformer face-recognition teacher into a CNN student and ship it on a phone.

    import facekd

    model = facekd.open_model("student.onnx")          # a bundle, an exported artefact or any model file
    cosine = facekd.compare_faces(model, "a.png", "b.png")

The names below are the public API (docs/api.md). Importing facekd is quick: each is imported when it is used.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

from facekd.common.versions import __version__ as __version__

# ONNX Runtime 1.29 and later report usage unless this is set before the library loads; all that loads it is below here.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

if TYPE_CHECKING:
    from facekd.api import Bundle as Bundle
    from facekd.api import CheckReport as CheckReport
    from facekd.api import Decision as Decision
    from facekd.api import DistillationBatch as DistillationBatch
    from facekd.api import DistillationLoss as DistillationLoss
    from facekd.api import DistillationTask as DistillationTask
    from facekd.api import Embedder as Embedder
    from facekd.api import FacekdError as FacekdError
    from facekd.api import InputSpec as InputSpec
    from facekd.api import LoopResult as LoopResult
    from facekd.api import LossSettings as LossSettings
    from facekd.api import Manifest as Manifest
    from facekd.api import Recipe as Recipe
    from facekd.api import Reporter as Reporter
    from facekd.api import Shapes as Shapes
    from facekd.api import Source as Source
    from facekd.api import Teacher as Teacher
    from facekd.api import TeacherOutput as TeacherOutput
    from facekd.api import TeacherSettings as TeacherSettings
    from facekd.api import TrainingTask as TrainingTask
    from facekd.api import UsageError as UsageError
    from facekd.api import VerificationResult as VerificationResult
    from facekd.api import VerificationSet as VerificationSet
    from facekd.api import YuNet as YuNet
    from facekd.api import build_task as build_task
    from facekd.api import check_artefact as check_artefact
    from facekd.api import compare_faces as compare_faces
    from facekd.api import create_model as create_model
    from facekd.api import describe as describe
    from facekd.api import embed_images as embed_images
    from facekd.api import evaluate_pairs as evaluate_pairs
    from facekd.api import export_bundle as export_bundle
    from facekd.api import load_bundle as load_bundle
    from facekd.api import load_recipe as load_recipe
    from facekd.api import load_verification_set as load_verification_set
    from facekd.api import open_model as open_model
    from facekd.api import open_source as open_source
    from facekd.api import register_model as register_model
    from facekd.api import run_recipe as run_recipe
    from facekd.api import save_bundle as save_bundle
    from facekd.api import train as train
    from facekd.api import verify_images as verify_images

_PUBLIC = (
    "Bundle",
    "CheckReport",
    "Decision",
    "DistillationBatch",
    "DistillationLoss",
    "DistillationTask",
    "Embedder",
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
    "open_model",
    "open_source",
    "register_model",
    "run_recipe",
    "save_bundle",
    "train",
    "verify_images",
)

__all__ = ["__version__", *_PUBLIC]  # noqa: PLE0604  (a tuple of texts)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'facekd' has no attribute {name!r}")
    return getattr(importlib.import_module("facekd.api"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
