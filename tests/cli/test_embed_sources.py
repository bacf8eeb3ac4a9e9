"""`facekd embed` takes whatever holds faces: files, folders and every kind of data source, of other packages too."""

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from facekd.cli.embed import register
from facekd.common.errors import FacekdError, UsageError
from facekd.data.index_writer import write_index
from facekd.data.opening import open_source
from facekd.data.packing import pack_records, write_folder

SYNTHETIC = "synthetic:identities=3,images=4,seed=5"
Embed = Callable[[np.ndarray], np.ndarray]


app = typer.Typer()
app.callback()(lambda: None)
register(app)


def call(*words: object) -> list[str]:
    result = CliRunner().invoke(app, ["embed", *map(str, words)])
    if result.exception is not None:
        raise result.exception
    return result.stdout.splitlines()


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faces")
    drawn = open_source(SYNTHETIC)
    pack_records(drawn, folder / "packed")
    write_folder(open_source(folder / "packed"), folder / "images")
    write_index([folder / "packed" / "train.rec"], folder / "index.faces")
    (folder / "images.list").write_text("\n".join(str(i) for i in range(12)))
    return folder


KINDS = {
    "records": "packed/train.rec", "folder of records": "packed", "index": "index.faces", "synthetic": SYNTHETIC,
    "image folder": "image-folder:images", "records by name": "records:packed",
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_source(
    bundle: Path, tiles: Embed, ground: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.chdir(ground)
    spec = KINDS[kind]
    call(bundle, spec, "--out", tmp_path / "e.npz")
    source = open_source(spec)
    expected = np.array([tiles(source.read(i)) for i in range(len(source))])
    with np.load(tmp_path / "e.npz") as file:
        assert file["paths"].tolist() == [f"{spec}:{source.key(i)}" for i in range(len(source))]
        assert file["labels"].tolist() == source.labels.tolist()
        np.testing.assert_allclose(
            file["embeddings"], expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=1e-5
        )
    call(bundle, spec, "--out", tmp_path / "e.csv")
    with (tmp_path / "e.csv").open() as text:
        rows = list(csv.reader(text))
    assert rows[0][:3] == ["path", "label", "e0"]
    assert [int(row[1]) for row in rows[1:]] == source.labels.tolist()
    call(bundle, spec, "--out", tmp_path / "e.jsonl")
    assert [json.loads(line)["label"] for line in (tmp_path / "e.jsonl").open()] == source.labels.tolist()


def test_files_and_sources_together(
    bundle: Path, ground: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ground)
    call(bundle, "images", "packed", "--out", tmp_path / "e.npz")
    with np.load(tmp_path / "e.npz") as file:
        labels, embeddings = file["labels"], file["embeddings"]
        assert file["paths"][0] == "images/0/00000.jpg" and file["paths"][12] == "packed:1"
    assert labels.tolist() == [-1] * 12 + open_source("packed").labels.tolist()
    np.testing.assert_allclose(embeddings[:12], embeddings[12:], atol=0.02)  # a JPEG of a JPEG


def test_a_source_of_another_package(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_faces.py").write_text(
        "from pathlib import Path\n"
        "from facekd.data.sources import SourceKind\n"
        "from facekd.data.sources.synthetic import SyntheticSource\n"
        "class Kind(SourceKind):\n"
        "    @classmethod\n"
        "    def open(cls, text, *, size):\n"
        "        return SyntheticSource.from_text(Path(text).read_text())\n"
    )
    (tmp_path / "list").write_text("identities=2,images=3")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(FacekdError, match="FACEKD_TRUSTED_MODULES"):
        call(bundle, f"my_faces:Kind:{tmp_path}/list", "--out", tmp_path / "e.npz")
    monkeypatch.setenv("FACEKD_TRUSTED_MODULES", "my_faces,tiny_models")
    call(bundle, f"my_faces:Kind:{tmp_path}/list", "--out", tmp_path / "e.npz")
    with np.load(tmp_path / "e.npz") as file:
        assert file["labels"].tolist() == [0, 0, 0, 1, 1, 1]


def test_broken_images_of_a_source_are_counted_and_named(bundle: Path, tmp_path: Path) -> None:
    write_folder(open_source("synthetic:identities=2,images=20"), tmp_path / "faces")
    for i in range(15):
        (tmp_path / "faces" / "1" / f"{i:05d}.jpg").write_bytes(b"\xff\xd8\xff\xe0 and nothing more")
    for i in range(10):
        (tmp_path / "faces" / "0" / f"note-{i}").write_text("no image")
    out = call(bundle, f"image-folder:{tmp_path}/faces", "--out", tmp_path / "e.npz")
    assert out[-1].startswith("25 embeddings")
    assert any("skipped: 25" in line for line in out) and any("and 5 more: --json lists all" in line for line in out)
    told = json.loads("".join(call(bundle, f"image-folder:{tmp_path}/faces", "--out", tmp_path / "f.npz", "--json")))
    assert len(told["skipped"]) == 25


def test_a_source_of_another_size_or_none_is_refused(bundle: Path, tmp_path: Path, ground: Path) -> None:
    with pytest.raises(UsageError, match=r"image snythetic:identities=2 does not exist.*synthetic:identities=64"):
        call(bundle, "snythetic:identities=2", "--out", tmp_path / "e.npz")
    write_folder(open_source(SYNTHETIC), tmp_path / "faces")
    import cv2

    for path in (tmp_path / "faces").glob("*/*.jpg"):
        cv2.imwrite(str(path), np.zeros((80, 80, 3), np.uint8))
    with pytest.raises(FacekdError, match="80"):
        call(bundle, f"image-folder:{tmp_path}/faces", "--out", tmp_path / "e.npz")
    assert not list(tmp_path.glob("e.npz*"))


def test_ctrl_c_then_the_same_command_gives_the_same_file(tmp_path: Path) -> None:
    """With a real model, signal and process."""
    from facekd.models.bundle import save_bundle
    from facekd.models.describe import describe
    from facekd.models.registry import create_model

    arguments = {"scale": 0.25, "blocks": [1, 1, 1, 1], "embedding_width": 16, "feature_channels": 32}
    model = create_model("mobilefacenet", **arguments)
    card = describe(model, kind="student", name="tiny", architecture="mobilefacenet", arguments=arguments)
    save_bundle(tmp_path / "bundle", model, card)
    command = [sys.executable, "-m", "facekd", "embed", tmp_path / "bundle", "synthetic:identities=4,images=3"]
    command += ["--batch-size", "2", "--threads", "1", "--out"]
    ran = subprocess.run([*command, tmp_path / "whole.npz"], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    strike = (  # once the first images are safe: their rows are there, and the state says so
        "import os, signal\nfrom facekd.cli import main\n"
        "from facekd.evaluation.embedding_parts import EmbeddingParts\n"
        "append = EmbeddingParts.append\n"
        "def struck(parts, *given):\n    append(parts, *given)\n    os.kill(os.getpid(), signal.SIGINT)\n"
        "EmbeddingParts.append = struck\nmain()\n"
    )
    words = [sys.executable, "-c", strike, *command[3:], tmp_path / "e.npz"]
    ran = subprocess.run(words, capture_output=True, text=True, check=False)
    said = ran.stderr
    assert ran.returncode == 130, said
    assert said.startswith("facekd: interrupted: ") and said.count("\n") == 1
    assert "of 12 images are kept in" in said
    ran = subprocess.run([*command, tmp_path / "e.npz"], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert (tmp_path / "e.npz").read_bytes() == (tmp_path / "whole.npz").read_bytes()
