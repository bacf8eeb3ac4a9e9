"""facekd init: every combination of answers parses, plans and says what to run; the short ones run."""

import itertools
import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import typer
import yaml
from typer.testing import CliRunner, Result

from facekd.cli import init, plan
from facekd.common.errors import UsageError
from facekd.models.bundle import save_bundle
from facekd.models.describe import describe
from facekd.models.registry import create_model
from facekd.recipe import load_recipe
from facekd.recipes.starter import KNOWN, PHONES
from facekd.training.log import Reporter
from facekd.training.run import run_recipe


def call(*arguments: object) -> Result:
    app = typer.Typer()
    for module in (init, plan):
        module.register(app)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def succeed(*arguments: object) -> Result:
    result = call(*arguments)
    assert result.exit_code == 0, (result.output, result.exception)
    return result


@pytest.fixture(scope="module")
def teachers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A small Transformer and a small CNN as bundles."""
    folder = tmp_path_factory.mktemp("teachers")
    small = {"embedding_width": 512}
    made = {
        "transformer": ("vit_teacher", {"patch_size": 16, "embed_dim": 32, "depth": 1, "num_heads": 2, **small}),
        "cnn": ("mobilefacenet", {"scale": 0.25, "blocks": [1, 1, 1, 1], **small}),
    }
    for name, (architecture, arguments) in made.items():
        model = create_model(architecture, **arguments)
        save_bundle(
            folder / name,
            model,
            describe(model, kind="teacher", name=name, architecture=architecture, arguments=arguments),
        )
    return {name: folder / name for name in made}


@pytest.mark.parametrize("length", ["short", "full"])
def test_every_combination_is_a_recipe(tmp_path: Path, teachers: dict[str, Path], length: str) -> None:
    """Each parses; each has a comment; what the answers say stands in it."""
    choices = ["none", str(teachers["transformer"]), str(teachers["cnn"])]
    choices += ["vit-b", "ir50"] if length == "full" else []
    for number, (faces, phone, teacher, gpus) in enumerate(itertools.product(KNOWN, PHONES, choices, (0, 1, 8))):
        if number % 4:  # a quarter of them
            continue
        out = tmp_path / f"r{number}.yaml"
        given = ("--faces", faces, "--teacher", teacher, "--phone", phone, "--length", length, "--gpus", gpus)
        report = json.loads(succeed("init", out, *given, "--json").stdout)
        recipe = load_recipe(out)
        assert recipe.data.source == f"data/{faces}" and recipe.name == out.stem
        assert (recipe.teacher is None) == (teacher == "none")
        assert any(entry.name == "apt" for entry in recipe.entries()) == (
            "transformer" in teacher or teacher == "vit-b"
        )
        assert (recipe.head.sample_rate < 1) == (faces == "webface12m")
        if length == "full":
            assert recipe.training.batch_size == 128 * max(1, gpus) and recipe.head.arguments["scale"] == 64
            assert recipe.optimisation.lr == min(0.02 * max(1, gpus), 0.1)
        assert len(report["recipes"]) == len(report["commands"]) == (2 if teacher in ("vit-b", "ir50") else 1)
        assert all(command.startswith("torchrun --nproc-per-node 8") == (gpus == 8) for command in report["commands"])
        if teacher in ("vit-b", "ir50"):
            first = load_recipe(out.with_stem(f"{out.stem}-teacher"))
            assert first.role == "teacher" and recipe.teacher is not None
            assert f"--out {Path(recipe.teacher.bundle).parent}" in report["commands"][0]


@pytest.mark.parametrize(
    ("faces", "teacher", "gpus"),
    [("ms1mv2", "vit-b", 1), ("ms1mv2", "ir50", 8), ("ms1mv3", "vit-b", 8), ("ms1mv3", "ir50", 1),
     ("glint360k", "none", 1), ("glint360k", "none", 8), ("webface4m", "none", 1), ("webface4m", "none", 8),
     ("webface12m", "none", 1), ("webface12m", "ir50", 8)],
)  # fmt: skip
def test_full_scale_recipes_are_planned(tmp_path: Path, faces: str, teacher: str, gpus: int) -> None:
    """The teacher where one is trained, else the student: memory and sample rates are told, and fit a GPU of 80 GB."""
    succeed("init", tmp_path / "r.yaml", "--faces", faces, "--teacher", teacher, "--phone", "balanced", "--length",
            "full", "--gpus", gpus)  # fmt: skip
    recipe = tmp_path / ("r.yaml" if teacher == "none" else "r-teacher.yaml")
    assert len(re.findall(r"# \w", recipe.read_text())) >= 5
    assert load_recipe(recipe).head.sample_rate == (0.3 if faces == "webface12m" else 1)
    known = KNOWN[faces]
    counts = ("--gpus", gpus, "--identities", known.identities, "--images", known.images)
    planned = json.loads(succeed("plan", recipe, *counts, "--json").stdout)
    assert planned["gpus"] == gpus and planned["sample_rates"]["80"] == 1


@pytest.mark.parametrize("gpus", [1, 8])
def test_a_recipe_without_identities_is_planned(tmp_path: Path, teachers: dict[str, Path], gpus: int) -> None:
    """Ten million faces, without class centres."""
    succeed("init", tmp_path / "r.yaml", "--faces", "unlabelled:synthetic:identities=4,images=4", "--teacher",
            teachers["cnn"], "--phone", "balanced", "--length", "full", "--gpus", gpus)  # fmt: skip
    assert load_recipe(tmp_path / "r.yaml").head.weight == 0
    counts = ("--gpus", gpus, "--identities", 10_000_000, "--images", 10_000_000)
    planned = json.loads(succeed("plan", tmp_path / "r.yaml", *counts, "--json").stdout)
    assert planned["gpus"] == gpus and planned["memory"]["total"] < 24e9


def test_a_short_recipe_runs(tmp_path: Path, teachers: dict[str, Path]) -> None:
    """As written but for its length: a distilled student, by identities and without them, ends as a bundle."""
    faces = tmp_path / "loose"
    faces.mkdir()
    random = np.random.default_rng(0)
    for number in range(12):
        cv2.imwrite(str(faces / f"{number}.png"), random.integers(0, 256, (112, 112, 3), np.uint8))
    for name, source in (("named", "synthetic:identities=4,images=4"), ("loose", f"unlabelled:{faces}")):
        out = tmp_path / f"{name}.yaml"
        succeed(
            "init", out, "--faces", source, "--teacher", teachers["transformer"], "--phone", "fast", "--length", "short"
        )
        recipe = load_recipe(out)
        assert recipe.head.weight == (0 if name == "loose" else 0.1)
        changes = {"max_steps": 2, "batch_size": 4, "precision": "fp32"}
        recipe = recipe.model_copy(update={"training": recipe.training.model_copy(update=changes)})
        recipe.data.workers = 0
        result = run_recipe(recipe, out=tmp_path / f"run-{name}", reporter=Reporter(quiet=True))
        assert result.finished and (tmp_path / f"run-{name}/bundle/card.json").is_file()


def test_unlabelled_faces_and_bad_answers(tmp_path: Path, teachers: dict[str, Path]) -> None:
    (tmp_path / "empty").mkdir()
    student = ("--phone", "fast", "--length", "short")
    bare = "unlabelled:synthetic:identities=2,images=2"
    nothing = f"unlabelled:{tmp_path / 'empty'}"
    cases = [
        ((tmp_path / "r.txt",), "give a file that ends in .yaml"),
        ((tmp_path / "r.yaml",), "give --faces: faces to train on"),
        ((tmp_path / "r.yaml", "--faces", "ms1mv9", "--teacher", "none", *student), "no data at ms1mv9"),
        ((tmp_path / "r.yaml", "--faces", "ms1mv3", "--teacher", "nowhere", *student), "no such bundle or model file"),
        ((tmp_path / "r.yaml", "--faces", "ms1mv3", "--teacher", "none", "--phone", "big"), "valid are fast, balanced"),
        ((tmp_path / "r.yaml", "--faces", "ms1mv3", "--teacher", "vit-b", *student), "takes days of a GPU to train"),
        ((tmp_path / "r.yaml", "--faces", nothing, "--teacher", "none", *student), "no image"),
        ((tmp_path / "r.yaml", "--faces", bare, "--teacher", "none", *student),
         "has no identities, so there is nothing to learn from but a teacher"),
        ((tmp_path / "r.yaml", "--faces", bare, "--teacher", "ir50", "--phone",
          "fast", "--length", "full"), "is trained on identities"),
    ]  # fmt: skip
    for arguments, message in cases:
        error = call("init", *arguments).exception
        assert isinstance(error, UsageError) and message in str(error), (arguments, error)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty"]


def test_paths_that_yaml_would_read_otherwise(tmp_path: Path, teachers: dict[str, Path]) -> None:
    """A path with a hash, a colon, brackets and quotes stands in the recipe as it is."""
    odd = tmp_path / 'faces #1: [a], "b" é'
    odd.mkdir()
    cv2.imwrite(str(odd / "x.png"), np.zeros((112, 112, 3), np.uint8))
    out = tmp_path / "1e3.yaml"
    succeed("init", out, "--faces", f"unlabelled:{odd}", "--teacher", teachers["cnn"], "--phone", "fast", "--length",
            "short", "--dev", "a, b.bin", "--report", "yes")  # fmt: skip
    recipe = load_recipe(out)
    assert (recipe.data.source, recipe.name) == (f"unlabelled:{odd}", "1e3")
    assert (recipe.evaluation.dev, recipe.evaluation.report) == ("a, b.bin", ["yes"])
    again = call("init", out, "--faces", "ms1mv3", "--teacher", "none", "--phone", "fast", "--length", "short")
    assert isinstance(again.exception, UsageError) and "exists: choose another name" in str(again.exception)
    comments = re.findall(r"#.*", out.read_text())
    assert len(comments) >= 8
    assert yaml.safe_load(out.read_text())["head"] == {"weight": 0}


def test_unlabelled_takes_folders_and_other_sources(tmp_path: Path) -> None:
    from facekd.data.opening import open_source

    (tmp_path / "a/b").mkdir(parents=True)
    for name, value in (("z.png", 1), ("a/y.png", 2), ("a/b/x.png", 3)):
        cv2.imwrite(str(tmp_path / name), np.full((112, 112, 3), value, np.uint8))
    (tmp_path / "notes.txt").write_text("x")
    loose = open_source(f"unlabelled:{tmp_path}")
    assert [loose.key(i) for i in range(3)] == ["a/b/x.png", "a/y.png", "z.png"]
    assert [int(loose.read(i)[0, 0, 0]) for i in range(3)] == [3, 2, 1]
    assert loose.labels.tolist() == [0, 1, 2] and loose.num_identities == 3
    assert [name for name, _ in loose.broken] == ["notes.txt"]  # type: ignore[attr-defined]
    drawn = open_source("unlabelled:synthetic:identities=3,images=2")
    whole = open_source("synthetic:identities=3,images=2")
    assert drawn.labels.tolist() == [0, 1, 2, 3, 4, 5] and drawn.fingerprint() != whole.fingerprint()
    np.testing.assert_array_equal(drawn.read(4), whole.read(4))
