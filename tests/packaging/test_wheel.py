"""The wheel, installed where the checkout cannot be seen: every file, every verb, every documented command, one run."""

import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import typer.main

ROOT = Path(__file__).resolve().parents[2]
PLACES = {"facekd": "facekd", "export": "facekd/export", "benchmarks": "facekd/benchmarks"}
RECIPE = """name: tiny
data: {source: "synthetic:identities=4,images=6", workers: 0}
model:
  name: mobilefacenet
  arguments: {scale: 0.125, mid_multiplier: 0.125, blocks: [1, 1, 1, 1], feature_channels: 16, embedding_width: 16}
head: {name: cosface, arguments: {scale: 24, margin: 0.2}}
optimisation: {optimiser: adamw, lr: 1.0e-3}
training: {max_steps: 2, batch_size: 8, precision: fp32, device: cpu, threads: 1}
evaluation: {dev: null}
"""

Run = Callable[..., str]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (ROOT / "setup.cfg").is_file(), reason="not run from a checkout"),
]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of a copy of the tracked files, so that no build folder of before is in it."""
    place = tmp_path_factory.mktemp("wheel")
    for name in tracked():
        if name.split("/")[0] in (*PLACES, "setup.cfg", "setup.py", "pyproject.toml", "README.md", "LICENSE"):
            (place / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            (place / "source" / name).write_bytes((ROOT / name).read_bytes())
    words = ["pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", place, place / "source"]
    call(sys.executable, "-m", *words, cwd=place)
    (path,) = place.glob("facekd-*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs a program of a clean environment that holds the wheel, in a folder of its own.

    The environment sees the packages that this one has installed, but none of its .pth files: an editable facekd stays
    out of sight.
    """
    place = tmp_path_factory.mktemp("clean")
    call(sys.executable, "-m", "venv", "--without-pip", place / "venv", cwd=place)
    python = place / "venv" / "bin" / "python"
    call(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel, cwd=place)
    (site,) = (place / "venv" / "lib").glob("python*/site-packages")
    others = [entry for entry in sys.path if Path(entry).name in ("site-packages", "dist-packages")]
    (site / "others.pth").write_text("\n".join(others) + "\n")
    (place / "work").mkdir()

    def run(program: str, *words: str | Path) -> str:
        return call(place / "venv" / "bin" / program, *words, cwd=place / "work")

    return run


def call(*words: str | Path, cwd: Path) -> str:
    """The output of a command that must succeed."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    ended = subprocess.run(
        [*map(str, words)], cwd=cwd, env={**environment, "COLUMNS": "120"}, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, f"{' '.join(map(str, words))}\n{ended.stdout[-2000:]}\n{ended.stderr[-4000:]}"
    return ended.stdout


def tracked() -> list[str]:
    """The files that git tracks, or would if they were added."""
    listed = call("git", "ls-files", "--cached", "--others", "--exclude-standard", cwd=ROOT)
    return [name for name in listed.splitlines() if (ROOT / name).is_file()]


def verbs() -> Iterator[tuple[str, ...]]:
    """Every command that `facekd --help` leads to, as words."""
    from facekd import cli

    if not cli.app.registered_groups and not cli.app.registered_commands:
        cli._register()

    def below(command: object, words: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        yield words
        for name, inner in getattr(command, "commands", {}).items():
            if not inner.hidden:  # a former name, which says the new one
                yield from below(inner, (*words, name))

    return below(typer.main.get_command(cli.app), ())


def documented_modules() -> list[str]:
    """The modules of facekd that README and docs run with `python -m`."""
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))]
    return sorted(set(re.findall(r"python3? -m (facekd[\w.]*)", "\n".join(texts))))


def test_the_wheel_holds_every_file_of_the_packages(wheel: Path) -> None:
    wanted = set()
    for name in tracked():
        top, _, rest = name.partition("/")
        if top in PLACES:
            wanted.add(f"{PLACES[top]}/{rest}")
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert held == wanted


def test_facekd_comes_from_the_wheel(installed: Run) -> None:
    code = """
import json, sys
from pathlib import Path
import facekd, facekd.export, facekd.benchmarks
places = [entry for entry in sys.path if (Path(entry) / "facekd").exists() or (Path(entry) / "export").exists()]
print(json.dumps([places, facekd.__file__, facekd.export.__file__, facekd.benchmarks.__file__, sys.path]))
"""
    places, *files, path = json.loads(installed("python", "-c", code))
    (site,) = places
    assert Path(site).name == "site-packages" and "clean" in site
    assert all(Path(file).is_relative_to(site) for file in files)
    assert str(ROOT) not in path


def test_every_verb_and_documented_module_shows_its_help(installed: Run) -> None:
    commands = [("facekd", *words, "--help") for words in verbs()]
    commands += [("python", "-m", module, "--help") for module in documented_modules()]
    assert len(commands) > 30 and ("facekd", "data", "pack", "--help") in commands
    with ThreadPoolExecutor(2) as pool:
        for command, shown in zip(commands, pool.map(lambda words: installed(*words), commands), strict=True):
            assert "usage:" in shown.lower(), command


def test_a_tiny_network_is_trained_exported_and_evaluated(installed: Run, tmp_path: Path) -> None:
    recipe, run, artefact, report = (tmp_path / name for name in ("recipe.yaml", "run", "artefact", "report"))
    recipe.write_text(RECIPE)
    installed("facekd", "train", recipe, "--out", run)
    installed("facekd", "export", run / "bundle", "--target", "onnx", "--out", artefact)
    pairs = "synthetic:identities=4,pairs=20"
    installed("facekd", "evaluate", artefact / "model.onnx", "--pairs", pairs, "--out", report, "--threads", "1")
    (result,) = json.loads((report / "evaluation.json").read_text())["sets"]
    assert 0 <= result["accuracy"] <= 1
