"""Fixtures that every test may use, and the reasons for which a test may be skipped in CI."""

import importlib
import os
import re
import shutil
import signal
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest

ROOT = Path(__file__).resolve().parents[1]

os.environ["FACEKD_TRUSTED_MODULES"] = "tiny_models"  # the tests' own student, which recipes name; children inherit it

IN_ONE_OF_SEVERAL = "PYTEST_XDIST_WORKER" in os.environ
if IN_ONE_OF_SEVERAL:  # one process a core, so one thread a process; read when torch is loaded, and by children
    os.environ.setdefault("OMP_NUM_THREADS", "1")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # As nohup and a script's & leave it, and as every child would inherit it: Ctrl-C is tested on children.
    signal.signal(signal.SIGINT, signal.default_int_handler)

TOGETHER = ("android", "demo")
"""Folders whose tests run in one process, one after another: they share android_demo/build, and a camera."""

Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)

ALLOWED_SKIPS = re.compile(r"\b(phone|Mac|macOS|GPU|CUDA)\b|no shared data at|no photographs of .* in ")
"""What `.ci/run` cannot install. Under CI a test that is skipped for another reason fails."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """`pytest -n 2`: a file's tests run in one process, where they share fixtures, and so do a folder's of TOGETHER."""
    scheduler = importlib.import_module("xdist.scheduler")  # there where somebody asks for a scheduler
    config.option.loadscopereorder = False

    class ByFile(scheduler.LoadScopeScheduling):  # type: ignore[misc, name-defined]
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return next((folder for folder in TOGETHER if f"tests/{folder}/" in file), file)

    return ByFile(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With `-n` files with slow tests come first: those that are left at the end are short, and no core waits long."""
    if IN_ONE_OF_SEVERAL:
        slow = {
            item.path for item in items if item.get_closest_marker("slow") and not item.get_closest_marker("faults")
        }
        items.sort(key=lambda item: item.path not in slow)


def _fail_a_skip_in_ci(report: Report) -> Report:
    if os.environ.get("CI") and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if not ALLOWED_SKIPS.search(reason):
            report.outcome = "failed"
            report.longrepr = (
                f"skipped in CI, where a phone, a Mac, a GPU or the shared data alone may be absent: {reason}"
            )
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A skipped test."""
    return _fail_a_skip_in_ci((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """A skipped file."""
    return _fail_a_skip_in_ci((yield))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real faces and weights (FACEKD_SHARED, default ../shared beside the project)."""
    folder = Path(os.environ.get("FACEKD_SHARED", ROOT.parent / "shared"))
    if not (folder / "data").is_dir():
        pytest.skip(f"no shared data at {folder}: set FACEKD_SHARED to run the tests on real faces")
    return folder


@pytest.fixture(scope="session")
def installed_layout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package as installed, only to be read: export/ is facekd/export, benchmarks/ facekd/benchmarks.

    What reads the tree instead of importing it (a type checker, import-linter) sees the real names only so.
    """
    place = tmp_path_factory.mktemp("layout")
    for source, target in (("facekd", "facekd"), ("export", "facekd/export"), ("benchmarks", "facekd/benchmarks")):
        shutil.copytree(ROOT / source, place / target, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", ".importlinter"):
        shutil.copy(ROOT / name, place)
    return place


@pytest.fixture(scope="session")
def commands() -> dict[tuple[str, ...], set[str]]:
    """The options of every verb, by its words."""
    import typer.main

    from facekd import cli

    if not cli.app.registered_groups and not cli.app.registered_commands:
        cli._register()
    found: dict[tuple[str, ...], set[str]] = {}

    def walk(command: Any, words: tuple[str, ...]) -> None:
        found[words] = {name for one in command.params for name in [*one.opts, *one.secondary_opts]} | {"--help"}
        for name, inner in getattr(command, "commands", {}).items():
            walk(inner, (*words, name))

    walk(typer.main.get_command(cli.app), ())
    found["benchmark",] |= found["benchmark", "run"]  # which it is by itself
    found["export",] |= found["export", "convert"]
    return found


@pytest.fixture
def ordinary_user() -> Callable[[], AbstractContextManager[Path]]:
    """A context with a folder of its own, in which this process is not root: permissions mean nothing to root.

    What is imported there has to be readable to everybody: run the code once before, as root.
    """

    @contextmanager
    def demoted() -> Iterator[Path]:
        with tempfile.TemporaryDirectory() as folder:
            user = os.geteuid()
            if user == 0:
                os.chown(folder, 65534, 65534)
                os.seteuid(65534)
            try:
                yield Path(folder)
            finally:
                os.seteuid(user)

    return demoted


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Each test starts from the same torch seed, whatever ran before it."""
    import torch

    torch.manual_seed(0)
