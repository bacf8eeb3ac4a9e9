"""Every number of every schema has bounds: none can start, allocate or overflow what the machine does not hold."""

import math
from collections.abc import Iterator
from typing import Any, get_args

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from facekd.common.errors import UsageError
from facekd.data.sources.synthetic import SyntheticSource
from facekd.data.synthetic import SyntheticConfig
from facekd.data.synthetic_pairs import synthetic_pairs
from facekd.models.affordable import create_affordable
from facekd.recipe import Recipe, load_recipe
from facekd.recipe.methods import LOSSES, TEACHERS
from facekd.schemas.card import Card
from facekd.schemas.manifest import Manifest
from facekd.schemas.record import Record
from facekd.sweep.grid import Grid

OVERFLOWING = (10**400, -(10**400), math.inf, -math.inf, math.nan, 1e308)
HARMLESS = {
    "data.max_identities", "data.max_images_per_identity", "data.min_images_per_identity",  # a cut and a filter
    "training.log_every", "training.evaluate_every", "training.checkpoint_every", "training.keep_last",
    "seed", "optimisation.lr", "optimisation.auxiliary_lr", "optimisation.weight_decay", "head.weight",
    "optimisation.auxiliary_weight_decay", "optimisation.clip_norm",
}  # fmt: skip
"""Fields in which 10^18 allocates and starts nothing; a loss that diverges says so."""


def numeric_fields(schema: type[BaseModel], place: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The path of each field that takes a number."""
    for name, field in schema.model_fields.items():
        for kind in kinds(field.annotation):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from numeric_fields(kind, (*place, name))
        if {int, float} & set(kinds(field.annotation)):
            yield (*place, name)


def kinds(annotation: Any) -> list[Any]:
    inner = [kind for part in get_args(annotation) for kind in kinds(part)]
    return inner or [annotation]


def refused(field: FieldInfo, value: Any) -> bool:
    try:
        TypeAdapter(field.rebuild_annotation()).validate_python(value)
    except (ValidationError, UsageError):
        return True
    return False


def recipe_with(path: tuple[str, ...], value: Any) -> dict[str, Any]:
    content: dict[str, Any] = {"name": "x", "data": {"source": "s"}}
    place = content
    for part in path[:-1]:
        place = place.setdefault(part, {})
    place[path[-1]] = value
    return content


RECIPE_FIELDS = sorted(set(numeric_fields(Recipe)))


def test_the_walk_finds_the_fields() -> None:
    names = {".".join(path) for path in RECIPE_FIELDS}
    assert {"seed", "data.workers", "training.threads", "data.augmentation.jpeg.lowest"} <= names
    assert len(names) > 40 and names >= HARMLESS


@pytest.mark.parametrize("path", RECIPE_FIELDS, ids=".".join)
def test_no_number_of_a_recipe_is_unbounded(path: tuple[str, ...]) -> None:
    for value in OVERFLOWING:
        with pytest.raises(ValidationError):
            Recipe.model_validate(recipe_with(path, value))
    if ".".join(path) not in HARMLESS:
        with pytest.raises(ValidationError):
            Recipe.model_validate(recipe_with(path, 10**18))


@pytest.mark.parametrize("section", ["model", "head"])
@pytest.mark.parametrize("value", OVERFLOWING)
def test_numbers_of_free_form_are_bounded(section: str, value: float) -> None:
    content = recipe_with((section, "arguments"), {"a": [{"b": value}]})
    with pytest.raises(ValidationError, match="at most"):
        Recipe.model_validate(content)


@pytest.mark.parametrize(
    "schema",
    [
        Grid,
        SyntheticConfig,
        Card,
        Manifest,
        Record,
        *(LOSSES.find(name).Settings for name in LOSSES.names()),
        *(TEACHERS.find(name).Settings for name in TEACHERS.names()),
    ],
    ids=lambda schema: schema.__qualname__,
)
def test_no_schema_takes_a_number_that_overflows(schema: type[BaseModel]) -> None:
    """The base's check sees every field: each model in it is one of the strict ones, and refuses by itself."""
    for model in models_in(schema):
        for name, field in model.model_fields.items():
            for value in OVERFLOWING:
                if {int, float} & set(kinds(field.annotation)) and not refused(field, value):
                    with pytest.raises(ValueError, match="at most"):
                        model.model_construct(**{name: value})._numbers_are_bounded()  # type: ignore[attr-defined]


def models_in(schema: type[BaseModel]) -> Iterator[type[BaseModel]]:
    yield schema
    for field in schema.model_fields.values():
        for kind in kinds(field.annotation):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from models_in(kind)


@pytest.mark.parametrize("name", ["../x", "a/b", "a\\b", ".", "..", "", ".hidden", "a\nb", "a\x1b[31m", "x" * 201])
def test_a_name_is_no_path(name: str) -> None:
    with pytest.raises(ValidationError, match="is no name"):
        Recipe.model_validate({"name": name, "data": {"source": "s"}})


@pytest.mark.parametrize(
    "setting",
    ["seed=99999999999999999999999", "training.threads=1000000", "data.workers=100000", "optimisation.lr=1.0e+308"],
)
def test_the_line_names_the_field(setting: str) -> None:
    with pytest.raises(UsageError, match=setting.partition("=")[0].rpartition(".")[2]) as caught:
        load_recipe("quickstart-undistilled", [setting])
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "arguments",
    [{"scale": 1e9}, {"scale": 1e4}, {"blocks": [10**9, 1, 1, 1]}, {"embedding_width": 10**9}],
)
def test_a_network_that_no_machine_holds_is_not_begun(arguments: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"model.arguments") as caught:
        create_affordable("mobilefacenet", **arguments)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("fields", [{"images": 10**9}, {"identities": 10**9}, {"seed": 2**63}])
def test_a_synthetic_set_has_bounds(fields: dict[str, int]) -> None:
    with pytest.raises(ValidationError):
        SyntheticConfig(**fields)


def test_synthetic_images_are_bounded_together() -> None:
    for text in ("identities=1000000,images=1000", "images=1000000,identities=101"):
        with pytest.raises(UsageError, match="lower one of them"):
            SyntheticSource.from_text(text)
    for pairs in ("1000000", "1" + "0" * 400, "1" + "0" * 5000):
        with pytest.raises(UsageError, match="pairs must be"):
            synthetic_pairs(f"identities=4,pairs={pairs}")
