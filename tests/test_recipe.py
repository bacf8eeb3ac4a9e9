"""The recipe: every shipped one parses, overrides reach every field, mistakes are one line that helps."""

from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from facekd.common.errors import UsageError
from facekd.recipe import Recipe, load_recipe, shipped_recipes

MINIMAL = {"name": "x", "data": {"source": "synthetic:identities=4"}}


def write(path: Path, content: object) -> Path:
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


@pytest.mark.parametrize("name", sorted(shipped_recipes()))
def test_every_shipped_recipe_parses_and_is_commented(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    assert shipped_recipes()[name].read_text(encoding="utf-8").startswith("# ")


def test_the_three_celeba_recipes_differ_only_in_the_method() -> None:
    """Same budget, same seed, same data, same network: what the comparison rests on."""
    names = ("celeba-undistilled", "celeba-embedding", "celeba-urfm-apt")
    recipes = [load_recipe(name) for name in names]
    for section in ("seed", "data", "model", "optimisation", "training", "evaluation"):
        assert len({str(getattr(recipe, section)) for recipe in recipes}) == 1
    assert [[next(iter(term)) for term in recipe.distillation] for recipe in recipes] == [
        [],
        ["embedding"],
        ["embedding", "urfm", "apt"],
    ]


def test_overrides_reach_fields_methods_and_new_methods(tmp_path: Path) -> None:
    path = write(tmp_path / "r.yaml", {**MINIMAL, "distillation": [{"urfm": {"heads": 4}}, "embedding"]})
    recipe = load_recipe(
        path,
        [
            "training.epochs=2.5",
            "distillation.urfm.local_centres=16",
            "distillation.embedding.weight=3",
            "distillation.apt={}",
        ],
    )
    assert recipe.training.epochs == 2.5
    assert recipe.distillation == [
        {"urfm": {"heads": 4, "local_centres": 16}},
        {"embedding": {"weight": 3}},
        {"apt": {}},
    ]


def test_hash_is_of_the_content(tmp_path: Path) -> None:
    one = Recipe.model_validate(MINIMAL)
    same = load_recipe(write(tmp_path / "r.yaml", dict(reversed(MINIMAL.items()))))
    assert one.hash() == same.hash()
    assert one.hash() != one.model_copy(update={"seed": 1}).hash()


@pytest.mark.parametrize(
    ("content", "overrides", "message"),
    [
        ({**MINIMAL, "trainin": {}}, [], "unknown field 'trainin', did you mean 'training'?"),
        ({**MINIMAL, "training": {"epoch": 3}}, [], "did you mean 'epochs'?"),
        ({**MINIMAL, "training": {"epochs": -1}}, [], "training.epochs = -1"),
        ({**MINIMAL, "training": {"precision": "fp8"}}, [], "'auto', 'fp32', 'bf16' or 'fp16'"),
        ({"name": "x"}, [], "field 'data' is missing"),
        ({**MINIMAL, "distillation": [{"urfn": {}}]}, [], "did you mean 'urfm'?"),
        (
            {**MINIMAL, "distillation": [{"urfm": {"head": 3}}]},
            [],
            "urfm has no setting 'head'; valid: adaptation_weight",
        ),
        ({**MINIMAL, "distillation": [{"urfm": {"width": 10, "heads": 4}}]}, [], "not divisible"),
        ({**MINIMAL, "distillation": ["apt", "apt"]}, [], "at most once"),
        ({**MINIMAL, "head": {"weight": 0}}, [], "nothing to learn from"),
        ({**MINIMAL, "head": {"weight": 0}, "distillation": [{"apt": {}}]}, [], "only apt, which teaches the teacher"),
        (MINIMAL, ["training.epochs"], "expected field.subfield=value"),
        (MINIMAL, ["name.more.x=3"], "is a value"),
        ([1, 2], [], "holds list"),
    ],
)
def test_mistakes_are_one_line(tmp_path: Path, content: object, overrides: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_recipe(write(tmp_path / "r.yaml", content), overrides)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_no_such_recipe_names_the_shipped_ones() -> None:
    with pytest.raises(UsageError, match="celeba-urfm-apt"):
        load_recipe("celebra")


@pytest.mark.parametrize("content", [b"a: [1, 2", b"[" * 2_000, b"a: " + b"9" * 10_000, b"\xff\xfe\x00"])
def test_not_yaml(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "r.yaml"
    path.write_bytes(content)
    with pytest.raises(UsageError, match="is not YAML") as caught:
        load_recipe(path)
    assert "\n" not in str(caught.value)


def test_aliases_that_unfold_to_billions_are_refused_in_a_short_line(tmp_path: Path) -> None:
    """341 bytes of nine levels stand for 10^9 values."""
    bomb = alias_bomb(9)
    for content in (
        bomb + "name: *i",
        bomb + "distillation: *i",
        bomb + "data: {source: *i}",
        bomb.replace("a:", "i:"),
    ):
        (tmp_path / "r.yaml").write_text(content, encoding="utf-8")
        with pytest.raises(UsageError, match="aliases") as caught:
            load_recipe(tmp_path / "r.yaml")
        assert len(str(caught.value)) < 300
    with pytest.raises(UsageError, match="aliases"):
        load_recipe("quickstart-undistilled", ["name={" + bomb.replace("\n", ", ") + "z: *i}"])
    (tmp_path / "r.yaml").write_text("name: &name [*name]", encoding="utf-8")
    with pytest.raises(UsageError, match="inside what it names"):
        load_recipe(tmp_path / "r.yaml")


def test_aliases_of_a_sensible_number_are_read(tmp_path: Path) -> None:
    text = "name: &n x\ndata: {source: 'synthetic:identities=4'}\nmodel: {arguments: {activation: *n}}"
    (tmp_path / "r.yaml").write_text(text, encoding="utf-8")
    assert load_recipe(tmp_path / "r.yaml").model.arguments == {"activation": "x"}


@pytest.mark.parametrize("value", ["[" * 2_000, "2001-99-99", "9" * 10_000, "{[a]: b}", "x" * 10_000_001])
def test_an_override_that_is_not_yaml_is_one_line(value: str) -> None:
    with pytest.raises(UsageError, match="is not YAML") as caught:
        load_recipe("quickstart-undistilled", [f"name={value}"])
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "content",
    [
        {"name": "x" * 10**6, "data": 3},
        {"x" * 10**6: 1},
        {"name": "x", "data": {"source": "s", "x" * 10**6: 1}},
        {"name": "x", "data": {"source": ["x" * 10**6]}},
        {"name": "x", "data": {"source": {"x" * 10**6: [1, 2]}}},
        {**MINIMAL, "distillation": [["x" * 10**6]]},
        {**MINIMAL, "distillation": ["x" * 10**6, "x" * 10**6]},
        {**MINIMAL, "distillation": [{"kd": {"x" * 10**6: 1}}]},
        {**MINIMAL, "head": {"init": "x" * 10**6}},
        {**MINIMAL, "training": {"precision": "x" * 10**6}},
    ],
)
def test_a_value_of_a_million_characters_is_not_repeated(tmp_path: Path, content: object) -> None:
    with pytest.raises(UsageError) as caught:
        load_recipe(write(tmp_path / "r.yaml", content))
    assert len(str(caught.value)) < 1000


def alias_bomb(levels: int) -> str:
    """Lines `b: &b [*a, ...]`, each ten times what the one before stands for."""
    names = "abcdefghijk"[:levels]
    lines = ["a: &a [x,x,x,x,x,x,x,x,x,x]"]
    lines += [f"{name}: &{name} [" + ",".join([f"*{before}"] * 10) + "]" for before, name in pairwise(names)]
    return "\n".join(lines) + "\n"
