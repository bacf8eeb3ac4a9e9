"""The loader: order, resuming, ranks, workers, broken images, flat memory."""

import gc
import multiprocessing
import os
import signal
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from facekd.common.errors import UsageError
from facekd.data.augmentation import AugmentationConfig
from facekd.data.dataset import EpochSampler, FaceDataset, _start_worker, make_loader
from facekd.data.decoding import encode_png
from facekd.data.opening import open_source
from facekd.data.record_writer import RecordWriter
from facekd.data.source import UnreadableImage

ALL = AugmentationConfig.model_validate(
    {kind: {"probability": 0.5} for kind in ("affine", "crop", "colour", "grey", "occlusion", "low_resolution", "jpeg")}
)


class Numbers:
    """Image i is filled with i; those in `bad` cannot be read."""

    def __init__(self, n: int, bad: tuple[int, ...] = ()) -> None:
        self.labels = np.arange(n, dtype=np.int64) % 3
        self.num_identities, self.name, self.bad = 3, "numbers", bad

    def __len__(self) -> int:
        return len(self.labels)

    def key(self, i: int) -> str:
        return f"k{i}"

    def read(self, i: int) -> np.ndarray:
        if i in self.bad:
            raise UnreadableImage(self.key(i), "spoiled")
        return np.random.default_rng(i).integers(0, 256, (16, 16, 3), dtype=np.uint8)

    def fingerprint(self) -> str:
        return "0"


def batches(**options: object) -> list[dict[str, object]]:
    arguments = {"augmentation": ALL, "batch_size": 5, "seed": 7, "workers": 0, **options}
    source = arguments.pop("source", None) or Numbers(23)
    return list(make_loader(source, **arguments))


def same(first: list[dict[str, object]], second: list[dict[str, object]]) -> bool:
    return len(first) == len(second) and all(
        torch.equal(a["images"], b["images"]) and torch.equal(a["labels"], b["labels"]) and a["keys"] == b["keys"]
        for a, b in zip(first, second, strict=True)
    )


def test_a_batch_holds_what_the_source_says() -> None:
    batch = batches(augmentation=None, shuffle=False)[1]
    assert batch["images"].dtype == torch.uint8 and batch["images"].shape == (5, 3, 16, 16)
    assert batch["keys"] == ["k5", "k6", "k7", "k8", "k9"]
    assert batch["labels"].dtype == torch.int64 and batch["labels"].tolist() == [2, 0, 1, 2, 0]
    np.testing.assert_array_equal(batch["images"][2].permute(1, 2, 0).numpy(), Numbers(23).read(7))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_change_nothing(method: str) -> None:
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method} here")
    # A source of the package: a spawned worker cannot import this file.
    source = open_source("synthetic:identities=2,images=6,seed=0")
    assert same(batches(source=source), batches(source=source, workers=2, context=method))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a spawned process cannot import this file")
def test_a_worker_whose_parent_was_killed_before_it_began_ends() -> None:
    reading, writing = os.pipe()
    parent = os.fork()
    if parent == 0:
        multiprocessing.get_context("fork").Process(target=_begin_as_an_orphan, args=(writing,)).start()
        os._exit(0)
    os.waitpid(parent, 0)
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        assert file.read() == b"left alone. "  # the end of the file: nobody holds the other end any more


def _begin_as_an_orphan(writing: int) -> None:
    parent = multiprocessing.parent_process()
    while parent is not None and os.getppid() == parent.pid:
        time.sleep(0.01)
    os.write(writing, b"left alone. ")
    _start_worker(0)
    os.write(writing, b"alive")


def test_resuming_mid_epoch_continues_with_the_same_batches() -> None:
    whole = batches(epoch=3)
    for done in range(5):
        assert same(batches(epoch=3, start_batch=done), whole[done:])


def test_a_sample_depends_only_on_seed_epoch_and_index() -> None:
    dataset, again = (
        FaceDataset(Numbers(9), augmentation=ALL, seed=1),
        FaceDataset(Numbers(9), augmentation=ALL, seed=1),
    )
    expected = {(epoch, i): dataset[epoch, i]["images"] for epoch in range(3) for i in range(9)}
    for index in reversed(list(expected)):
        assert torch.equal(again[index]["images"], expected[index])
    other = FaceDataset(Numbers(9), augmentation=ALL, seed=2)
    assert any(not torch.equal(other[index]["images"], image) for index, image in expected.items())
    assert any(not torch.equal(expected[0, i], expected[1, i]) for i in range(9))


def test_epochs_differ_and_each_sees_every_image() -> None:
    orders = [[i for _, i in EpochSampler(50, seed=3, epoch=epoch)] for epoch in range(4)]
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert len({tuple(order) for order in orders}) == 4
    assert [epoch for epoch, _ in EpochSampler(5, epoch=8)] == [8] * 5


@pytest.mark.parametrize(("n", "ranks"), [(23, 4), (24, 4), (7, 1), (5, 5)])
def test_ranks_share_an_epoch_without_overlap(n: int, ranks: int) -> None:
    parts = [[i for _, i in EpochSampler(n, seed=1, num_replicas=ranks, rank=rank)] for rank in range(ranks)]
    assert {len(part) for part in parts} == {n // ranks}
    flat = [i for part in parts for i in part]
    assert len(set(flat)) == len(flat)
    whole = [i for _, i in EpochSampler(n, seed=1)]
    assert [parts[k % ranks][k // ranks] for k in range(n // ranks * ranks)] == whole[: n // ranks * ranks]
    resumed = EpochSampler(n, seed=1, num_replicas=ranks, rank=0, start=1)
    assert [i for _, i in resumed] == parts[0][1:] and len(resumed) == len(parts[0]) - 1


def test_persistent_workers_follow_the_epoch() -> None:
    loader = make_loader(Numbers(23), augmentation=ALL, batch_size=5, seed=7, workers=2, epoch=0, start_batch=2)
    assert same(list(loader), batches(epoch=0)[2:])
    first = {worker.pid for worker in loader._iterator._workers}
    loader.sampler.set_epoch(1)
    assert same(list(loader), batches(epoch=1))
    assert {worker.pid for worker in loader._iterator._workers} == first


def test_broken_images_are_counted_not_hidden() -> None:
    seen = batches(source=Numbers(10, bad=(2, 5, 6, 7, 8, 9)), shuffle=False, workers=1)
    assert [len(batch["keys"]) for batch in seen] == [4, 0]
    assert seen[0]["broken"] == [("k2", "spoiled")] and len(seen[1]["broken"]) == 5
    assert seen[0]["images"].shape[0] == 4 and seen[1]["images"].shape[0] == seen[1]["labels"].shape[0] == 0


def test_images_of_several_sizes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    source = Numbers(10)
    monkeypatch.setattr(source, "read", lambda i: np.zeros((16, 16 + i, 3), np.uint8))
    with pytest.raises(UsageError, match="image k1 of numbers has another size"):
        batches(source=source, shuffle=False)


def test_the_last_batch_is_left_out_or_kept() -> None:
    assert [len(batch["keys"]) for batch in batches(drop_last=True)] == [5] * 4
    assert [len(batch["keys"]) for batch in batches(drop_last=False)] == [5, 5, 5, 5, 3]


@pytest.mark.parametrize(
    ("options", "message"),
    [({"batch_size": 0}, "at least 1"), ({"batch_size": 24}, "larger than the 23 images"), ({"seed": -1}, "seed"),
     ({"num_replicas": 2, "rank": 2}, "rank"), ({"workers": 1, "context": "thread"}, "unknown worker context")],
)  # fmt: skip
def test_impossible_loaders_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        batches(**options)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_workers_leave_stopping_to_the_loop(number: signal.Signals) -> None:
    loader = iter(make_loader(Numbers(400), augmentation=None, batch_size=5, seed=0, workers=1))
    next(loader)
    for worker in loader._workers:
        psutil.Process(worker.pid).send_signal(number)
    assert len(list(loader)) == 79


def test_a_worker_told_to_end_does_so_after_the_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("facekd.data.dataset._GRACE_SECONDS", 1)
    loader = iter(make_loader(Numbers(400), augmentation=None, batch_size=5, seed=0, workers=1))
    next(loader)
    (worker,) = loader._workers
    worker.terminate()
    with pytest.raises(RuntimeError, match="killed by signal: Alarm clock"):  # wherever the main thread is
        # Not join: it would take the exit status before torch's handler of SIGCHLD can read the signal from it.
        os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOWAIT)
        list(loader)


def test_memory_stays_flat_over_epochs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is 40 MB: neither an epoch's images nor the mapped file may add up in resident memory."""
    monkeypatch.setattr("facekd.data.recordio._RELEASE_AFTER_BYTES", 4 << 20)
    image = encode_png(np.random.default_rng(0).integers(0, 256, (112, 112, 3), dtype=np.uint8))
    with RecordWriter(tmp_path / "train.rec") as writer:
        for k in range(100):
            writer.write(k // 2, image + b"\0" * 400_000)
    assert (tmp_path / "train.rec").stat().st_size > 40_000_000
    dataset = FaceDataset(open_source(tmp_path), augmentation=AugmentationConfig(), seed=0)
    process, resident = psutil.Process(), []
    for epoch in range(8):
        for i in range(len(dataset)):
            assert dataset[epoch, i]["keys"] == [str(i + 1)]
        gc.collect()
        resident.append(process.memory_info().rss)
    assert max(resident) - resident[0] < 12_000_000
    assert np.median(resident[4:]) - np.median(resident[1:4]) < 4_000_000
