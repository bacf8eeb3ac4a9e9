"""Grids: the shipped ones, what a cell is, mistakes; and the figures from their definitions."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from facekd.common.errors import UsageError
from facekd.models.counting import count_macs
from facekd.models.registry import create_model
from facekd.recipe import Recipe, load_recipe
from facekd.sweep.figures import CellFigures, gap_share, summarise
from facekd.sweep.grid import TeacherTraining, grid_cells, load_grid, shipped_grids

GRID: dict[str, Any] = {
    "name": "g",
    "base": "quickstart-undistilled",
    "teacher": "somewhere",
    "budget": {"steps": 3},
    "seeds": [4, 7],
    "baseline": "none",
    "methods": {"none": None, "cos": {"head": {"weight": 0.5}, "distillation": [{"embedding": {}}]}},
}


def write(path: Path, **changes: Any) -> Path:
    path.write_text(yaml.safe_dump(GRID | changes, sort_keys=False), encoding="utf-8")
    return path


@pytest.mark.parametrize("name", sorted(shipped_grids()))
def test_every_shipped_grid_is_commented_and_all_its_cells_are_recipes(name: str) -> None:
    grid, path = load_grid(name)
    assert grid.name == name
    assert path.read_text(encoding="utf-8").startswith("# ")
    cells, sets = grid_cells(grid, beside=path.parent, teacher="teacher", others=dict.fromkeys(grid.teachers, "other"))
    assert len(cells) == len(grid.methods) * max(1, len(grid.students)) * len(grid.seeds)
    assert sets


def test_the_table_of_methods_has_every_rival() -> None:
    grid, path = load_grid("celeba-methods")
    cells, _ = grid_cells(grid, beside=path.parent, teacher="teacher")
    terms = {name for cell in cells for entry in cell.recipe.distillation for name in entry}
    assert terms == {
        *("kd", "embedding", "embedding_l2", "rkd", "similarity", "cckd", "darkrank", "shrinkteanet"),
        *("tripletdistill", "margindistillation", "ekd", "gkd", "adadistill", "fitnet", "ofa", "urfm", "apt"),
    }
    assert any(cell.recipe.head.init == "teacher" and cell.recipe.head.freeze for cell in cells)
    for section in ("model", "optimisation", "training", "evaluation"):
        assert len({str(getattr(cell.recipe, section)) for cell in cells}) == 1
    # The same data; those that learn from pairs of one identity get them in another order.
    grouped = {cell.method for cell in cells if cell.recipe.data.images_per_identity is not None}
    assert grouped == {"tripletdistill", "ekd"}
    assert len({str(cell.recipe.data.model_copy(update={"images_per_identity": None})) for cell in cells}) == 1


def methods_of(name: str) -> dict[str, Recipe]:
    grid, path = load_grid(name)
    others = dict.fromkeys(grid.teachers, "another")
    cells, _ = grid_cells(grid, beside=path.parent, teacher="teacher", others=others)
    return {cell.method: cell.recipe for cell in cells}


def test_the_whole_method_is_that_of_its_recipe_in_every_table() -> None:
    recipe = load_recipe("celeba-urfm-apt")
    for grid, method in (
        ("celeba-methods", "urfm-apt"),
        ("celeba-ablation", "urfm-apt"),
        ("celeba-teachers", "swin-urfm-apt"),
        ("celeba-phones", "urfm-apt"),
    ):
        assert settings_of(methods_of(grid)[method]) == settings_of(recipe), grid


def settings_of(recipe: Recipe) -> tuple[Any, ...]:
    """What is learnt from: every term with all its settings, and the head."""
    terms: dict[str, Any] = {entry.name: entry.settings for entry in recipe.entries()}
    return terms, recipe.head


def test_an_ablation_changes_what_its_name_says() -> None:
    """Each against the one it is a variation of."""
    settings = {method: settings_of(recipe)[0] for method, recipe in methods_of("celeba-ablation").items()}
    assert settings["undistilled"] == {}
    assert {name: list(settings[name]) for name in ("embedding", "urfm", "apt")} == {
        "embedding": ["embedding"],
        "urfm": ["embedding", "urfm"],
        "apt": ["embedding", "apt"],
    }
    changes = {
        "position-none": ("urfm-apt", "urfm", {"position": "none"}),
        "position-saliency": ("urfm-apt", "urfm", {"position": "saliency"}),
        "prompts-1": ("urfm-apt", "apt", {"prompts": 1}),
        "prompts-20": ("urfm-apt", "apt", {"prompts": 20}),
        "apt-adapting": (
            "urfm-apt",
            "apt",
            {"attention_bias": -4, "adaptation_weight": 10, "keep": "embedding", "lr": 5e-3},
        ),
        "read-out-linear": ("urfm-apt", "urfm", {"read_out": "linear"}),
        "no-places": ("urfm-apt", "urfm", {"centre_spread": None}),
        "no-relay": ("urfm-apt", "urfm", {"relay_weight": 0}),
        "centres-16": ("read-out-linear", "urfm", {"local_centres": 16}),
        "paper-form": ("read-out-linear", "urfm", {"centre_spread": None, "relay_weight": 0}),
        "no-stop-gradient": ("paper-form", "urfm", {"stop_gradient": False, "anchor_weight": 0}),
    }
    for method, (beside, term, change) in changes.items():
        expected = settings[beside] | {term: settings[beside][term].model_copy(update=change)}
        assert settings[method] == expected, method
    assert set(changes) | {"undistilled", "embedding", "urfm", "apt", "urfm-apt"} == set(settings)


def test_each_teacher_teaches_what_its_name_says() -> None:
    taught = {
        method: recipe.teacher and recipe.teacher.bundle for method, recipe in methods_of("celeba-teachers").items()
    }
    assert taught.pop("undistilled") is None
    assert all(bundle == ("teacher" if name.startswith("swin") else "another") for name, bundle in taught.items())
    training = load_grid("celeba-teachers")[0].teachers["iresnet50"]
    assert isinstance(training, TeacherTraining)
    recipe, swin = load_recipe(training.recipe, training.set), load_recipe("celeba-teacher")
    changed = {name for name in type(recipe).model_fields if getattr(recipe, name) != getattr(swin, name)}
    assert changed == {"name", "model"} and recipe.model.name == "iresnet50"


def test_students_for_phones_cost_what_their_names_say() -> None:
    students = load_grid("celeba-phones")[0].students
    activations = set()
    for name, model in students.items():
        activation, mmacs = name.split("-")
        assert model.arguments["activation"] == activation
        with torch.device("meta"):
            macs = count_macs(create_model(model.name, **model.arguments))
        assert round(macs / 1e6) == int(mmacs)
        activations.add(activation)
    assert activations == {"prelu", "relu", "relu6", "hardswish"}
    wanted = (50, 100, 220, 440)
    costs = sorted(int(name.split("-")[1]) for name in students if name.startswith("relu-"))
    assert all(abs(cost / about - 1) < 0.03 for cost, about in zip(costs, wanted, strict=True))


def test_a_method_is_laid_over_the_base(tmp_path: Path) -> None:
    students = {"small": {"name": "mobilefacenet"}, "other": {"name": "mobilefacenet", "arguments": {"scale": 0.5}}}
    grid, path = load_grid(write(tmp_path / "g.yaml", students=students))
    cells, sets = grid_cells(grid, beside=path.parent, teacher="bundle", overrides=["training.batch_size=8"])
    assert [str(cell) for cell in cells] == [
        "none, small, seed 4",
        "cos, small, seed 4",
        "none, other, seed 4",
        "cos, other, seed 4",
        "none, small, seed 7",
        "cos, small, seed 7",
        "none, other, seed 7",
        "cos, other, seed 7",
    ]
    plain, distilled = cells[2].recipe, cells[3].recipe
    assert plain.teacher is None and plain.distillation == [] and plain.seed == 4
    assert distilled.teacher is not None and distilled.teacher.bundle == "bundle"
    assert distilled.head.weight == 0.5 and distilled.head.arguments == plain.head.arguments
    assert distilled.model.arguments == {"scale": 0.5}
    assert plain.training.max_steps == 3 and plain.training.batch_size == 8
    assert sets == plain.evaluation.report
    assert len({cell.recipe.hash() for cell in cells}) == 8


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"budget": {"steps": 3, "minutes": 2}}, "exactly one of epochs, steps, minutes; got steps, minutes"),
        ({"budget": {}}, "got none"),
        ({"seeds": [1, 1]}, "each seed once"),
        ({"seeds": []}, "seeds"),
        ({"baseline": "nothing"}, "none of the methods: none, cos"),
        ({"baseline": "cos"}, "baseline 'cos' learns from the teacher"),
        ({"methods": {"a/b": {}}, "baseline": None}, "names a folder"),
        ({"methods": {"x": {"distillation": [{"kdd": {}}]}}, "baseline": None}, "method x: .*did you mean 'kd'"),
        ({"metods": {}}, "unknown field 'metods'"),
        (
            {"teachers": {"a": "b"}, "methods": {"x": {"teacher": "c"}}, "baseline": None},
            r"none of the teachers: \['a'\]",
        ),
        ({"base": "nowhere"}, "no recipe 'nowhere'"),
        ({"set": ["evaluation.report=[]"]}, "reports on nothing"),
    ],
)
def test_mistakes_are_one_line(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        grid, path = load_grid(write(tmp_path / "g.yaml", **changes))
        grid_cells(grid, beside=path.parent, teacher="bundle")
    assert "\n" not in str(caught.value)


def test_a_method_that_distils_needs_a_teacher(tmp_path: Path) -> None:
    grid, path = load_grid(write(tmp_path / "g.yaml", teacher=None))
    with pytest.raises(UsageError, match="method cos needs a teacher"):
        grid_cells(grid, beside=path.parent, teacher=None)


def figures(method: str, seed: int, accuracy: float) -> CellFigures:
    return CellFigures(method, "s", seed, {"set": accuracy}, {"set": 0.5}, {"set": {}}, 1, 10, 2.0, "h", "now", "here")


def test_mean_std_and_gap_from_their_definitions() -> None:
    cells = [figures("none", 0, 0.70), figures("cos", 0, 0.79), figures("none", 1, 0.74), figures("cos", 1, 0.85)]
    none, cos = summarise(cells, on="set", baseline="none", teacher_accuracy=0.92)
    assert (none.accuracy_mean, cos.accuracy_mean) == (pytest.approx(0.72), pytest.approx(0.82))
    assert cos.accuracy_std == pytest.approx(float(np.std([0.79, 0.85], ddof=1)))
    # Errors: 28 % undistilled, 8 % the teacher; cos has 21 % and 15 %.
    assert cos.gap_mean == pytest.approx(np.mean([(28 - 21) / 20, (28 - 15) / 20]))
    assert cos.gap_std == pytest.approx(float(np.std([7 / 20, 13 / 20], ddof=1)))
    assert none.gap_mean == pytest.approx(0)
    (alone,) = summarise(cells[1:2], on="set", baseline="none", teacher_accuracy=0.92)
    assert alone.accuracy_std is None and alone.gap_mean is None  # one seed has no spread, no baseline no gap


def test_a_teacher_that_is_no_better_leaves_no_gap() -> None:
    assert gap_share(0.8, undistilled=0.7, teacher=0.7) is None
    assert gap_share(0.9, undistilled=0.7, teacher=0.9) == pytest.approx(1)
    assert gap_share(0.6, undistilled=0.7, teacher=0.9) == pytest.approx(-0.5)
