"""What a stranger may hand over: each kind of file that facekd reads, a whole one, and how it is read to its end."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from facekd.common.errors import FacekdError

MODEL = {
    "scale": 0.125,
    "mid_multiplier": 0.125,
    "blocks": [1, 1, 1, 1],
    "feature_channels": 16,
    "embedding_width": 16,
    "activation": "relu",
}
"""Arguments of a MobileFaceNet that takes a millisecond."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """One kind of file.

    Attributes:
        folder: where the whole one lies, with what belongs to it.
        file: its name in `folder`.
        read: reads everything in such a folder.
        form: "json", "yaml" or "lines" where it is text with a structure.
        seal: makes hashes elsewhere agree with the file's content, as somebody who forges it would.
        scan: bytes at the beginning that decide most.
    """

    name: str
    folder: Path
    file: str
    read: Callable[[Path], object]
    form: str | None = None
    seal: Callable[[Path], None] = lambda folder: None
    scan: int = 64


def build_targets(folder: Path) -> list[Target]:
    """Writes a whole one of every kind below `folder`."""
    faces = _faces(folder / "faces")
    bundle = make_bundle(folder / "bundle")
    artefact = make_artefact(bundle, folder / "artefact")
    return [
        Target(name="record file", folder=faces, file="train.rec", read=_read_faces),
        Target(name="record index", folder=faces, file="train.idx", read=_read_faces, form="lines"),
        Target(name=".bin pairs", folder=_pairs(folder / "pairs"), file="set.bin", read=_read_pairs),
        Target(name="recipe", folder=_recipe(folder / "recipe"), file="recipe.yaml", read=_read_recipe, form="yaml"),
        Target(name="card", folder=bundle, file="card.json", read=_read_bundle, form="json"),
        Target(name="weights", folder=bundle, file="model.safetensors", read=_read_bundle, seal=_seal_bundle, scan=512),
        Target(name="manifest", folder=artefact, file="manifest.json", read=_read_artefact, form="json"),
        Target(name="golden embedding", folder=artefact, file="golden/embedding.json", read=_read_artefact, form="json",
               seal=_seal_artefact),
        Target(name="checkpoint", folder=_checkpoint(folder / "run"), file="step-00000003.pt", read=_read_checkpoint,
               seal=_seal_checkpoint),
        Target(name="benchmark record", folder=_records(folder / "records"), file="r.jsonl", read=_read_records,
               form="json"),
    ]  # fmt: skip


def make_bundle(folder: Path, *, seed: int = 0, kind: Literal["student", "teacher"] = "student") -> Path:
    """A small network with random weights."""
    from facekd.models.bundle import save_bundle
    from facekd.models.describe import describe
    from facekd.models.registry import create_model

    torch.manual_seed(seed)
    model = create_model("mobilefacenet", **MODEL)
    card = describe(model, kind=kind, name="tiny", architecture="mobilefacenet", arguments=MODEL)
    return save_bundle(folder, model, card)


def make_artefact(bundle: Path, out: Path) -> Path:
    """The same as ONNX, float32."""
    from tests.faults.children import call_verb, run_child

    ended = run_child(call_verb("export", bundle, "--target", "onnx", "--out", out), limit_s=300)
    if ended.how != "done":
        raise FacekdError(f"the export that the faults start from failed: {ended.output[-300:]}")
    return out


def _faces(folder: Path) -> Path:
    from facekd.data.packing import pack_records
    from facekd.data.sources.synthetic import SyntheticSource

    pack_records(SyntheticSource(identities=3, images=4, seed=0), folder)
    return folder


def _read_faces(folder: Path) -> None:
    from facekd.data.sources.records import RecordReader

    reader = RecordReader(folder)
    for _ in reader.check():
        pass
    reader.fingerprint()


def _pairs(folder: Path) -> Path:
    from facekd.data.opening import load_verification_set
    from facekd.data.verification_bin import write_bin

    write_bin(folder / "set.bin", load_verification_set("synthetic:identities=4,pairs=6"))
    return folder


def _read_pairs(folder: Path) -> None:
    from facekd.data.opening import load_verification_set
    from facekd.data.source import UnreadableImage

    pairs = load_verification_set(folder / "set.bin")
    pairs.fingerprint()
    for i in range(pairs.num_images):
        try:
            pairs.image(i)
        except UnreadableImage:
            continue


def _recipe(folder: Path) -> Path:
    from importlib.resources import files

    folder.mkdir(parents=True)
    text = files("facekd.recipes").joinpath("quickstart-distilled.yaml").read_text(encoding="utf-8")
    (folder / "recipe.yaml").write_text(text, encoding="utf-8")
    return folder


def _read_recipe(folder: Path) -> None:
    from facekd.recipe import load_recipe

    load_recipe(str(folder / "recipe.yaml"), []).hash()


def _read_bundle(folder: Path) -> None:
    from facekd.models.bundle import load_bundle

    bundle = load_bundle(folder)
    height, width = bundle.card.input.size
    if height * width <= 512 * 512:  # a card may say any size; an image of it is the caller's to make
        bundle.embed(torch.zeros(1, 3, height, width, dtype=torch.uint8))


def _seal_bundle(folder: Path) -> None:
    from facekd.common.hashing import file_sha256

    card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    card["sha256"] = file_sha256(folder / "model.safetensors")
    (folder / "card.json").write_text(json.dumps(card), encoding="utf-8")


def _read_artefact(folder: Path) -> None:
    from facekd.benchmarks.subject import find_subjects
    from facekd.schemas.manifest import read_manifest, verify_files

    verify_files(folder, read_manifest(folder))
    (subject,) = find_subjects([folder])
    subject.golden()
    subject.make_input(1)
    subject.embedder(threads=1)


def _seal_artefact(folder: Path) -> None:
    from facekd.schemas.manifest import hash_files

    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    manifest["files"] = hash_files(folder)
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


def _checkpoint(folder: Path) -> Path:
    folder.mkdir(parents=True)
    generator = torch.Generator().manual_seed(0)
    state = {"model": {"w": torch.randn(8, 8, generator=generator)}, "step": 3, "losses": [0.5, 0.25], "name": "tiny"}
    torch.save(state, folder / "step-00000003.pt")
    return folder


def _read_checkpoint(folder: Path) -> None:
    from facekd.training.checkpoint import CheckpointStore

    CheckpointStore(folder, warn=lambda line: None).load_newest()


def _seal_checkpoint(folder: Path) -> None:
    """A checkpoint's name holds the beginning of its sha256; a forger would write it so."""
    from facekd.common.hashing import file_sha256

    for path in folder.glob("step-*-*.pt"):
        path.unlink()
    path = folder / "step-00000003.pt"
    shutil.copyfile(path, folder / f"step-00000003-{file_sha256(path)[:16]}.pt")


def _records(folder: Path) -> Path:
    from facekd.schemas.record import append_record
    from tests.faults.sample import sample_record

    append_record(folder / "r.jsonl", sample_record())
    return folder


def _read_records(folder: Path) -> None:
    from facekd.benchmarks.record_table import COLUMNS, records_table
    from facekd.benchmarks.report.page import page_data
    from facekd.schemas.record import read_records

    found = read_records(folder / "r.jsonl")
    records_table(found, list(COLUMNS)).markdown()
    json.dumps(page_data(found), allow_nan=False)


def plain(name: str) -> str:
    """A target's name as a folder's."""
    return re.sub(r"\W+", "-", name).strip("-")
