"""The app's store of samples on this machine: how fast it is, and what is left of it when its process is killed."""

import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from building.desktop import build_desktop
from building.errors import BuildError
from building.kotlin import run

PEOPLE = 10_000
WIDTH = 512
ROUNDS = 100
HEAP = "-Xmx256m"

# One thread of the matrix product, and one reading memory: in a process whose libraries have not started theirs.
NUMPY = """
import sys, time, numpy as np
samples = np.random.default_rng(0).standard_normal((int(sys.argv[1]), int(sys.argv[2])), dtype=np.float32)
def median(work):
    times = []
    for _ in range(int(sys.argv[3])):
        start = time.thread_time()
        work()
        times.append(time.thread_time() - start)
    return sorted(times)[len(times) // 2]
probe = samples[0].copy()
product, read = median(lambda: samples @ probe), median(lambda: samples.view(np.int64).sum())
gigabytes = samples.nbytes / read / 1e9
print(f"NumPy {np.__version__}, float32, one thread: {product * 1e3:.2f} ms processor time; {gigabytes:.1f} GB/s")
"""
ONE_THREAD = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}


class Program:
    """desktop/.../Store.kt, compiled."""

    def __init__(self, cache: Path) -> None:
        self.java, *self.rest = build_desktop(cache)

    def words(self, *given: object, options: Sequence[str] = ()) -> list[str]:
        """The command that runs `given` with the JVM's `options`."""
        return [self.java, "-XX:+UseSerialGC", *options, *self.rest, "store", *map(str, given)]

    def run(self, *given: object, options: Sequence[str] = ()) -> str:
        """What it printed."""
        return run(self.words(*given, options=options), "the store").strip()


def bench(program: Program, people: int, rounds: int) -> None:
    """Prints what a store of `people` with three samples of 512 dimensions takes, as it is and as it was."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "samples.bin"
        program.run("fill", file, people, WIDTH)
        print(f"{file.stat().st_size / 1e6:.1f} MB on the disk")
        print(program.run("search", file, rounds, options=["-Xmx1g"]))
        words = [sys.executable, "-c", NUMPY, str(3 * people), str(WIDTH), str(rounds)]
        found = subprocess.run(words, capture_output=True, text=True, check=False, env=os.environ | ONE_THREAD)
        print(found.stdout.strip() or "NumPy is not installed, or failed: not compared")
        print(program.run("use", file, options=[HEAP]))


def kill(program: Program, times: int, *, width: int = 64) -> str:
    """Kills a process that writes a store `times` times, each time at another moment, and reads what is left.

    Returns:
        What was found, in words.

    Raises:
        BuildError: a sample is lost that had been stored, or the store does not open.
    """
    moments = random.Random()
    stored, cuts = 0, 0
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "samples.bin"
        for number in range(1, times + 1):
            words = program.words("write", file, width, 10**9, options=["-XX:TieredStopAtLevel=1"])
            with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as writer:
                assert writer.stdout is not None
                said = writer.stdout.readline()
                found, cut = map(int, re.findall(r"\d+", said) or (-1, 0))
                if found not in (stored, stored + 1):
                    writer.kill()
                    raise BuildError(
                        f"kill {number}: {stored} samples had been stored, then it said: {said or 'nothing'}"
                    )
                stored, cuts = found, cuts + (cut > 0)
                for _ in range(moments.randrange(1, 40)):
                    stored = int(writer.stdout.readline()) + 1
                time.sleep(moments.random() * 0.01)  # anywhere in the next one, or in one that follows
                writer.kill()
                # What it said before it died, but for a line that it could not finish.
                stored = max([stored, *(int(line) + 1 for line in writer.stdout if line.endswith("\n"))])
        left = list(map(int, program.run("read", file).split()))
        if left not in (list(range(stored)), list(range(stored + 1))):
            raise BuildError(f"{stored} samples had been stored, {len(left)} are there")
    return f"killed {times} times: of {stored} stored samples none is lost; {cuts} times a damaged end was cut off"
