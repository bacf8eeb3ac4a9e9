"""Every name that a text of facekd suggests exists: verbs, options, shipped recipes, fields of a recipe.

The texts are all string literals of the source: messages, help and docstrings alike.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel

from facekd.common.errors import UsageError
from facekd.recipe import Recipe, shipped_recipes
from facekd.recipe.methods import find_method
from facekd.sweep.grid import Grid, shipped_grids

ROOT = Path(__file__).resolve().parents[1]

VALUE = "\N{HORIZONTAL ELLIPSIS}"
"""Stands for what an f-string fills in."""

OF_OTHER_PROGRAMS = {
    *("--nproc-per-node", "--max-restarts"),  # torchrun
    *("--ei", "--es"),  # am start
    *("--short", "--porcelain"),  # git
    *("--pack-destination",),  # npm
}


def literals(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, text) of every string literal; of an f-string as one text."""
    inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = [part.value if isinstance(part, ast.Constant) else VALUE for part in node.values]
            yield node.lineno, "".join(map(str, parts))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside:
            yield node.lineno, node.value


@pytest.fixture(scope="module")
def texts() -> list[tuple[str, str]]:
    """(place, text) of every string literal of facekd, export and benchmarks."""
    files = [path for folder in ("facekd", "export", "benchmarks") for path in sorted((ROOT / folder).rglob("*.py"))]
    return [
        (f"{path.relative_to(ROOT)}:{line}", text)
        for path in files
        for line, text in literals(ast.parse(path.read_text(encoding="utf-8")))
    ]


def test_commands_in_texts_are_verbs_with_options_of_theirs(
    texts: list[tuple[str, str]], commands: dict[tuple[str, ...], set[str]]
) -> None:
    """All that stands in backticks and begins with facekd."""
    wrong, seen = [], 0
    for place, text in texts:
        for command in re.findall(r"`facekd\s([^`]+)`", text):
            seen += 1
            words = command.split()
            verb: tuple[str, ...] = ()
            while len(verb) < len(words) and (*verb, words[len(verb)]) in commands:
                verb = (*verb, words[len(verb)])
            options = {word.partition("=")[0] for word in words if word.startswith("--")}
            known = commands[verb] | commands[()]
            if not (verb or words[0] in (*known, "VERB", VALUE)) or not options <= known:
                wrong.append(f"{place}: facekd {command}")
    assert not wrong
    assert seen > 20


def test_options_in_texts_exist(texts: list[tuple[str, str]], commands: dict[tuple[str, ...], set[str]]) -> None:
    """An option of some verb, of a study, or of a named other program."""
    valid = set.union(*commands.values()) | OF_OTHER_PROGRAMS
    for path in sorted((ROOT / "benchmarks").rglob("*.py")):
        valid |= set(re.findall(r"add_argument\(\s*\"(--[\w-]+)\"", path.read_text(encoding="utf-8")))
    wrong = [
        f"{place}: {option}"
        for place, text in texts
        for option in re.findall(r"(?<![\w-])--[a-z][a-z-]+(?!\w)", text)
        if option not in valid
    ]
    assert not wrong


def test_recipes_in_texts_are_shipped(texts: list[tuple[str, str]]) -> None:
    shipped = {*shipped_recipes(), *shipped_grids()}
    families = "|".join(sorted({name.partition("-")[0] for name in shipped}))
    wrong, seen = [], 0
    for place, text in texts:
        for name in re.findall(rf"(?<![\w./-])(?:{families})-[a-z]+(?:-[a-z]+)*(?![\w/])", text):
            seen += 1
            if name not in shipped:
                wrong.append(f"{place}: {name}")
    assert not wrong
    assert seen > 1


def has_field(schema: type[BaseModel], place: list[str]) -> bool:
    """Whether a schema has a field at a dotted place; below a free mapping everything is one."""
    if not place:
        return True
    field = schema.model_fields.get(place[0])
    if field is None:
        return False
    kinds = [field.annotation, *get_args(field.annotation)]
    inner = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
    if inner:
        return has_field(inner[0], place[1:])
    return len(place) == 1 or place[0] == "arguments"


def is_field(dotted: str) -> bool:
    section, *rest = dotted.split(".")
    if section != "distillation":
        return any(has_field(schema, [section, *rest]) for schema in (Recipe, Grid))
    try:
        return not rest or has_field(find_method(rest[0]).Settings, rest[1:])
    except UsageError:
        return False


def test_fields_in_texts_are_of_the_recipe(texts: list[tuple[str, str]]) -> None:
    """What `--set` is told, and what is named with its section: `training.batch_size = 8`, `data.workers`."""
    sections = "|".join(name for name, field in Recipe.model_fields.items() if field.annotation is not str)
    wrong, seen = [], 0
    for place, text in texts:
        told = re.findall(r"--set '?([a-z_]+(?:\.[a-z_]+)+)=", text)
        told += re.findall(rf"(?<![\w./-])((?:{sections})(?:\.[a-z_]+)+)(?= ?=[^=])", text)
        for dotted in told:
            seen += 1
            if not is_field(dotted) and dotted not in ("a.b", "field.subfield"):
                wrong.append(f"{place}: {dotted}")
    assert not wrong
    assert seen > 15


@pytest.mark.parametrize(
    ("dotted", "there"),
    [
        ("training.epochs", True),
        ("training.epoks", False),
        ("data.augmentation.jpeg.lowest", True),
        ("distillation.urfm.heads", True),
        ("distillation.urfm.head", False),
        ("distillation.urfn", False),
        ("model.arguments.anything", True),
    ],
)
def test_a_field_is_found_or_missed(dotted: str, there: bool) -> None:
    assert is_field(dotted) == there
