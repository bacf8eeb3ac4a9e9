"""The demo app on phones, through adbutils and the adb server of fake_adb.py."""

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facekd.benchmarks.phone import Phone
from facekd.benchmarks.phone_run import PhoneRun, run_on_phones
from facekd.benchmarks.subject import Subject
from facekd.common.errors import FacekdError, UsageError
from facekd.schemas.record import read_records

pytest.importorskip("adbutils")
with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(Path(__file__).parent))
    from fake_adb import LATENCIES, FakePhone, Server


def open_phone(server: Server, serial: str = "ONE", *, reconnect_s: float = 0.3) -> Phone:
    return Phone(serial, host="127.0.0.1", port=server.server_address[1], poll_s=0.02, reconnect_s=reconnect_s)


def measure(
    server: Server, subject: Subject, out: Path | None = None, *, reconnect_s: float = 0.3, **settings: Any
) -> Any:
    rests: list[float] = []
    plan = PhoneRun(**{"runs": 50, "timeout_s": 0.2, "out": out, **settings})
    serials = list(server.phones)
    phones = [open_phone(server, serial, reconnect_s=reconnect_s) for serial in serials]
    return run_on_phones(phones, [subject], plan, sleep=rests.append), rests


def test_a_measurement(server: Server, subject: Subject, phones: dict[str, FakePhone], tmp_path: Path) -> None:
    """Files arrive byte for byte, the app gets the contract's arguments, the record holds its figures and the phone."""
    phones["TWO"] = FakePhone()
    records, rests = measure(server, subject, tmp_path / "r.jsonl", threads=(1, 4), provider="xnnpack")
    assert [(r.setup.threads, r.setup.provider) for r in records] == [(1, "xnnpack"), (4, "xnnpack")] * 2
    assert rests == [10.0] * 3  # a rest before every measurement but the first
    assert read_records(tmp_path / "r.jsonl") == records
    record = records[0]
    assert record.latency.p90_ms == pytest.approx(np.percentile(LATENCIES, 90))
    assert (record.start.load_ms, record.start.first_ms) == (30, 12)
    assert (record.device.name, record.device.processor, record.device.cores) == ("Maker One 2", "SM9", 2)
    assert record.before.temperature_c == {"battery": 31.4}
    assert (record.memory.resident_mib, record.memory.peak_mib, record.memory.model_mib) == (150, 200, None)
    assert record.before.frequency_mhz == [1800, 2400] and record.before.governor == "schedutil"
    assert record.device.details["release"] == "15"
    pushed = f"/data/local/tmp/facekd/{subject.facts.sha256[:16]}"
    for path in (p for p in subject.folder.rglob("*") if p.is_file()):
        assert phones["ONE"].files[f"{pushed}/{path.relative_to(subject.folder).as_posix()}"] == path.read_bytes()
    started = next(c for c in phones["ONE"].commands if c.startswith("am start"))
    assert f"--es model {pushed}/model.onnx --es manifest {pushed}/manifest.json" in started
    assert "--ei threads 1 --ei warmup 30 --ei runs 50 --es provider xnnpack" in started


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"state": "offline"}, "ONE: it is offline: reconnect"),
        ({"state": "unauthorized"}, "ONE: it has not allowed this computer"),
        ({"free_kib": 3}, "free at /data/local/tmp/facekd"),
        ({"installed": False}, "does not exist.*install the demo app"),
        ({"changes": {"error": "no such provider"}}, "the app says: no such provider"),
        ({"changes": {"schema_version": 7}}, "schema 7"),
        ({"changes": {"threads": 8}}, "asked for threads 1, the app measured 8"),
        ({"changes": {"model_sha256": "00"}}, "asked for model_sha256"),
        ({"changes": {"latencies_ms": [1.0, 2.0]}}, "2 latencies of 50"),
        ({"changes": {"latencies_ms": "fast"}}, "lacks or spoils"),
        ({"changes": {"cosine_to_golden": 0.4}}, "cosine 0.4000.*use --provider cpu"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_wrong_is_said(
    server: Server, subject: Subject, phones: dict[str, FakePhone], fault: dict[str, Any], message: str
) -> None:
    phones["ONE"] = FakePhone(**fault)
    with pytest.raises(FacekdError, match=message):
        measure(server, subject)


def test_an_unknown_serial_names_the_known_ones(server: Server, subject: Subject) -> None:
    with pytest.raises(UsageError, match=r"adb:NONE: adb lists ONE \(device\)"):
        run_on_phones([open_phone(server, "NONE")], [subject], PhoneRun())


def test_without_any_phone_no_serial_is_asked_for(
    server: Server, subject: Subject, phones: dict[str, FakePhone]
) -> None:
    phones.clear()
    with pytest.raises(UsageError, match=r"adb:ONE: adb lists no phone: connect one"):
        run_on_phones([open_phone(server, "ONE")], [subject], PhoneRun())


@pytest.mark.parametrize("request_", ["shell:am start", "shell:getprop", "SEND", "STAT /sdcard", "RECV /sdcard"])
def test_a_connection_lost_once_is_tried_again(
    server: Server, subject: Subject, phones: dict[str, FakePhone], request_: str
) -> None:
    phones["ONE"].drops[request_] = 1
    records, _ = measure(server, subject)
    assert phones["ONE"].drops[request_] == 0
    assert records[0].latency.runs == 50


def test_a_connection_lost_twice_keeps_what_was_measured(
    server: Server, subject: Subject, phones: dict[str, FakePhone], tmp_path: Path
) -> None:
    phones["TWO"] = FakePhone(drops={"shell:am start": 2})
    with pytest.raises(FacekdError, match=r"lost twice.*1 records before it are in .*r\.jsonl"):
        measure(server, subject, tmp_path / "r.jsonl")
    assert len(read_records(tmp_path / "r.jsonl")) == 1


def test_an_app_that_never_answers_is_given_up(
    server: Server, subject: Subject, phones: dict[str, FakePhone], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(phones["ONE"], "start", lambda words: "Status: ok\n")
    with pytest.raises(FacekdError, match="wrote no"):
        measure(server, subject)


def test_a_phone_that_hides_the_apps_memory_is_measured_without(
    server: Server, subject: Subject, phones: dict[str, FakePhone], monkeypatch: pytest.MonkeyPatch
) -> None:
    shell = phones["ONE"].shell
    monkeypatch.setattr(
        phones["ONE"], "shell", lambda command: "Permission denied\n" if "/status" in command else shell(command)
    )
    records, _ = measure(server, subject)
    assert records[0].memory.peak_mib is None and records[0].memory.resident_mib is None


class DyingServer:
    """An adb server in a process of its own; it dies by SIGKILL where a phone's `kills` says.

    adbutils then runs `adb start-server`, as adb's own clients do. Here that is a script that waits until `revive`
    has put a healthy server at the same port, or fails at once.
    """

    def __init__(self, folder: Path, phones: dict[str, FakePhone], monkeypatch: pytest.MonkeyPatch) -> None:
        self.phones = phones
        self.revived = folder / "revived"
        self.threads: list[threading.Thread] = []
        self.asked = folder / "asked"
        adb = folder / "adb"
        adb.write_text(
            f"#!/bin/sh\necho x >> {self.asked}\n[ -e {self.revived}.no ] && exit 1\n"
            f"for i in $(seq 1200); do [ -e {self.revived} ] && exit 0; sleep 0.05; done\nexit 1\n"
        )
        adb.chmod(0o755)
        monkeypatch.setenv("ADBUTILS_ADB_PATH", str(adb))
        server = Server(phones)
        self.server_address = server.server_address
        self.pid = os.fork()
        if self.pid == 0:
            server.serve_forever(poll_interval=0.02)
            os._exit(0)
        server.socket.close()  # the child's copy is the only one now: when it dies, nobody listens

    def died(self) -> bool:
        _, status = os.waitpid(self.pid, 0)
        return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL

    def revive(self) -> None:
        def run() -> None:
            assert self.died()
            while not self.asked.exists():
                time.sleep(0.01)
            with Server({serial: FakePhone() for serial in self.phones}, port=self.server_address[1]) as healthy:
                self.revived.touch()
                self.healthy = healthy
                healthy.serve_forever(poll_interval=0.02)

        self.threads.append(threading.Thread(target=run, daemon=True))
        self.threads[0].start()


@pytest.mark.parametrize("request_", ["shell:am start", "SEND", "RECV /sdcard"])
def test_a_killed_server_is_started_and_the_measurement_done_again(
    tmp_path: Path, subject: Subject, monkeypatch: pytest.MonkeyPatch, request_: str
) -> None:
    server = DyingServer(tmp_path, {"ONE": FakePhone(kills=request_)}, monkeypatch)
    server.revive()
    records, _ = measure(server, subject, tmp_path / "r.jsonl", reconnect_s=60)  # type: ignore[arg-type]
    assert server.asked.exists()
    assert records[0].latency.runs == 50
    assert read_records(tmp_path / "r.jsonl") == records
    server.healthy.shutdown()
    server.threads[0].join()


def test_a_killed_server_that_stays_dead_keeps_what_was_measured(
    tmp_path: Path, subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    phones = {"ONE": FakePhone(), "TWO": FakePhone(kills="shell:am start")}
    (tmp_path / "revived.no").touch()
    server = DyingServer(tmp_path, phones, monkeypatch)
    with pytest.raises(FacekdError, match=r"adb:TWO.*lost.*1 records before it are in .*r\.jsonl") as raised:
        measure(server, subject, tmp_path / "r.jsonl")  # type: ignore[arg-type]
    assert server.died()
    assert "Traceback" not in str(raised.value) and "\n" not in str(raised.value)
    assert len(read_records(tmp_path / "r.jsonl")) == 1
