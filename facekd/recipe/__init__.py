"""The recipe: what to train on what, and how. Recipe + seed + data = the run.

Read from YAML (`load_recipe`), overridden by `a.b=c` strings (`--set`). A mistake is one line that names the field,
the value given and what is valid.
"""

from facekd.recipe.augmentation import AugmentationConfig
from facekd.recipe.loading import load_recipe, read_yaml, shipped_recipes
from facekd.recipe.schema import (
    DataConfig,
    EvaluationConfig,
    HeadConfig,
    ModelConfig,
    OptimisationConfig,
    Recipe,
    Section,
    TeacherConfig,
    TrainingConfig,
)

__all__ = [
    "AugmentationConfig",
    "DataConfig",
    "EvaluationConfig",
    "HeadConfig",
    "ModelConfig",
    "OptimisationConfig",
    "Recipe",
    "Section",
    "TeacherConfig",
    "TrainingConfig",
    "load_recipe",
    "read_yaml",
    "shipped_recipes",
]
