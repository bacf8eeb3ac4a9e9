"""--overwrite replaces what facekd wrote and nothing else: every verb that takes it meets a user's own file."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import typer

from facekd.cli import _register, app
from tests.in_process import run_here as facekd

SYNTHETIC = "synthetic:identities=3,images=2"


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the verbs read."""
    folder = tmp_path_factory.mktemp("ground")
    assert facekd("data", "synth", folder / "faces", "--identities", "3", "--images", "2").returncode == 0
    assert facekd("data", "synth", folder / "photos", "--identities", "3", "--images", "2", "--folder").returncode == 0
    recipe = "name: r\ndata: {source: 'synthetic:identities=3,images=4', workers: 0}\n"
    recipe += "model: {name: mobilefacenet, arguments: {scale: 0.25, blocks: [1, 1, 1, 1], embedding_width: 16}}\n"
    recipe += "training: {max_steps: 1, batch_size: 4, precision: fp32, channels_last: false}\n"
    (folder / "r.yaml").write_text(recipe)
    assert facekd("train", folder / "r.yaml", "--out", folder / "run").returncode == 0
    ran = facekd(
        "benchmark", folder / "run" / "bundle", "--out", folder / "records.jsonl", "--duration", "100ms",
        "--repeats", "1", "--no-profile",
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    return folder


FOLDERS: dict[str, Callable[[Path, Path], list[str | Path]]] = {
    "data synth": lambda ground, out: ["data", "synth", out, "--identities", "2", "--images", "2", "--folder"],
    "data index": lambda ground, out: ["data", "index", ground / "faces" / "train.rec", "--out", out],
    "train": lambda ground, out: ["train", ground / "r.yaml", "--out", out],
    "benchmark report": lambda ground, out: ["benchmark", "report", ground / "records.jsonl", "--out", out],
}
"""Verbs whose --out is a folder that they own whole; align, export and models import have tests of their own below."""


def taken(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("verb", FOLDERS)
def test_a_folder_of_the_users_is_never_replaced(ground: Path, tmp_path: Path, verb: str) -> None:
    """Seen: align, synth --folder and index deleted it, with exit code 0."""
    out = tmp_path / "out.faces"
    out.mkdir()
    (out / "thesis.txt").write_text("precious")
    ran = facekd(*FOLDERS[verb](ground, out), "--overwrite")
    assert ran.returncode == 2
    assert ran.stderr.startswith("facekd: ")
    assert ran.stderr.count("\n") == 1
    assert taken(out) == {"thesis.txt": b"precious"}


@pytest.mark.parametrize("verb", FOLDERS)
def test_what_the_verb_wrote_is_replaced_until_the_user_puts_a_file_there(
    ground: Path, tmp_path: Path, verb: str
) -> None:
    out = tmp_path / "out.faces"
    words = FOLDERS[verb](ground, out)
    for more in ([], ["--overwrite"]):
        ran = facekd(*words, *more)
        assert ran.returncode == 0, ran.stderr
    assert facekd(*words).returncode == 2
    (out / "thesis.txt").write_text("precious")
    before = taken(out)
    ran = facekd(*words, "--overwrite")
    assert ran.returncode == 2
    assert "'thesis.txt', which facekd did not write" in ran.stderr
    assert taken(out) == before


def test_align(ground: Path, tmp_path: Path, shared: Path) -> None:
    detector = shared / "weights" / "yunet_n_640_640.onnx"
    photographs = tmp_path / "photographs" / "x"
    photographs.mkdir(parents=True)
    (photographs / "a.jpg").symlink_to(next((shared / "data" / "lfw_raw").glob("*/*.jpg")).resolve())
    out = tmp_path / "out"
    words: list[str | Path] = ["data", "align", tmp_path / "photographs", out, "--detector", detector, "--overwrite"]
    out.mkdir()
    (out / "thesis.txt").write_text("precious")
    assert facekd(*words).returncode == 2
    assert taken(out) == {"thesis.txt": b"precious"}
    (out / "thesis.txt").unlink()
    assert [facekd(*words).returncode for _ in range(2)] == [0, 0]
    (out / "x" / "thesis.txt").write_text("precious")
    ran = facekd(*words)
    assert ran.returncode == 2
    assert "'x/thesis.txt', which facekd did not write" in ran.stderr
    records: list[str | Path] = [*words[:3], tmp_path / "r.rec", *words[4:]]
    (tmp_path / "r.report.json").write_text('{"of": "mine"}')
    assert "is not a report of facekd data align" in facekd(*records).stderr
    assert (tmp_path / "r.report.json").read_text() == '{"of": "mine"}'


@pytest.mark.parametrize("name", ["train.rec", "train.idx", "property"])
@pytest.mark.parametrize("verb", ["synth", "pack"])
def test_no_file_beside_the_records_is_lost(tmp_path: Path, verb: str, name: str) -> None:
    """`property` and .idx are written beside the .rec that the user names."""
    words = {"synth": ["data", "synth", tmp_path, "--identities", "2", "--images", "2"]}
    words["pack"] = ["data", "pack", SYNTHETIC, tmp_path]
    (tmp_path / name).write_text("my property: a house")
    for more in ([], ["--overwrite"]):
        ran = facekd(*words[verb], *more)
        assert ran.returncode == 2, ran.stdout
    assert "is not what facekd or InsightFace writes under this name" in ran.stderr
    assert taken(tmp_path) == {name: b"my property: a house"}
    (tmp_path / name).unlink()
    for more in ([], ["--overwrite"]):
        assert facekd(*words[verb], *more).returncode == 0


@pytest.mark.parametrize("kind", ["bundle", "artefact"])
def test_a_file_beside_a_card_or_a_manifest_is_not_lost(bundle: Path, tmp_path: Path, kind: str) -> None:
    import shutil

    from facekd.common.errors import UsageError
    from facekd.export.artefact_folder import check_destination
    from facekd.models.bundle import new_folder

    out = tmp_path / "out"
    if kind == "bundle":
        shutil.copytree(bundle, out)
    else:
        out.mkdir()
        (out / "manifest.json").write_text(json.dumps({"files": {"model.onnx": "0" * 64}}))
        (out / "model.onnx").touch()

    def replace() -> None:
        if kind == "artefact":
            check_destination(out, overwrite=True)
        else:
            with new_folder(out, overwrite=True) as folder:
                shutil.copytree(bundle, folder, dirs_exist_ok=True)

    replace()
    (out / "thesis.txt").write_text("precious")
    with pytest.raises(UsageError, match=r"'thesis\.txt', which facekd did not write"):
        replace()
    assert (out / "thesis.txt").read_text() == "precious"


TESTED = {
    *FOLDERS, "data pack", "data align", "export convert", "models import", "models pull",
    # These replace the one file whose name the user gave.
    "data inspect", "embed", "evaluate", "distill", "init",
}  # fmt: skip


def test_no_verb_that_takes_overwrite_is_forgotten() -> None:
    if not app.registered_commands:
        _register()
    command = typer.main.get_command(app)

    def walk(group: object, names: tuple[str, ...]) -> set[str]:
        found: set[str] = set()
        for name, one in getattr(group, "commands", {}).items():
            if any("--overwrite" in option.opts for option in one.params):
                found.add(" ".join((*names, name)))
            found |= walk(one, (*names, name))
        return found

    assert walk(command, ()) == TESTED
