"""What scoring the big benchmarks costs once features are there: IJB-C 1:1 and 1:N, MegaFace. On random features.

    python -m facekd.benchmarks.studies.verification_cost [1:1 1:N megaface] [--share 1.0] [--json]

Each piece runs in a process of its own, so that its peak of resident memory is its own. The features lie on disk and
are memory-mapped, as the feature cache leaves them; what is timed is what `facekd evaluate --benchmark` calls.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from facekd.common.printing import print_json
from facekd.common.table import Table

WIDTH = 512
IMAGES, GALLERY, PROBES, PAIRS = 469_375, 3_531, 19_593, 15_658_489
DISTRACTORS, FACESCRUB, PEOPLE = 1_000_000, 3_530, 80


class Clock:
    """Seconds by the clock and of processor time, by name of the work."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, float]] = {}

    def __call__(self, name: str, work: Callable[[], Any]) -> Any:
        """Runs and times `work`."""
        start, start_cpu = time.perf_counter(), time.process_time()
        result = work()
        self.rows[name] = {"seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - start_cpu}
        return result


def verification(folder: Path, share: float) -> dict[str, Any]:
    """IJB-C 1:1: read the list, pool the images, score the pairs, find TAR at six FARs."""
    from facekd.evaluation.protocols.ijb import IJB_FARS, read_pairs
    from facekd.evaluation.templates import pair_scores, pool_templates, tar_at_nearest_far

    rng = np.random.default_rng(0)
    features = draw(folder / "images.npy", IMAGES)
    templates = np.sort(np.concatenate([np.arange(GALLERY + PROBES), rng.integers(0, GALLERY + PROBES, IMAGES)]))
    templates = templates[np.sort(rng.permutation(len(templates))[:IMAGES])]
    media = rng.integers(0, 4, IMAGES)
    weights = rng.uniform(0.5, 1, IMAGES).astype(np.float32)
    pairs = int(PAIRS * share)
    first, second = rng.integers(0, GALLERY, pairs), GALLERY + rng.integers(0, PROBES, pairs)
    listed = folder / "pairs.txt"
    write_pairs(listed, np.column_stack([first, second, rng.random(pairs) < 0.00125]))
    clock = Clock()
    first, second, issame = clock("read the list of pairs", lambda: read_pairs(listed))
    pooled = clock("pool", lambda: pool_templates(features, templates, media, scores=weights))
    rows = [pooled.rows(ids, where="list") for ids in (first, second)]
    scores = clock("score", lambda: pair_scores(pooled.features, *rows))
    clock("roc", lambda: tar_at_nearest_far(scores, issame, IJB_FARS))
    return {"pairs": pairs, "images": IMAGES, "templates": len(pooled.ids), "parts": clock.rows}


def identification(folder: Path, share: float) -> dict[str, Any]:
    """1:N: ranks and TPIR of 19,593 probe templates in a gallery of 3,531."""
    from facekd.evaluation.identification import identify

    rng = np.random.default_rng(0)
    probes_count = int(PROBES * share)
    gallery, probes = (rng.standard_normal((count, WIDTH), dtype=np.float32) for count in (GALLERY, probes_count))
    subjects = rng.integers(0, 2 * GALLERY, probes_count)  # half of them strangers
    clock = Clock()
    clock("search", lambda: identify(gallery, np.arange(GALLERY), probes, subjects))
    return {"gallery": GALLERY, "probes": probes_count, "parts": clock.rows}


def search(folder: Path, share: float) -> dict[str, Any]:
    """MegaFace: 3,530 probes among a million distractors, rank 1 and TAR at 1e-6."""
    from facekd.evaluation.identification import megaface

    rng = np.random.default_rng(0)
    count = int(DISTRACTORS * share)
    distractors = draw(folder / "distractors.npy", count)
    subjects = np.arange(FACESCRUB) % PEOPLE
    probes = rng.standard_normal((FACESCRUB, WIDTH), dtype=np.float32)
    probes += 2 * rng.standard_normal((PEOPLE, WIDTH), dtype=np.float32)[subjects]
    clock = Clock()
    clock("search", lambda: megaface(probes, subjects, distractors))
    return {"distractors": count, "probes": FACESCRUB, "parts": clock.rows}


PIECES: dict[str, Callable[[Path, float], dict[str, Any]]] = {
    "1:1": verification,
    "1:N": identification,
    "megaface": search,
}


def draw(path: Path, rows: int) -> np.ndarray:
    """Random features float32 [rows, WIDTH] in a .npy, written in blocks and memory-mapped."""
    rng = np.random.default_rng(1)
    with path.open("wb") as file:
        shape = {"descr": "<f4", "fortran_order": False, "shape": (rows, WIDTH)}
        np.lib.format.write_array_header_1_0(file, shape)
        for start in range(0, rows, 1 << 14):
            file.write(rng.standard_normal((min(1 << 14, rows - start), WIDTH), dtype=np.float32).tobytes())
    array: np.ndarray = np.load(path, mmap_mode="r")
    return array


def write_pairs(path: Path, rows: np.ndarray) -> None:
    """Lines of three numbers, as published."""
    with path.open("w") as file:
        for start in range(0, len(rows), 1 << 18):
            part = rows[start : start + (1 << 18)]
            file.write(("%d %d %d\n" * len(part)) % tuple(part.ravel().tolist()))


def peak_mib() -> float:
    """The highest resident memory of this process so far; macOS counts bytes, Linux KiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def run_alone(piece: str, share: float) -> dict[str, Any]:
    """One piece in a fresh process."""
    command = [
        sys.executable,
        "-m",
        "facekd.benchmarks.studies.verification_cost",
        piece,
        "--share",
        str(share),
        "--here",
    ]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    content: dict[str, Any] = json.loads(done.stdout)
    return content


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description="Measure the cost of scoring IJB-C and MegaFace on this machine.")
    parser.add_argument("pieces", nargs="*", help=f"parts to measure: {', '.join(PIECES)}; default: all")
    parser.add_argument("--share", type=float, action="append", help="fraction of the full size; repeatable")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    pieces, shares = options.pieces or list(PIECES), options.share or [1.0]
    if wrong := [piece for piece in pieces if piece not in PIECES]:
        parser.error(f"unknown piece {wrong[0]}: valid are {', '.join(PIECES)}")
    if options.here:
        with tempfile.TemporaryDirectory() as folder:
            figures = PIECES[pieces[0]](Path(folder), shares[0])
        print(json.dumps({**figures, "peak_resident_mib": peak_mib()}))
        return 0
    results = [{"piece": piece, "share": share, **run_alone(piece, share)} for piece in pieces for share in shares]
    report = {
        "cores": os.cpu_count(),
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "numpy": np.__version__,
        "results": results,
    }
    if options.json:
        print_json(report)
        return 0
    rows = []
    for result in results:
        size = ", ".join(f"{value:,} {key}" for key, value in result.items() if isinstance(value, int))
        parts = result["parts"]
        if len(parts) > 1:
            total = {key: sum(part[key] for part in parts.values()) for key in ("seconds", "cpu_seconds")}
            parts = {**parts, "together": total}
        for name, part in parts.items():
            rows.append([result["piece"], size, name, f"{part['seconds']:.1f}", f"{part['cpu_seconds']:.1f}"])
        rows[-1].append(f"{result['peak_resident_mib']:,.0f}")
    rows = [row if len(row) == 6 else [*row, ""] for row in rows]
    columns = ["piece", "size", "work", "seconds", "CPU seconds", "peak MiB"]
    Table(columns, rows, f"{report['cores']} cores, load {report['load_average'] or 0:.1f}").print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
