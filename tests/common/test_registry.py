"""Things found by name: what a package ships, what entry points add, and trusted code."""

import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from facekd.common.errors import UsageError
from facekd.common.registry import Registry

Things = Registry[type]


@pytest.fixture
def things(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Things]:
    """A registry over a package of two modules, `plain` and `several`, which register three things."""
    package = tmp_path / "shop_of_things"
    package.mkdir()
    (package / "__init__.py").write_text(
        "from facekd.common.registry import Registry\n"
        "THINGS = Registry('thing', package='shop_of_things', group='facekd.tests.things')\n"
    )
    register = "from shop_of_things import THINGS\n"
    (package / "plain.py").write_text(register + "@THINGS.decorator('plain')\nclass Plain: ...\n")
    (package / "several.py").write_text(
        register + "@THINGS.decorator('red-one')\nclass Red: ...\n@THINGS.decorator('blue-one')\nclass Blue: ...\n"
    )
    (package / "_helpers.py").write_text("raise AssertionError('no module of things')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import importlib

    yield importlib.import_module("shop_of_things").THINGS
    for name in [name for name in sys.modules if name.split(".")[0] == "shop_of_things"]:
        del sys.modules[name]


def test_a_name_imports_no_more_than_it_must(things: Things) -> None:
    assert things.find("plain").__name__ == "Plain"
    assert "shop_of_things.several" not in sys.modules
    assert things.find("blue-one").__name__ == "Blue"
    assert things.names() == ["blue-one", "plain", "red-one"]


def test_an_unknown_name_is_told_with_the_valid_ones(things: Things) -> None:
    with pytest.raises(UsageError, match=r"unknown thing 'plane' \(did you mean 'plain'\?\); valid: blue-one, plain"):
        things.find("plane")


def test_two_things_of_one_name_are_a_mistake_of_the_program(things: Things) -> None:
    plain = things.find("plain")
    things.register("plain", plain)  # the same again changes nothing
    with pytest.raises(ValueError, match="'plain' is registered twice"):
        things.register("plain", str)


def test_another_package_adds_by_entry_point(things: Things, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def added(*, group: str) -> list[EntryPoint]:
        asked.append(group)
        points = [("theirs", "collections:OrderedDict"), ("plain", "collections:Counter")]
        return [EntryPoint(name, value, group) for name, value in points]

    monkeypatch.setattr("facekd.common.registry.entry_points", added)
    assert things.names() == ["blue-one", "plain", "red-one", "theirs"]
    assert things.find("theirs").__name__ == "OrderedDict"
    assert things.find("plain").__name__ == "Plain"  # what is shipped is never replaced
    assert asked == ["facekd.tests.things"]


def test_code_by_its_own_name_must_be_trusted(things: Things, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FACEKD_TRUSTED_MODULES", raising=False)
    with pytest.raises(UsageError, match="the thing wants to run 'collections:Counter'"):
        things.find("collections:Counter")
    monkeypatch.setenv("FACEKD_TRUSTED_MODULES", "collections")
    assert things.find("collections:Counter").__name__ == "Counter"
