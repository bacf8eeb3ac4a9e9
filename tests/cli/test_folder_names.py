"""Folders named in GBK or Latin-1, as unzipped from a Windows archive: read, trained on and embedded like any other."""

import csv
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from facekd.cli import main
from facekd.common.table import Table
from facekd.common.text import encodable, plain
from facekd.data.decoding import encode_png
from facekd.data.opening import open_source
from facekd.evaluation.embed_inputs import ImageFileList
from facekd.evaluation.embedding_files import EmbeddingTable, write_csv, write_jsonl, write_npz

NAMES = (bytes.fromhex("d5c5cea3"), b"M\xfcller", b"plain")

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    """Four drawn faces of each of three people."""
    drawn = open_source("synthetic:identities=3,images=4")
    base = os.fsencode(tmp_path / "faces")
    for i in range(len(drawn)):
        folder = base + b"/" + NAMES[int(drawn.labels[i])]
        Path(os.fsdecode(folder)).mkdir(parents=True, exist_ok=True)
        Path(os.fsdecode(folder), f"{i % 4}.png").write_bytes(encode_png(drawn.read(i)))
    return tmp_path / "faces"


def run(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr(sys, "argv", ["facekd", *map(str, words)])
    with pytest.raises(SystemExit) as stop:
        main()
    return int(stop.value.code or 0)


@pytest.mark.parametrize("moved", [False, True], ids=["people", "the set itself"])
def test_inspect_and_train(moved: bool, faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if moved:
        faces = faces.rename(faces.with_name(os.fsdecode(NAMES[0])))
    assert run(monkeypatch, "data", "inspect", faces) == 0
    assert run(monkeypatch, "data", "inspect", faces, "--json") == 0
    tiny = '{"scale": 0.25, "mid_multiplier": 0.125, "blocks": [1, 1, 1, 1], "feature_channels": 16}'
    settings = ["training.max_steps=2", "training.batch_size=4", "data.workers=0", "training.precision=fp32"]
    settings += [
        "evaluation.report=[]",
        "evaluation.dev=null",
        f"model.arguments={tiny}",
        "training.channels_last=false",
    ]
    words = [word for setting in settings for word in ("--set", setting)]
    assert run(monkeypatch, "train", "quickstart-undistilled", "--data", faces, "--out", tmp_path / "run", *words) == 0
    assert json.loads((tmp_path / "run" / "result.json").read_text(encoding="utf-8"))


def test_embeddings_are_written_with_the_names_escaped(faces: Path, tmp_path: Path) -> None:
    paths = ImageFileList([faces]).paths
    result = EmbeddingTable(paths=[str(path) for path in paths], embeddings=np.eye(12, dtype=np.float32))
    write_csv(tmp_path / "e.csv", result, overwrite=False)
    write_jsonl(tmp_path / "e.jsonl", result, overwrite=False)
    write_npz(tmp_path / "e.npz", result, overwrite=False)
    with (tmp_path / "e.csv").open(encoding="utf-8", newline="") as file:
        written = [row[0] for row in csv.reader(file)][1:]
    assert written == [encodable(str(path)) for path in paths]
    assert len(set(written)) == 12 and sum("\\udc" in name for name in written) == 8
    lines = (tmp_path / "e.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["path"] for line in lines] == [str(path) for path in paths]


def test_tables_and_plain_text_can_be_encoded(faces: Path) -> None:
    name = os.fsdecode(NAMES[1])
    for text in (Table(["name"], [[name]]).markdown(), encodable(name), plain(name)):
        assert "\\udcfc" in text.encode("utf-8").decode("utf-8")
