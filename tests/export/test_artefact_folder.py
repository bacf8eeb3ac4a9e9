"""An artefact's folder appears whole or not at all, also when the process is interrupted or terminated."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from facekd.common.errors import FacekdError, UsageError
from facekd.export.artefact_folder import check_destination, staged
from facekd.schemas.manifest import LOG_FILE


def _artefact(path: Path, content: str) -> None:
    path.mkdir()
    (path / "manifest.json").write_text(content)


OLD, NEW = '{"files": {"stale.onnx": ""}}', '{"files": {}}'


def test_a_good_block_replaces_the_old_artefact_whole(tmp_path: Path) -> None:
    out = tmp_path / "out"
    _artefact(out, OLD)
    (out / "stale.onnx").touch()
    with staged(out, overwrite=True) as folder:
        (folder / "manifest.json").write_text(NEW)
    assert [file.name for file in out.iterdir()] == ["manifest.json"]
    assert (out / "manifest.json").read_text() == NEW
    assert [file.name for file in tmp_path.iterdir()] == ["out"]


def test_a_file_that_the_user_puts_there_during_the_export_is_kept(tmp_path: Path) -> None:
    out = tmp_path / "out"
    _artefact(out, OLD)
    with pytest.raises(UsageError, match=r"'thesis\.txt'"), staged(out, overwrite=True) as folder:
        (folder / "manifest.json").write_text(NEW)
        (out / "thesis.txt").write_text("precious")
    assert (out / "thesis.txt").read_text() == "precious"
    assert (out / "manifest.json").read_text() == OLD
    assert [file.name for file in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, FacekdError])
def test_a_failed_block_leaves_the_old_artefact_and_nothing_else(tmp_path: Path, error: type[BaseException]) -> None:
    out = tmp_path / "out"
    _artefact(out, OLD)
    with pytest.raises(error), staged(out, overwrite=True) as folder:
        (folder / "model.onnx").touch()
        raise error("stop")
    assert (out / "manifest.json").read_text() == OLD
    assert [file.name for file in tmp_path.iterdir()] == ["out"]


def test_the_log_of_a_failure_is_kept_elsewhere_and_named(tmp_path: Path) -> None:
    with pytest.raises(FacekdError) as caught, staged(tmp_path / "out", overwrite=False) as folder:
        (folder / LOG_FILE).write_text("MLIR said no")
        raise FacekdError("conversion failed")
    log = Path(str(caught.value).rsplit(" ", 1)[1])
    assert log.read_text() == "MLIR said no"
    assert not list(tmp_path.iterdir())
    log.unlink()


def test_sigterm_halfway_leaves_nothing(tmp_path: Path) -> None:
    script = (
        "import sys, time\nfrom pathlib import Path\nfrom facekd.export.artefact_folder import staged\n"
        "with staged(Path(sys.argv[1]), overwrite=False) as folder:\n"
        "    (folder / 'model.onnx').touch()\n    print('converting', flush=True)\n    time.sleep(600)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "out")], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"converting\n"
    assert any(tmp_path.iterdir())
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=120) != 0
    deadline = time.monotonic() + 60
    while any(tmp_path.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not list(tmp_path.iterdir())


def test_destinations(tmp_path: Path) -> None:
    out = tmp_path / "out"
    check_destination(out, overwrite=False)
    _artefact(out, '{"files": {"model.onnx": ""}}')
    (out / "model.onnx").touch()
    check_destination(out, overwrite=True)
    with pytest.raises(UsageError, match="--overwrite"):
        check_destination(out, overwrite=False)
    other = tmp_path / "thesis"
    other.mkdir()
    (other / "chapter1.tex").touch()
    with pytest.raises(UsageError, match="not an exported artefact"):
        check_destination(other, overwrite=True)
    (out / "notes.txt").touch()
    with pytest.raises(UsageError, match=r"'notes\.txt', which facekd did not write"):
        check_destination(out, overwrite=True)
