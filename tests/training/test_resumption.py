"""Which recipes may go on from a checkpoint."""

from typing import Any

import pytest

from facekd.common.errors import UsageError
from facekd.data.sources.synthetic import SyntheticSource
from facekd.recipe import Recipe
from facekd.training import resumption

SOURCE = SyntheticSource(identities=3, images=2)


def recipe(**embedding: Any) -> Recipe:
    content = {"name": "x", "data": {"source": "-"}, "teacher": {"bundle": "-"}}
    return Recipe.model_validate(content | {"distillation": [{"embedding": embedding}]})


def resume(before: Recipe | dict[str, Any], now: Recipe) -> None:
    """What a run of `now` does with a checkpoint of `before`; a mapping is a recipe as an older version kept it."""
    state = resumption.identity(recipe(), SOURCE)
    kept = before if isinstance(before, dict) else before.model_dump(mode="json")
    resumption.check({**state, "recipe": kept, "recipe_hash": "of another"}, now, SOURCE, warn=pytest.fail)


def test_a_default_that_is_stated_is_the_same_recipe() -> None:
    default = 10.0
    for before, now in ((recipe(), recipe(weight=default)), (recipe(weight=default), recipe())):
        resume(before, now)
    with pytest.raises(UsageError, match=r"distillation\.0\.embedding\.weight was 10\.0, is now 2\.0\. Give the same"):
        resume(recipe(), recipe(weight=2.0))
    with pytest.raises(UsageError, match=r"embedding\.weight was 2\.0, is now 10\.0"):
        resume(recipe(weight=2.0), recipe())


def test_a_field_that_came_later_has_its_default_and_one_that_is_gone_is_named() -> None:
    older = recipe().model_dump(mode="json")
    del older["optimisation"]["clip_norm"]
    resume(older, recipe())
    with pytest.raises(UsageError, match=r"optimisation\.bygone was 3, is now None"):
        resume(older | {"optimisation": older["optimisation"] | {"bygone": 3}}, recipe())
    with pytest.raises(UsageError, match=r"embedding\.bygone was 3, is now None"):
        resume(older | {"distillation": [{"embedding": {"weight": 10.0, "bygone": 3}}]}, recipe(weight=10.0))
