"""setup.cfg names a distribution for every module that facekd or its tests import."""

import ast
import configparser
import sys
from collections.abc import Iterable, Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(not (ROOT / "setup.cfg").is_file(), reason="not run from a checkout")


def imported_modules(folders: Iterable[str]) -> dict[str, str]:
    """Top-level module outside facekd and the standard library -> a file that imports it.

    What the folders hold themselves (helpers beside a test) is left out.
    """
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    own = (
        {path.stem for path in files}
        | {path.parent.name for path in files}
        | {"facekd", "export", "benchmarks", "tests"}
    )
    own |= {path.stem for path in (ROOT / "android_demo").iterdir()}
    found = {}
    for path in files:
        for name in module_names(ast.parse(path.read_text(encoding="utf-8"))):
            top = name.split(".")[0]
            if top not in sys.stdlib_module_names and top not in own:
                found[top] = str(path.relative_to(ROOT))
    return found


def module_names(tree: ast.AST) -> Iterator[str]:
    """Modules of import statements and of importorskip."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=str(module), level=0):
                yield module
            case ast.Call(func=ast.Attribute(attr="importorskip"), args=[ast.Constant(str(name)), *_]):
                yield name


def required(*extras: str) -> set[str]:
    """Distributions that `pip install facekd[extras]` asks for itself, by their normalised names."""
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg", encoding="utf-8")
    lines = settings["options"]["install_requires"].splitlines()
    wanted, seen = list(extras), set[str]()
    while wanted:
        extra = wanted.pop()
        if extra not in seen:
            seen.add(extra)
            more = settings["options.extras_require"][extra].splitlines()
            lines += more
            ours = (Requirement(line) for line in filter(str.strip, more))
            wanted += [inner for one in ours if one.name == "facekd" for inner in one.extras]
    return {canonicalize_name(Requirement(line).name) for line in lines if line.strip()}


@pytest.mark.parametrize(
    ("folders", "extras"),
    [(("facekd", "export", "benchmarks"), ("all",)), (("tests",), ("test",))],
    ids=["facekd", "tests"],
)
def test_every_import_has_a_requirement(folders: tuple[str, ...], extras: tuple[str, ...]) -> None:
    names, there = packages_distributions(), required(*extras)
    missing = {
        module: file
        for module, file in imported_modules(folders).items()
        if not {canonicalize_name(name) for name in names.get(module, [module])} & there
    }
    assert missing == {}
