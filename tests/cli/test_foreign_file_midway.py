"""A file that the user puts at the destination while a verb is at work is never replaced."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import save_file

from facekd.common import writing
from facekd.common.errors import UsageError
from facekd.data.decoding import encode_png
from facekd.models.bundle import save_bundle
from facekd.models.describe import describe
from facekd.models.registry import create_model
from tests.in_process import run_here

SWIN = {"img_size": 112, "patch_size": 8, "embed_dim": 16, "depths": [1, 1], "num_heads": [2, 4], "window_size": 7}
ARGUMENTS = {"scale": 0.25, "blocks": [1, 1, 1, 1], "embedding_width": 16, "feature_channels": 32}


def planted(place: Path, *words: str | Path, begun: Path | None = None) -> "subprocess.CompletedProcess[str]":
    """facekd with `words`, where thesis.txt appears in `place` as soon as the folder to replace `begun` is begun.

    Args:
        begun: `place` where it is not given.
    """
    new_folder = writing._new_folder

    def folder_after_planting(path: Path) -> Path:  # after the first look at the destination, before the last
        if path == (begun or place) and not path.is_file():
            place.mkdir(exist_ok=True)
            (place / "thesis.txt").write_text("precious")
        return new_folder(path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writing, "_new_folder", folder_after_planting)
        return run_here(*words)


def facekd(*words: str | Path) -> None:
    ran = run_here(*words)
    assert ran.returncode == 0, ran.stderr


def taken(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the verbs read."""
    folder = tmp_path_factory.mktemp("ground")
    facekd("data", "synth", folder / "faces", "--identities", "3", "--images", "2")
    model = create_model("mobilefacenet", **ARGUMENTS)
    card = describe(model, kind="student", name="tiny", architecture="mobilefacenet", arguments=ARGUMENTS)
    save_bundle(folder / "bundle", model, card)
    teacher = create_model("swin_teacher", **SWIN, embedding_width=20)
    save_file(teacher.state_dict(), folder / "t.safetensors")
    body = {"class": "timm.models.swin_transformer.SwinTransformer", "arguments": SWIN}
    (folder / "t.json").write_text(json.dumps({"body": body}))
    arguments = "{scale: 0.25, blocks: [1, 1, 1, 1], embedding_width: 16, feature_channels: 32}"
    recipe = "name: r\ndata: {source: 'synthetic:identities=3,images=4', workers: 0}\n"
    recipe += f"model: {{name: mobilefacenet, arguments: {arguments}}}\n"
    recipe += "training: {max_steps: 1, batch_size: 4, precision: fp32, channels_last: false}\n"
    (folder / "r.yaml").write_text(recipe)
    facekd(
        "benchmark", folder / "bundle", "--out", folder / "records.jsonl", "--duration", "100ms",
        "--repeats", "1", "--no-profile",
    )  # fmt: skip
    return folder


VERBS: dict[str, Callable[[Path, Path], list[str | Path]]] = {
    "data synth": lambda ground, out: ["data", "synth", out, "--identities", "2", "--images", "2", "--folder"],
    "data index": lambda ground, out: ["data", "index", ground / "faces" / "train.rec", "--out", out],
    "benchmark report": lambda ground, out: ["benchmark", "report", ground / "records.jsonl", "--out", out],
    "export": lambda ground, out: ["export", ground / "bundle", "--target", "onnx", "--out", out],
    "models import": lambda ground, out: [
        "models",
        "import",
        ground / "t.safetensors",
        "--description",
        ground / "t.json",
        "--out",
        out,
    ],
}
"""Every verb that writes a folder; align, train and pull have tests of their own below."""


@pytest.mark.parametrize("verb", VERBS)
def test_in_a_folder_that_was_free(ground: Path, tmp_path: Path, verb: str) -> None:
    out = tmp_path / "out.faces"
    ran = planted(out, *VERBS[verb](ground, out), "--overwrite")
    assert ran.returncode == 2, ran.stderr
    assert "it is never replaced" in ran.stderr
    assert taken(out) == {"thesis.txt": b"precious"}
    assert [path.name for path in tmp_path.iterdir()] == ["out.faces"]


@pytest.mark.parametrize("verb", VERBS)
def test_in_a_folder_of_the_verb_itself(ground: Path, tmp_path: Path, verb: str) -> None:
    out = tmp_path / "out.faces"
    words = VERBS[verb](ground, out)
    facekd(*words)
    before = taken(out)
    ran = planted(out, *words, "--overwrite")
    assert ran.returncode == 2, ran.stderr
    assert "'thesis.txt', which facekd did not write" in ran.stderr
    assert taken(out) == {**before, "thesis.txt": b"precious"}
    assert [path.name for path in tmp_path.iterdir()] == ["out.faces"]


def test_align(shared: Path, tmp_path: Path) -> None:
    person = next(path for path in sorted((shared / "data" / "lfw_raw").iterdir()) if path.is_dir())
    out, words = tmp_path / "out", ["--detector", shared / "weights" / "yunet_n_640_640.onnx", "--overwrite"]
    ran = planted(out, "data", "align", person, out, *words)
    assert ran.returncode == 2, ran.stderr
    assert taken(out) == {"thesis.txt": b"precious"}


@pytest.mark.parametrize("place", ["run", "run/bundle"])
def test_train(ground: Path, tmp_path: Path, place: str) -> None:
    """A run's folder fills up as the run goes on, and its bundle is replaced at the end."""
    facekd("train", ground / "r.yaml", "--out", tmp_path / "run")
    if place == "run":
        run = tmp_path / "run"
        ran = planted(run, "train", ground / "r.yaml", "--out", run, "--overwrite", begun=run / "bundle")
        assert ran.returncode == 0, ran.stderr
    else:
        ran = planted(tmp_path / place, "train", ground / "r.yaml", "--out", tmp_path / "run", "--overwrite")
        assert ran.returncode == 2, ran.stderr
    assert (tmp_path / place / "thesis.txt").read_text() == "precious"


@pytest.mark.parametrize("there", [True, False])
def test_pull(ground: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool) -> None:
    import shutil

    import huggingface_hub

    from facekd.models.hub import pull_bundle

    out = tmp_path / "out"
    if there:
        shutil.copytree(ground / "bundle", out)

    def download(repo_id: str, *, local_dir: str, **_: object) -> None:
        shutil.copytree(ground / "bundle", local_dir, dirs_exist_ok=True)
        out.mkdir(exist_ok=True)
        (out / "thesis.txt").write_text("precious")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with pytest.raises(UsageError):
        pull_bundle("owner/tiny", out, overwrite=True)
    assert (out / "thesis.txt").read_text() == "precious"


@pytest.mark.parametrize("name", ["train.rec", "train.idx", "property"])
@pytest.mark.parametrize("overwrite", [True, False])
def test_beside_records(tmp_path: Path, name: str, overwrite: bool) -> None:
    from facekd.data.record_writer import RecordWriter

    with (
        pytest.raises(UsageError, match=name),
        RecordWriter(tmp_path / "train.rec", size=(8, 8), overwrite=overwrite) as writer,
    ):
        writer.write(0, encode_png(np.zeros((8, 8, 3), dtype=np.uint8)))
        (tmp_path / name).write_text("my property: a house")
    assert taken(tmp_path) == {name: b"my property: a house"}
