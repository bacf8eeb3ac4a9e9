"""Imports point down, never in a circle, and never at another module's private names; on the installed layout."""

import ast
import configparser
import os
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

Modules = dict[str, ast.Module]


@pytest.fixture(scope="module")
def modules(installed_layout: Path) -> Modules:
    """Every module of facekd by its real name, parsed."""
    found = {}
    for path in sorted((installed_layout / "facekd").rglob("*.py")):
        parts = path.relative_to(installed_layout).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = ast.parse(path.read_text(encoding="utf-8"), filename=name)
    return found


def imports(name: str, modules: Modules) -> Iterator[tuple[str, str | None]]:
    """(module of facekd, name taken from it or None) of each import in it: in functions and for type checkers, too."""
    for node in ast.walk(modules[name]):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: facekd writes whole names, not relative imports"
            for alias in node.names:
                if f"{node.module}.{alias.name}" in modules:
                    yield f"{node.module}.{alias.name}", None
                elif node.module in modules:
                    yield node.module, alias.name


def test_import_linter(installed_layout: Path) -> None:
    """The contracts of .importlinter: the floors, no circle of packages, nothing that imports a study."""
    words = "from importlinter.cli import lint_imports; import sys; sys.exit(lint_imports(no_cache=True))"
    environment = {**os.environ, "PYTHONPATH": str(installed_layout)}
    ended = subprocess.run(
        [sys.executable, "-c", words],
        cwd=installed_layout,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "0 broken" in ended.stdout


def test_contracts_carry_no_exception(installed_layout: Path) -> None:
    contracts = configparser.ConfigParser()
    contracts.read(installed_layout / ".importlinter", encoding="utf-8")
    names = {name for section in contracts.sections() for name in contracts[section]}
    assert names.isdisjoint({"ignore_imports", "skip_descendants"})
    assert contracts["importlinter"]["exclude_type_checking_imports"] == "False"


def test_the_graph_of_modules_has_no_circle(modules: Modules) -> None:
    """Finer than import-linter's circles of neighbours: a package's __init__ and its own modules count as well."""
    graph = {name: {target for target, _ in imports(name, modules)} - {name} for name in modules}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(reversed(error.args[1])))


def test_the_graph_sees_what_is_imported(modules: Modules) -> None:
    assert ("facekd.common.errors", "FacekdError") in set(imports("facekd.cli", modules))
    assert {name.split(".")[1] for name in modules if "." in name} >= {"cli", "common", "export", "benchmarks"}
    assert len(modules) > 200


def test_no_private_name_crosses_a_module(modules: Modules) -> None:
    """Neither imported nor reached through the module's own name."""
    wrong = []
    for name, tree in modules.items():
        taken = list(imports(name, modules))
        wrong += [f"{name}: {target}.{inner}" for target, inner in taken if inner and _is_private(inner)]
        aliases = {target.split(".")[-1] for target, inner in taken if inner is None}
        for node in ast.walk(tree):
            match node:
                case ast.Attribute(value=ast.Name(id=owner), attr=attribute) if owner in aliases:
                    if _is_private(attribute):
                        wrong.append(f"{name}: {owner}.{attribute}")
    assert wrong == []


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")
