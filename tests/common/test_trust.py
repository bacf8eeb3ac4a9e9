"""Code that a file names runs only where its module is trusted: at every door, before it is imported."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from facekd.common.errors import FacekdError, UsageError
from facekd.common.trust import TRUSTED_MODULES, NamesCode, check_trusted, import_code
from facekd.models.registry import create_model
from facekd.recipe import Recipe, load_recipe
from facekd.schemas.card import Card
from facekd.training.run import run_recipe

MODULE = "module_of_a_stranger"
CODE = f"{MODULE}:run"


@pytest.fixture(autouse=True)
def stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module that leaves a file when it is imported; nothing is trusted."""
    monkeypatch.delenv(TRUSTED_MODULES, raising=False)
    mark = tmp_path / "imported"
    (tmp_path / f"{MODULE}.py").write_text(f"open({str(mark)!r}, 'w').close()\ndef run(**arguments): return 0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, MODULE, raising=False)
    return mark


@pytest.mark.parametrize("trusted", ["", "other", f"{MODULE}s", f"{MODULE}.sub", ","])
def test_what_is_not_listed_is_refused_before_it_is_imported(
    stranger: Path, monkeypatch: pytest.MonkeyPatch, trusted: str
) -> None:
    monkeypatch.setenv(TRUSTED_MODULES, trusted)
    with pytest.raises(UsageError, match=f"^recipe r.yaml wants to run '{CODE}'.*{TRUSTED_MODULES}={MODULE}$"):
        import_code(CODE, wanted_by="recipe r.yaml")
    assert not stranger.exists()


@pytest.mark.parametrize("trusted", [MODULE, f"other, {MODULE}"])
def test_what_is_listed_is_imported(stranger: Path, monkeypatch: pytest.MonkeyPatch, trusted: str) -> None:
    monkeypatch.setenv(TRUSTED_MODULES, trusted)
    assert import_code(CODE, wanted_by="test")() == 0
    assert stranger.exists()
    with pytest.raises(UsageError, match="has no 'other'"):
        import_code(f"{MODULE}:other", wanted_by="test")


def test_a_package_is_trusted_with_what_is_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TRUSTED_MODULES, "mine")
    check_trusted("mine.models.cnn:build", wanted_by="test")
    with pytest.raises(UsageError):
        check_trusted("mine_too:build", wanted_by="test")


def recipe_with(**changes: Any) -> dict[str, Any]:
    return {"name": "r", "data": {"source": "synthetic:identities=4,images=2"}, "training": {"max_steps": 1}} | changes


@pytest.mark.parametrize("verb", ["train", "plan"])
def test_a_recipe_from_the_internet_runs_nothing(tmp_path: Path, verb: str) -> None:
    """Seen: `os:system` with a command was executed by train and by plan."""
    pwned = tmp_path / "pwned"
    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        f"name: x\nmodel: {{name: 'os:system', arguments: {{command: 'touch {pwned}'}}}}\n"
        "data: {source: 'synthetic:identities=4,images=2'}\n"
    )
    words = {"train": ["--out", str(tmp_path / "out")], "plan": ["--gpus", "2", "--identities", "9", "--images", "99"]}[
        verb
    ]
    result = subprocess.run(
        [sys.executable, "-m", "facekd", verb, str(recipe), *words], capture_output=True, text=True, check=False
    )
    assert result.returncode == 2
    assert result.stderr.startswith(f"facekd: recipe {recipe} wants to run 'os:system'")
    assert result.stderr.endswith(f"{TRUSTED_MODULES}=os\n")
    assert not pwned.exists()


def test_a_recipe_made_in_python_meets_the_same_door(stranger: Path, tmp_path: Path) -> None:
    recipe = Recipe.model_validate(recipe_with(model={"name": CODE}))
    with pytest.raises(UsageError, match=f"the model wants to run '{CODE}'"):
        run_recipe(recipe, out=tmp_path / "out")
    with pytest.raises(UsageError, match="wants to run"):
        create_model(CODE)
    assert not stranger.exists()


def text_fields(schema: type[BaseModel], place: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The place of every field of a schema that a text can stand in."""
    for name, field in schema.model_fields.items():
        kinds = [field.annotation, *get_args(field.annotation)]
        kinds += [inner for kind in kinds for inner in get_args(kind)]
        for kind in kinds:
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from text_fields(kind, (*place, name))
        if any(kind is str or kind is Any for kind in kinds) or any(isinstance(e, NamesCode) for e in field.metadata):
            yield (*place, name)


def nested(place: tuple[str, ...], value: Any) -> dict[str, Any]:
    return {place[0]: value if len(place) == 1 else nested(place[1:], value)}


def merged(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    both = dict(one)
    for key, value in other.items():
        inner = both.get(key)
        both[key] = merged(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return both


@pytest.mark.parametrize("place", sorted(set(text_fields(Recipe))), ids=".".join)
@pytest.mark.parametrize("shape", [CODE, [CODE], [{CODE: {}}], {CODE: {}}, {"name": CODE}], ids=str)
def test_no_field_of_a_recipe_leads_to_code(stranger: Path, tmp_path: Path, place: tuple[str, ...], shape: Any) -> None:
    """Whatever a field is for, now or later: the name of code in it imports nothing."""
    import yaml

    content = merged(recipe_with(), nested(place, shape))
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(content))
    try:
        recipe = load_recipe(tmp_path / "r.yaml")
        recipe.training.max_steps, recipe.data.workers = 1, 0
        if place[0] in ("data", "model", "head", "teacher", "distillation", "evaluation"):
            run_recipe(recipe, out=tmp_path / "out")
    except FacekdError:
        pass
    assert not stranger.exists()


def test_the_fields_that_name_code_are_marked() -> None:
    """So that a recipe or card is refused as a whole, with its name, before anything of it is built."""
    for schema, place in ((Recipe, ("model", "name")), (Card, ("architecture", "name"))):
        section: type[BaseModel] = schema
        for name in place[:-1]:
            section = section.model_fields[name].annotation  # type: ignore[assignment]
        assert any(isinstance(entry, NamesCode) for entry in section.model_fields[place[-1]].metadata)
