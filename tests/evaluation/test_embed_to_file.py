"""Embeddings into a file in parts: a kill at any change to a file, or a full disk, costs a part and no byte differs."""

import json
import os
import resource
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from facekd.common.errors import FacekdError, Interrupted, UsageError
from facekd.common.writing import WriteError
from facekd.data.source import UnreadableImage
from facekd.evaluation import embed_files
from facekd.evaluation.embed_files import Embedded, embed_to_file
from facekd.evaluation.embedding import embed_images
from facekd.schemas.input_spec import InputSpec
from tests.faults.children import run_child
from tests.faults.disk import can_mount, small_disk

SUFFIXES = (".npz", ".csv", ".jsonl")


class Noise:
    """Made-up images of 16x16, every seventh unreadable; people of three images each."""

    def __init__(self, count: int = 90, *, seed: int = 0, labelled: bool = True) -> None:
        self.count, self.seed = count, seed
        self.labels = np.arange(count) // 3 if labelled else None
        self.passed_over = [("notes.txt", "not an image")]

    def __len__(self) -> int:
        return self.count

    def name(self, i: int) -> str:
        return f"set:{i}"

    def read(self, i: int) -> np.ndarray:
        if i % 7 == 6:
            raise UnreadableImage(str(i), "damaged")
        return np.random.default_rng((self.seed, i)).integers(0, 256, (16, 16, 3), dtype=np.uint8)

    def fingerprint(self) -> str:
        return f"noise {self.count} {self.seed}"


class Means:
    """Embedding: the images' sums over columns, [b, 48]."""

    input = InputSpec(size=(16, 16))
    embedding_width = 48

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        return images.float().sum(2).flatten(1)


def embed(out: Path, images: Any = None, **options: Any) -> Embedded:
    options = {"facts": {"model": "a"}, "batch_size": 2, **options}
    return embed_to_file(Means(), Noise() if images is None else images, out, **options)


def expected(images: Noise) -> tuple[list[int], np.ndarray]:
    """By the definition: f(x) + f(flip(x)), of unit length."""
    kept = [i for i in range(len(images)) if i % 7 != 6]
    pixels = np.stack([images.read(i) for i in kept]).astype(np.float64)
    sums = (pixels + pixels[:, :, ::-1]).sum(1).transpose(0, 2, 1).reshape(len(kept), -1)
    return kept, sums / np.linalg.norm(sums, axis=1, keepdims=True)


def test_the_file_holds_what_the_definition_says(tmp_path: Path) -> None:
    images = Noise()
    told = embed(tmp_path / "e.npz", images)
    kept, values = expected(images)
    with np.load(tmp_path / "e.npz") as file:
        assert file["paths"].tolist() == [f"set:{i}" for i in kept]
        assert file["labels"].tolist() == [i // 3 for i in kept]
        assert file["embeddings"].dtype == np.float32
        np.testing.assert_allclose(file["embeddings"], values, atol=1e-6)
    assert told.embedded == len(kept)
    assert told.skipped == [(f"set:{i}", "damaged") for i in range(6, 90, 7)] + [("notes.txt", "not an image")]
    assert [path.name for path in tmp_path.iterdir()] == ["e.npz"]


def test_npz_is_what_numpy_writes(tmp_path: Path) -> None:
    embed(tmp_path / "e.npz")
    with np.load(tmp_path / "e.npz") as file:
        np.savez(tmp_path / "n.npz", **{name: file[name] for name in ("embeddings", "paths", "labels")})
    with zipfile.ZipFile(tmp_path / "e.npz") as ours, zipfile.ZipFile(tmp_path / "n.npz") as numpys:
        assert ours.namelist() == numpys.namelist()
        for name in ours.namelist():
            assert ours.read(name) == numpys.read(name)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_kill_at_any_change_is_gone_on_from_and_gives_the_same_bytes(tmp_path: Path, suffix: str) -> None:
    whole = tmp_path / f"whole{suffix}"
    ended = run_child(lambda: embed(whole, Noise(40)) and None, limit_s=60)
    assert ended.how == "done", ended.said
    gone_on = 0
    for moment in range(1, ended.operations + 1):
        place = tmp_path / str(moment)
        place.mkdir()
        out = place / f"e{suffix}"
        killed = run_child(lambda: embed(out, Noise(40)) and None, limit_s=60, kill_at=moment)  # noqa: B023
        assert killed.how == "killed"
        if not out.exists():
            state = place / f"e{suffix}.parts" / "state.json"
            done = json.loads(state.read_text())["done"] if state.exists() else 0
            assert embed(out, Noise(40)).before == done
            gone_on += done > 0
        else:  # killed while the parts were taken away
            embed(out, Noise(40), overwrite=True)
        assert out.read_bytes() == whole.read_bytes()
        assert [path.name for path in place.iterdir()] == [out.name]
    assert gone_on > 5


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("limit", [300, 1_000, 5_000, 9_000])
def test_a_disk_that_fills_up_keeps_what_was_computed(tmp_path: Path, suffix: str, limit: int) -> None:
    embed(tmp_path / f"whole{suffix}")
    out = tmp_path / f"e{suffix}"
    ended = run_child(lambda: embed(out) and None, limit_s=60, file_limit=limit)
    assert ended.how == "refused"
    assert "cannot write" in ended.said and "too large" in ended.said and "\n" not in ended.said
    kept = tmp_path / f"e{suffix}.parts"
    assert not out.exists()
    assert kept.exists() == ("images are kept in" in ended.said) == (limit > 1_000)
    assert (embed(out).before > 0) == kept.exists() or not kept.exists()
    assert out.read_bytes() == (tmp_path / f"whole{suffix}").read_bytes()


def test_a_disk_too_small_is_noticed_before_anything_is_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embed_files, "embed_images", lambda *_, **__: pytest.fail("computed"))
    images = Noise(2_000_000)
    if can_mount(tmp_path):
        with small_disk(tmp_path / "disk", 2**20) as disk:
            with pytest.raises(WriteError, match=r"about [\d.]+ MB are needed and 1\.0 MB are free"):
                embed(disk / "e.npz", images)
            assert not list(disk.iterdir())
    monkeypatch.setattr("shutil.disk_usage", lambda place: type("Usage", (), {"free": 4096})())
    for suffix in SUFFIXES:
        with pytest.raises(WriteError, match=r"cannot write 2,000,000 embeddings at .*: about .* are needed"):
            embed(tmp_path / f"e{suffix}", images)
    assert not list(tmp_path.glob("e*"))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_estimate_of_the_space_is_near(tmp_path: Path, suffix: str) -> None:
    from facekd.evaluation.embedding_files import estimated_bytes

    images = Noise(500)
    told = embed(tmp_path / f"e{suffix}", images)
    size = (tmp_path / f"e{suffix}").stat().st_size
    estimate = estimated_bytes(suffix, images=told.embedded, width=48, name_length=len("set:499"))
    assert 0.95 * size < estimate < 1.4 * size


def interrupted_after(parts: int) -> Callable[..., np.ndarray]:
    calls: list[int] = []

    def interrupted(*given: Any, **named: Any) -> np.ndarray:
        calls.append(1)
        if len(calls) > parts:
            raise KeyboardInterrupt
        return embed_images(*given, **named)

    return interrupted


def test_ctrl_c_says_what_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "e.npz"
    with monkeypatch.context() as patch:
        patch.setattr(embed_files, "embed_images", interrupted_after(0))
        with pytest.raises(Interrupted, match="interrupted: nothing was computed yet"):
            embed(out)
        assert not list(tmp_path.iterdir())
        patch.setattr(embed_files, "embed_images", interrupted_after(2))
        with pytest.raises(Interrupted, match=r"32 of 90 images are kept in .*e\.npz\.parts"):
            embed(out)
    assert embed(out).before == 32


CHANGES: dict[str, dict[str, Any]] = {
    "model": {"facts": {"model": "b"}},
    "set of images": {"images": Noise(seed=1)},
    "--batch-size": {"batch_size": 3},
    "--flip": {"flip": False},
    "--raw": {"normalise": False},
    "--detector": {"facts": {"model": "a", "--detector": "f" * 64}},
}


@pytest.mark.parametrize("what", CHANGES)
def test_parts_of_another_run_are_refused_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    out = tmp_path / "e.npz"
    with monkeypatch.context() as patch:
        patch.setattr(embed_files, "embed_images", interrupted_after(2))
        with pytest.raises(Interrupted):
            embed(out)
    before = {path.name: path.read_bytes() for path in (tmp_path / "e.npz.parts").iterdir()}
    with pytest.raises(UsageError, match=rf"holds 32 of 90 images, embedded with another {what}: ") as refused:
        embed(out, **CHANGES[what])
    assert "\n" not in str(refused.value)
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "e.npz.parts").iterdir()}
    assert embed(out, **CHANGES[what], overwrite=True).before == 0
    other = tmp_path / "other.npz"
    embed(other, **CHANGES[what])
    assert out.read_bytes() == other.read_bytes()


def test_a_file_of_the_users_among_the_parts_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, thesis = tmp_path / "e.npz", tmp_path / "e.npz.parts" / "thesis.txt"
    thesis.parent.mkdir()
    thesis.write_text("precious")
    for overwrite in (False, True):
        with pytest.raises(UsageError, match="never replaced"):
            embed(out, overwrite=overwrite)
    thesis.rename(tmp_path / "thesis.txt")
    with monkeypatch.context() as patch:
        patch.setattr(embed_files, "embed_images", interrupted_after(2))
        with pytest.raises(Interrupted):
            embed(out)
    (tmp_path / "thesis.txt").rename(thesis)
    with pytest.raises(UsageError, match=r"'thesis\.txt', which facekd did not write"):
        embed(out)
    assert thesis.read_text() == "precious"


def test_damaged_parts_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "e.npz"
    with monkeypatch.context() as patch:
        patch.setattr(embed_files, "embed_images", interrupted_after(2))
        with pytest.raises(Interrupted):
            embed(out)
    os.truncate(tmp_path / "e.npz.parts" / "embeddings.f32", 100)
    with pytest.raises(UsageError, match=r"is damaged \(embeddings\.f32 is shorter"):
        embed(out)
    assert embed(out, overwrite=True).before == 0


def test_two_at_once_do_not_mix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "e.npz"

    def second(*given: Any, **named: Any) -> np.ndarray:
        monkeypatch.undo()
        with pytest.raises(FacekdError, match="another process is computing these embeddings"):
            embed(out)
        return embed_files.embed_images(*given, **named)

    monkeypatch.setattr(embed_files, "embed_images", second)
    assert embed(out).embedded == 78


class Wide(Means):
    """Embedding: the same, a hundred times."""

    embedding_width = 4800

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        return super().__call__(images).repeat(1, 100)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_images(tmp_path: Path) -> None:
    """2,300 of these embeddings are 44 MB."""

    def bounded() -> None:
        for suffix in (".npz", ".csv"):
            embed_to_file(Wide(), Noise(200), tmp_path / f"warm{suffix}", facts={}, batch_size=8)
        used = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmData"))
        limit = int(used.split()[1]) * 1024 + 40 * 2**20
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
        for suffix in (".npz", ".csv"):
            embed_to_file(Wide(), Noise(2_700), tmp_path / f"e{suffix}", facts={}, batch_size=8)

    ended = run_child(bounded, limit_s=120)
    assert ended.how == "done", ended.said + ended.output
