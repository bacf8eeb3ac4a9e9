"""Checkpoints under kills, full disks and bad disks."""

import errno
import hashlib
import os
import pickle
import resource
from pathlib import Path

import pytest
import torch

from facekd.common.errors import FacekdError
from facekd.training.checkpoint import CheckpointStore


def state(step: int) -> dict[str, object]:
    return {"weights": torch.full((50_000,), float(step)), "step": step}


@pytest.fixture
def warnings() -> list[str]:
    return []


@pytest.fixture
def store(tmp_path: Path, warnings: list[str]) -> CheckpointStore:
    return CheckpointStore(tmp_path / "checkpoints", keep_last=2, warn=warnings.append)


def test_the_newest_comes_back_and_its_name_is_its_hash(store: CheckpointStore) -> None:
    store.save(state(9), step=9)
    store.save(state(10), step=10)
    loaded = store.load_newest()
    assert loaded is not None
    file, content = loaded
    assert file.step == content["step"] == 10
    assert torch.equal(content["weights"], torch.full((50_000,), 10.0))
    assert hashlib.sha256(file.path.read_bytes()).hexdigest().startswith(file.digest)
    assert CheckpointStore(store.folder.parent / "nowhere").load_newest() is None


def test_keeps_the_last_and_the_best(store: CheckpointStore) -> None:
    for step in range(1, 7):
        store.save(state(step), step=step, best_step=2 if step >= 2 else None)
    assert [file.step for file in store.list()] == [2, 5, 6]
    store.save(state(7), step=7, best_step=7)
    assert [file.step for file in store.list()] == [6, 7]


@pytest.mark.parametrize("damage", ["truncated", "flipped", "emptied"])
def test_a_damaged_newest_falls_back_and_says_so(store: CheckpointStore, warnings: list[str], damage: str) -> None:
    store.save(state(1), step=1)
    path = store.save(state(2), step=2).path
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes({"truncated": content[:1000], "flipped": bytes(content), "emptied": b""}[damage])
    loaded = store.load_newest()
    assert loaded is not None
    assert loaded[1]["step"] == 1
    assert len(warnings) == 1
    assert path.name in warnings[0]
    assert "damaged" in warnings[0]


def test_all_damaged_is_an_error_not_a_fresh_start(store: CheckpointStore) -> None:
    store.save(state(1), step=1).path.write_bytes(b"")
    with pytest.raises(FacekdError, match="every checkpoint"):
        store.load_newest()


def test_a_full_disk_leaves_the_old_checkpoint(store: CheckpointStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.save(state(1), step=1)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(FacekdError, match="No space left on device; that of step 1 is intact"):
            store.save(state(2), step=2)
    assert [path.name for path in store.folder.iterdir()] == [store.list()[0].path.name]
    loaded = store.load_newest()
    assert loaded is not None
    assert loaded[1]["step"] == 1


def test_a_write_that_really_fails_half_way_leaves_the_old_checkpoint(store: CheckpointStore) -> None:
    store.save(state(1), step=1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))  # the kernel refuses the file's later half
    try:
        with pytest.raises(FacekdError, match="not written"):
            store.save(state(2), step=2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [file.step for file in store.list()] == [1]
    assert len(list(store.folder.iterdir())) == 1
    store.save(state(2), step=2)
    assert [file.step for file in store.list()] == [1, 2]


def test_what_a_kill_left_half_written_is_no_checkpoint(store: CheckpointStore) -> None:
    file = store.save(state(1), step=1)
    (store.folder / ".writing-4711").write_bytes(file.path.read_bytes()[:500])
    assert [file.step for file in store.list()] == [1]
    store.clean()
    assert len(list(store.folder.iterdir())) == 1


def save_folder(store: CheckpointStore, step: int) -> Path:
    """A checkpoint of two ranks, whose rows are a few bytes."""
    store.temporary.mkdir(parents=True)
    rows = {f"shard-{rank}.safetensors": bytes([step, rank]) * 100 for rank in (1, 2)}
    for name, content in rows.items():
        (store.temporary / name).write_bytes(content)
    ranks = {name: hashlib.sha256(content).hexdigest() for name, content in rows.items()}
    return store.save(state(step), step=step, ranks=ranks).path


def test_a_checkpoint_of_several_ranks_is_a_folder_among_the_others(store: CheckpointStore) -> None:
    store.save(state(1), step=1)
    folder = save_folder(store, 2)
    loaded = store.load_newest()
    assert loaded is not None
    file, content = loaded
    assert (file.folder, content["step"]) == (folder, 2)
    assert hashlib.sha256((folder / "state.pt").read_bytes()).hexdigest().startswith(file.digest)
    save_folder(store, 3)
    save_folder(store, 4)
    assert [file.step for file in store.list()] == [3, 4]
    assert len(list(store.folder.iterdir())) == 2
    (store.temporary / "shard").mkdir(parents=True)
    store.clean()
    assert len(list(store.folder.iterdir())) == 2


@pytest.mark.parametrize("damage", ["truncated", "missing", "added", "state"])
def test_a_folder_with_one_bad_file_falls_back(store: CheckpointStore, warnings: list[str], damage: str) -> None:
    save_folder(store, 1)
    folder = save_folder(store, 2)
    rows, whole = folder / "shard-2.safetensors", folder / "state.pt"
    if damage == "missing":
        rows.unlink()
    elif damage == "added":
        (folder / "shard-3.safetensors").write_bytes(b"")
    else:
        path = rows if damage == "truncated" else whole
        path.write_bytes(path.read_bytes()[:-1])
    loaded = store.load_newest()
    assert loaded is not None
    assert loaded[0].step == 1
    assert len(warnings) == 1
    assert folder.name in warnings[0]
    assert "damaged" in warnings[0]


def test_a_checkpoint_cannot_run_code(store: CheckpointStore, tmp_path: Path) -> None:
    class Malicious:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {tmp_path / 'pwned'}",)

    store.save({"step": 1, "payload": Malicious()}, step=1)
    with pytest.raises(FacekdError, match="cannot be read safely"):
        store.load(store.list()[0])
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04" + b"\xff" * 100, pickle.dumps([1, 2])])
def test_what_is_no_checkpoint_is_refused_in_one_line(store: CheckpointStore, content: bytes) -> None:
    name = f"step-00000001-{hashlib.sha256(content).hexdigest()[:16]}.pt"  # as a forger would seal it
    store.folder.mkdir(parents=True, exist_ok=True)
    (store.folder / name).write_bytes(content)
    with pytest.raises(FacekdError, match=r"checkpoint .*(cannot be read|is not one of facekd's)") as caught:
        store.load(store.list()[0])
    assert "\n" not in str(caught.value)
