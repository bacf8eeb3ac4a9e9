"""Models by name: students, Transformer teachers, and the bundles that hold them."""

from facekd.models.registry import (
    Backbone,
    ModelEntry,
    create_model,
    create_student,
    find_model,
    list_models,
    register_model,
)

__all__ = ["Backbone", "ModelEntry", "create_model", "create_student", "find_model", "list_models", "register_model"]
