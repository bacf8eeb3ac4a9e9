"""The app's store of samples when its process is killed, its disk is full, or its memory is small."""

import resource
import subprocess
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="module")
def store(demo: Path, fetched: Path) -> Any:
    """android_demo/building/store.py, and its program, compiled."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(demo))
        from building import store

        return store, store.Program(fetched)


def test_a_killed_process_loses_nothing_but_the_sample_being_written(store: Any) -> None:
    """At a moment in the writing of each of eight; python android_demo/build.py store-kill does it 50 times."""
    module, program = store
    assert "none is lost" in module.kill(program, 8)


def test_a_full_disk_loses_nothing_and_is_one_line(store: Any, tmp_path: Path) -> None:
    """The limit of a file's size cuts a write in the middle, as a full disk does."""
    _, program = store
    file = tmp_path / "samples.bin"
    limit = 30_000
    words = program.words("write", file, 512, 10**6)
    full = subprocess.run(
        words,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert (full.returncode, full.stderr.count("\n")) == (1, 1), full.stderr
    assert "File too large" in full.stderr
    stored = [int(line) for line in full.stdout.splitlines()[1:]]
    assert 5 < len(stored) < 20
    assert program.run("read", file).split() == [str(number) for number in stored]
    # With room again, from where it stopped.
    more = program.run("write", file, 512, len(stored) + 2).splitlines()
    assert more == [f"opened {len(stored)}, cut 0", str(len(stored)), str(len(stored) + 1)]
    assert [path.name for path in tmp_path.iterdir()] == ["samples.bin"]


def test_ten_thousand_people_are_opened_and_searched_in_a_small_heap(store: Any, tmp_path: Path) -> None:
    """And given one more sample, which writes kilobytes; renamed; deleted."""
    module, program = store
    file = tmp_path / "samples.bin"
    program.run("fill", file, module.PEOPLE, module.WIDTH)
    said = program.run("use", file, options=[module.HEAP])
    assert said.startswith("30000 samples")
    assert "one more sample wrote 2" in said
    assert file.stat().st_size < 65e6
