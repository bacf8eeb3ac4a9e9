"""facekd: distil a Transformer face-recognition teacher into a CNN student and ship it on a phone.

    import facekd

    model = facekd.open_model("student.onnx")          # a bundle, an exported artefact or any model file
    cosine = facekd.compare_faces(model, "a.png", "b.png")

The names below are the public API (docs/api.md). Importing facekd is quick: each is imported when it is used.
"""

# ruff: noqa: F403, F405  (type checkers take the names from facekd.api; here each is imported when it is used)
import importlib
import os
from typing import TYPE_CHECKING, Any

from facekd.common.versions import __version__ as __version__

# ONNX Runtime 1.29 and later report usage unless this is set before the library loads; all that loads it is below here.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

if TYPE_CHECKING:
    from facekd.api import *

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
    "__version__",
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


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'facekd' has no attribute {name!r}")
    return getattr(importlib.import_module("facekd.api"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
