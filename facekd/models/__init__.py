"""Models: students, Transformer teachers, their registry, and bundles that carry them.

Importing the package registers every model; timm itself is imported only when a model of its is built.
"""

from facekd.models import iresnet, mobilefacenet, timm_student, transformer
from facekd.models.registry import Backbone, ModelEntry, create_model, create_student, list_models, register_model

__all__ = [
    "Backbone",
    "ModelEntry",
    "create_model",
    "create_student",
    "iresnet",
    "list_models",
    "mobilefacenet",
    "register_model",
    "timm_student",
    "transformer",
]
