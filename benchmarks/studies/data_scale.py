"""What reading faces costs at scale: an index of ten million records, an order of 42 million, a loader.

    python -m facekd.benchmarks.studies.data_scale [index order loader] [--records 10000000] [--data FACES] [--json]

The index is of that many entries; its .rec is a sparse file in which a thousand records are written. Each piece runs in
a process of its own, so that memory is its own; memory is what the process has more than before it began.
"""

import argparse
import itertools
import json
import os
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from facekd.common.printing import print_json
from facekd.common.table import Table
from facekd.data.dataset import EpochSampler, FaceDataset
from facekd.data.index_writer import write_index
from facekd.data.opening import open_source
from facekd.data.record_writer import RecordWriter
from facekd.data.recordio import LENGTH_MASK, MAGIC_BYTES
from facekd.data.source import Source
from facekd.data.sources.record_index import ARRAYS, SCHEMA, IndexedRecords
from facekd.data.sources.records import RecordReader
from facekd.recipe.augmentation import AugmentationConfig
from facekd.training.log import resident_mib

SPACING = 16384  # bytes between two records of the sparse file
WRITTEN = 1000


def index(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Opening an index, reading through it, and what it costs a worker."""
    path = sparse_index(folder, options.records)
    IndexedRecords(path)  # imports and page cache are no part of it
    before, start, start_cpu = resident_mib() or 0.0, time.perf_counter(), time.process_time()
    source = IndexedRecords(path)
    opened = {"seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - start_cpu}
    after_open = (resident_mib() or 0.0) - before
    positions = np.linspace(0, options.records - 1, WRITTEN).astype(np.int64)
    start_cpu = time.process_time()
    for i in positions:
        source.read(int(i))
    read_cpu = time.process_time() - start_cpu
    travels = pickle.dumps(source)
    start_cpu = time.process_time()
    pickle.loads(travels)
    return {
        "records": options.records,
        "open_seconds": opened["seconds"],
        "open_cpu_seconds": opened["cpu_seconds"],
        "open_mib": after_open,
        "mib_after_1000_random_reads": (resident_mib() or 0.0) - before,
        "cpu_us_a_read_decoded": 1e6 * read_cpu / WRITTEN,
        "bytes_sent_to_a_worker": len(travels),
        "worker_open_cpu_seconds": time.process_time() - start_cpu,
    }


def order(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """A shuffled epoch of 42 million: time to the first sample, a sample's cost, memory."""
    before, start_cpu = resident_mib() or 0.0, time.process_time()
    samples = iter(EpochSampler(42_000_000, seed=0, epoch=1))
    next(samples)
    first = time.process_time() - start_cpu
    start_cpu, count = time.process_time(), 1_000_000
    for _ in itertools.islice(samples, count):
        pass
    return {
        "samples": 42_000_000,
        "first_sample_cpu_seconds": first,
        "cpu_ns_a_sample": 1e9 * (time.process_time() - start_cpu) / count,
        "mib": (resident_mib() or 0.0) - before,
    }


def loader(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Images a second of one core: decoding JPEG alone, and batches of each kind of source in the same process."""
    plain = open_source(options.data) if options.data else RecordReader(drawn(folder, 2000))
    if not isinstance(plain, RecordReader):
        raise SystemExit("--data: give a .rec file, or a folder that holds train.rec")
    count = min(len(plain), 2000)
    write_index([plain.path], folder / "local.faces")
    sources: dict[str, Source] = {
        "one .rec": plain,
        "index, local": IndexedRecords(folder / "local.faces"),
        "index, remote, cached": IndexedRecords(
            folder / "local.faces", root=f"file://{plain.path.resolve().parent}", cache=folder / "cache"
        ),
    }
    cv2.setNumThreads(0)
    encoded = [np.frombuffer(plain.encoded(i), np.uint8) for i in range(count)]
    positions = np.random.default_rng(0).permutation(count).tolist()

    def decode(chosen: list[int]) -> None:
        for i in chosen:
            cv2.imdecode(encoded[i], cv2.IMREAD_COLOR)

    def batches(source: Source, augmentation: AugmentationConfig | None = None) -> Callable[[list[int]], object]:
        dataset = FaceDataset(source, augmentation=augmentation)
        return lambda chosen: dataset.__getitems__([(0, i) for i in chosen])

    work: dict[str, Callable[[list[int]], object]] = {"JPEG decode alone": decode}
    work |= {name: batches(source) for name, source in sources.items()}
    work["one .rec, flipped at random"] = batches(plain, AugmentationConfig())
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for turn in range(6):  # interleaved by batch, so that a disturbance hits all; the first round fills the caches
        for at in range(0, count - 99, 100):
            for name, run in work.items():
                start = time.thread_time()
                run(positions[at : at + 100])
                if turn:
                    seconds[name].append(time.thread_time() - start)
    rates = {name: 100 / float(np.median(values)) for name, values in seconds.items()}
    base = rates["JPEG decode alone"]
    return {
        "images": count,
        "mean_bytes": float(np.mean([len(image) for image in encoded])),
        "images_per_cpu_second": rates,
        "share_of_decode": {name: rate / base for name, rate in rates.items() if rate is not base},
    }


PIECES: dict[str, Callable[[Path, argparse.Namespace], dict[str, Any]]] = {
    "index": index,
    "order": order,
    "loader": loader,
}


def sparse_index(folder: Path, records: int) -> Path:
    """An index of `records` entries over a sparse .rec in which WRITTEN of them are written, evenly spread."""
    image = jpeg(0)
    payload = bytes(24) + image
    with (folder / "train.rec").open("wb") as file:
        file.truncate(records * SPACING)
        for i in np.linspace(0, records - 1, WRITTEN).astype(np.int64):
            file.seek(int(i) * SPACING)
            file.write(MAGIC_BYTES + (len(payload) & LENGTH_MASK).to_bytes(4, "little") + payload)
    path, people = folder / "many.faces", records // 50
    path.mkdir()
    positions = np.arange(records)
    columns: dict[str, np.ndarray] = {
        "files": np.zeros(records, dtype=np.uint16), "offsets": positions * SPACING,
        "keys": (positions + 1).astype(np.int32), "labels": (positions % people).astype(np.int32),
        "label_values": np.arange(people),
    }  # fmt: skip
    for name in ARRAYS:
        np.save(path / f"{name}.npy", columns[name])
    facts = {
        "schema": SCHEMA, "root": str(folder), "files": [{"name": "train.rec", "size": records * SPACING}],
        "images": records, "identities": people, "broken": [], "fingerprint": "of a sparse file",
    }  # fmt: skip
    (path / "index.json").write_text(json.dumps(facts))
    return path


def drawn(folder: Path, count: int) -> Path:
    """A .rec of smooth pictures."""
    with RecordWriter(folder / "train.rec") as writer:
        for i in range(count):
            writer.write(i // 10, jpeg(i))
    return folder / "train.rec"


def jpeg(seed: int) -> bytes:
    """A smooth picture of 112x112 pixels, quality 95: some 6 KB, as aligned faces have."""
    rng = np.random.default_rng(seed)
    picture = cv2.resize(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8), (112, 112), interpolation=cv2.INTER_CUBIC)
    return cv2.imencode(".jpg", picture, [int(cv2.IMWRITE_JPEG_QUALITY), 95])[1].tobytes()


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description="Measure the cost of reading faces at scale on this machine.")
    parser.add_argument("pieces", nargs="*", help=f"parts to measure: {', '.join(PIECES)}; default: all")
    parser.add_argument("--records", type=int, default=10_000_000, help="number of index entries")
    parser.add_argument("--data", help="a .rec file of JPEGs for the loader; default: synthetic images")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    pieces = options.pieces or list(PIECES)
    if wrong := [piece for piece in pieces if piece not in PIECES]:
        parser.error(f"unknown piece {wrong[0]}: valid are {', '.join(PIECES)}")
    if options.here:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(PIECES[pieces[0]](Path(folder), options)))
        return 0
    results = {}
    for piece in pieces:
        command = [sys.executable, "-m", "facekd.benchmarks.studies.data_scale", piece, "--here"]
        command += ["--records", str(options.records), *(["--data", options.data] if options.data else [])]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        results[piece] = json.loads(done.stdout)
    report = {"cores": os.cpu_count(), "numpy": np.__version__, "opencv": cv2.__version__, **results}
    if options.json:
        print_json(report)
        return 0
    for piece, figures in results.items():
        rows = []
        for key, value in figures.items():
            for name, number in value.items() if isinstance(value, dict) else [("", value)]:
                rows.append([f"{key.replace('_', ' ')} {name}".strip(), f"{number:,.4g}"])
        Table(["", ""], rows, title=piece).print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
