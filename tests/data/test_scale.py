"""Many files as one source, a mapped index, remote files through a bounded cache, an order that is not stored."""

import json
import pickle
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import cv2
import fsspec
import numpy as np
import psutil
import pytest
import typer
from typer.testing import CliRunner

from facekd.benchmarks.studies.data_scale import WRITTEN, sparse_index
from facekd.cli import data as data_verbs
from facekd.common.errors import FacekdError, UsageError
from facekd.data import dataset, storage
from facekd.data.dataset import EpochSampler, make_loader
from facekd.data.index_writer import write_index
from facekd.data.opening import open_source
from facekd.data.permutation import Permutation
from facekd.data.record_writer import RecordWriter
from facekd.data.source import Source, UnreadableImage
from facekd.data.sources.record_index import IndexedRecords
from facekd.data.sources.records import RecordReader
from facekd.data.storage import LocalBytes, RemoteBytes


def png(seed: int) -> bytes:
    image = cv2.resize(np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8), (112, 112))
    return cv2.imencode(".png", image)[1].tobytes()


@pytest.fixture
def shards(tmp_path: Path) -> list[Path]:
    """Three files of 4, 6 and 5 images; people 3 and 40 are in two of them."""
    people = ([3, 3, 40, 40], [5, 5, 5, 40, 40, 40], [3, 3, 7, 7, 7])
    paths, seed = [], 0
    for number, labels in enumerate(people):
        paths.append(tmp_path / "shards" / f"train-{number}.rec")
        with RecordWriter(paths[-1]) as writer:
            for label in labels:
                writer.write(label, png(seed))
                seed += 1
    return paths


def test_an_index_is_its_files_one_after_the_other(shards: list[Path], tmp_path: Path) -> None:
    summary = write_index(shards, tmp_path / "all.faces")
    source = open_source(tmp_path / "all.faces")
    assert isinstance(source, Source)
    assert (summary["images"], summary["identities"], summary["files"]) == (15, 4, 3)
    readers = [RecordReader(path) for path in shards]
    i = 0
    for path, reader in zip(shards, readers, strict=True):
        for j in range(len(reader)):
            assert source.key(i) == f"{path.name}:{reader.key(j)}"
            np.testing.assert_array_equal(source.read(i), reader.read(j))
            assert source.label_values[source.labels[i]] == reader.label_values[reader.labels[j]]
            i += 1
    assert (i, source.num_identities) == (len(source), 4)
    assert source.fingerprint() == summary["fingerprint"]
    few = open_source(tmp_path / "all.faces", max_identities=2)
    assert len(few) == 4 + 3


def test_a_worker_maps_the_index_again(shards: list[Path], tmp_path: Path) -> None:
    write_index(shards, tmp_path / "all.faces")
    source = IndexedRecords(tmp_path / "all.faces")
    source.read(3)
    assert len(pickle.dumps(source)) < 3000, "arrays must not travel"
    copy = pickle.loads(pickle.dumps(source))
    assert isinstance(copy.labels, np.memmap)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        np.testing.assert_array_equal(pool.submit(source.read, 11).result(120), source.read(11))
    batches = list(make_loader(source, augmentation=None, batch_size=5, seed=0, workers=2))
    assert sorted(key for batch in batches for key in batch["keys"]) == sorted(source.key(i) for i in range(15))


def test_ten_million_records_open_in_no_memory_and_travel_as_a_path(tmp_path: Path) -> None:
    """Over a sparse file; `python -m facekd.benchmarks.studies.data_scale index` times the same."""
    records = 10_000_000
    path = sparse_index(tmp_path, records)
    before = psutil.Process().memory_info().rss
    source = open_source(path)
    assert len(source) == records
    assert psutil.Process().memory_info().rss - before < 20_000_000, "the arrays are 180 MB"
    for i in np.linspace(0, records - 1, WRITTEN).astype(np.int64)[::100]:
        assert source.read(int(i)).shape == (112, 112, 3)
    with pytest.raises(UnreadableImage, match=r"train\.rec:2: corrupt"):
        source.read(1)  # not one of those that are written
    assert len(pickle.dumps(source)) < 3000


def test_split_records_and_broken_ones(shards: list[Path], tmp_path: Path) -> None:
    magic = (0xCED7230A).to_bytes(4, "little")
    image = png(1) + b"\0" * (-(24 + len(png(1))) % 4) + magic + b"ab" + b"\0\0" + magic
    with RecordWriter(tmp_path / "split.rec") as writer:
        writer.write(0, image)
        writer.write(1, png(2))
    write_index([tmp_path / "split.rec"], tmp_path / "split.faces", size=None)
    source = IndexedRecords(tmp_path / "split.faces")
    assert source.encoded(0) == image
    data = bytearray((tmp_path / "split.rec").read_bytes())
    at = int(np.load(tmp_path / "split.faces" / "offsets.npy")[1])
    data[at] ^= 1
    (tmp_path / "split.rec").write_bytes(data)
    with pytest.raises(UnreadableImage, match=r"split\.rec:2: corrupt"):
        IndexedRecords(tmp_path / "split.faces").read(1)


def test_what_changed_or_is_damaged_is_refused(shards: list[Path], tmp_path: Path) -> None:
    index = tmp_path / "all.faces"
    write_index(shards, index)
    facts = json.loads((index / "index.json").read_text())

    def error(kind: type[FacekdError] = FacekdError) -> str:
        with pytest.raises(kind) as caught:
            open_source(index)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    for damage in ("{", "[]", "{}", json.dumps({**facts, "schema": 2}), json.dumps({**facts, "images": "many"})):
        (index / "index.json").write_text(damage)
        assert "index the files again" in error()
    escaping = [{**facts["files"][0], "name": "../../secret"}, *facts["files"][1:]]
    (index / "index.json").write_text(json.dumps({**facts, "files": escaping}))
    assert "not a plain file name" in error()
    (index / "index.json").write_text(json.dumps(facts))
    offsets = (index / "offsets.npy").read_bytes()
    for damage in (b"", offsets[:-1], b"x" * len(offsets)):
        (index / "offsets.npy").write_bytes(damage)
        assert "offsets.npy" in error()
    np.save(index / "offsets.npy", np.array([{}] * 15, dtype=object), allow_pickle=True)  # a pickle would run code
    assert "offsets.npy" in error()
    (index / "offsets.npy").write_bytes(offsets)
    with shards[1].open("ab") as file:
        file.write(b"\0" * 4)
    assert "train-1.rec has" in error()
    shards[1].unlink()
    assert "train-1.rec" in error(UsageError)
    with pytest.raises(UsageError, match=r"must end in \.faces"):
        write_index(shards, tmp_path / "index")
    with pytest.raises(UsageError, match="one name"):
        write_index([shards[0], shards[0]], tmp_path / "x.faces")
    with pytest.raises(UsageError, match="facekd data index"):
        open_source(tmp_path / "none.faces")


def test_remote_files_are_read_through_a_bounded_cache(
    shards: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "BLOCK_BYTES", 1000)
    memory = fsspec.filesystem("memory")
    for path in shards:
        memory.pipe(f"/faces/{path.name}", path.read_bytes())
    total = sum(path.stat().st_size for path in shards)
    index = tmp_path / "all.faces"
    write_index(shards, index, root="memory://faces")
    local = [RecordReader(path).read(i) for path in shards for i in range(len(RecordReader(path)))]
    for path in shards:
        path.unlink()
    cache = tmp_path / "cache"

    def size() -> int:
        return sum(file.stat().st_size for file in cache.iterdir())

    small = IndexedRecords(index, cache=cache, cache_bytes=5000)
    assert total > 3 * 5000, "the cache must be too small for the set"
    for i in np.random.default_rng(0).permutation(np.repeat(np.arange(15), 3)):
        np.testing.assert_array_equal(small.read(int(i)), local[i])
        assert size() <= 5000
    monkeypatch.setenv("FACEKD_RECORD_CACHE", str(cache))
    monkeypatch.setenv("FACEKD_RECORD_CACHE_BYTES", str(10 * total))
    large = open_source(index)
    for _ in range(3):
        for i in range(15):
            np.testing.assert_array_equal(large.read(i), local[i])
    fetched = sum(file.fetched_bytes for file in large._bytes)
    assert 0 < fetched <= total, "what is cached is not fetched again"
    for file in cache.iterdir():
        file.write_bytes(b"short")
    np.testing.assert_array_equal(open_source(index).read(4), local[4])
    copy = pickle.loads(pickle.dumps(large))
    np.testing.assert_array_equal(copy.read(9), local[9])

    memory.pipe("/faces/train-1.rec", b"other")
    with pytest.raises(FacekdError, match="has 5 bytes"):
        open_source(index)
    memory.rm("/faces/train-1.rec")
    with pytest.raises(UsageError, match=r"no file at memory://faces/train-1\.rec"):
        open_source(index)
    with pytest.raises(UsageError, match="unknownprotocol"):
        RemoteBytes("unknownprotocol://x/y", cache=cache)


def test_ranges_are_those_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "BLOCK_BYTES", 16)
    content = np.random.default_rng(0).bytes(100)
    (tmp_path / "file").write_bytes(content)
    fsspec.filesystem("memory").pipe("/ranges/file", content)
    files = [
        LocalBytes(tmp_path / "file"),
        RemoteBytes("memory://ranges/file", cache=tmp_path / "cache", cache_bytes=64),
        RemoteBytes(f"file://{tmp_path / 'file'}", cache=tmp_path / "cache", cache_bytes=64),
    ]
    for start in range(0, 101, 5):
        for end in (start, start + 1, start + 16, start + 33, 100, 130):
            assert [file.read(start, end) for file in files] == [content[start:end]] * 3


def test_a_cache_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    fsspec.filesystem("memory").pipe("/full/file", b"x" * 10)
    (tmp_path / "cache").touch()
    with pytest.raises(FacekdError, match="cannot write the cache"):
        RemoteBytes("memory://full/file", cache=tmp_path / "cache").read(0, 5)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 16, 17, 1000, 65_537])
def test_a_permutation_has_every_index_once(n: int) -> None:
    permutation = Permutation(n, 7, 3)
    order = permutation[np.arange(n)]
    assert sorted(order.tolist()) == list(range(n))
    assert [int(permutation[i]) for i in range(min(n, 5))] == order[:5].tolist()
    if n >= 1000:
        assert (Permutation(n, 7, 4)[np.arange(n)] != order).mean() > 0.99
        assert (order == np.arange(n)).mean() < 0.01


def test_a_permutation_is_as_even_as_a_shuffle() -> None:
    """Every position gets every tenth of the indices equally often, over keys; and neighbours are unrelated."""
    n, keys = 1000, 400
    orders = np.stack([Permutation(n, key)[np.arange(n)] for key in range(keys)])
    counts = np.stack([np.bincount(orders[:, at] // 100, minlength=10) for at in range(0, n, 7)])
    chi2 = ((counts - keys / 10) ** 2 / (keys / 10)).sum(axis=1)  # nine degrees of freedom: mean 9, std 4.2
    assert 8 < chi2.mean() < 10
    steps = np.diff(orders[0])
    assert abs(np.corrcoef(orders[0][1:], orders[0][:-1])[0, 1]) < 0.15
    assert len(np.unique(steps)) > n * 0.6


@pytest.mark.parametrize("ranks", [1, 3])
@pytest.mark.parametrize("shuffle", [True, False])
def test_a_computed_order_gives_every_image_once_and_resumes(
    ranks: int, shuffle: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset, "STORED_ORDER_BELOW", 100)
    monkeypatch.setattr(dataset, "_POSITIONS", 7)
    orders = []
    for rank in range(ranks):
        sampler = EpochSampler(101, seed=5, epoch=2, num_replicas=ranks, rank=rank, shuffle=shuffle)
        orders.append([i for _, i in sampler])
        sampler.set_epoch(2, 20)
        assert [i for _, i in sampler] == orders[-1][20:]
        assert len(sampler) == len(orders[-1]) - 20
    seen = [i for order in orders for i in order]
    assert len(set(seen)) == len(seen) == 101 // ranks * ranks
    if not shuffle:
        assert sorted(seen) == list(range(len(seen)))


def test_the_index_verb(shards: list[Path], tmp_path: Path) -> None:
    app = typer.Typer()
    data_verbs.register(app)
    arguments = ["data", "index", *map(str, shards), "--out", str(tmp_path / "all.faces")]
    result = CliRunner().invoke(app, [*arguments, "--json"])
    assert result.exit_code == 0, result.exception
    assert json.loads(result.stdout)["images"] == 15
    again = CliRunner().invoke(app, arguments)
    assert isinstance(again.exception, UsageError)
    shown = CliRunner().invoke(app, [*arguments, "--overwrite"])
    assert shown.exit_code == 0
    assert "identities" in shown.stdout
    inspected = CliRunner().invoke(app, ["data", "inspect", str(tmp_path / "all.faces"), "--json"])
    assert json.loads(inspected.stdout)["identities"] == 4
