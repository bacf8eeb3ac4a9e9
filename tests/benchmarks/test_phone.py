"""Phones, through adbutils and a small adb server on loopback that speaks the real protocol, with scripted faults."""

import hashlib
import json
import re
import shlex
import socketserver
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facekd.benchmarks.phone import Phone
from facekd.benchmarks.phone_run import PhoneRun, run_on_phones
from facekd.benchmarks.record import ModelFacts, read_records
from facekd.benchmarks.subject import Subject
from facekd.errors import FacekdError, UsageError
from facekd.export.manifest import Manifest
from facekd.input_spec import InputSpec

pytest.importorskip("adbutils")

LATENCIES = [round(float(x), 3) for x in np.random.default_rng(0).normal(8, 0.05, 50)]


@dataclass
class FakePhone:
    """A phone's files, and a demo app that answers at once.

    Attributes:
        drops: beginning of a request -> how often the connection is cut when it comes.
        changes: fields of the app's result to change.
    """

    state: str = "device"
    free_kib: int = 10_000
    installed: bool = True
    files: dict[str, bytes] = field(default_factory=dict)
    drops: dict[str, int] = field(default_factory=dict)
    changes: dict[str, Any] = field(default_factory=dict)
    commands: list[str] = field(default_factory=list)

    def shell(self, command: str) -> str:
        self.commands.append(command)
        words = shlex.split(command)
        match words:
            case ["getprop"]:
                return "[ro.product.manufacturer]: [Maker]\n[ro.product.model]: [One 2]\n[ro.soc.model]: [SM9]\n"
            case ["df", *_]:
                return f"Filesystem 1K-blocks Used Available Use% Mounted\n/dev/x 9 9 {self.free_kib} 1% /data\n"
            case ["cat", "/proc/cpuinfo"]:
                return "processor : 0\nprocessor : 1\n"
            case ["cat", path]:
                return "schedutil\n" if path.endswith("scaling_governor") else "MemTotal: 8388608 kB\n"
            case ["sh", *_]:
                return "1800000\n2400000\n"
            case ["dumpsys", "battery"]:
                return "  level: 80\n  temperature: 314\n"
            case ["dumpsys", "thermalservice"]:
                return "Thermal Status: 0\n"
            case ["rm", "-f", path]:
                self.files.pop(path, None)
            case ["am", "start", *rest]:
                return self.start(rest)
        return ""

    def start(self, words: list[str]) -> str:
        if not self.installed:
            return "Error type 3\nError: Activity class {org.facekd.demo} does not exist.\n"
        extras = {words[i + 1]: words[i + 2] for i, word in enumerate(words) if word in ("--es", "--ei")}
        json.loads(self.files[extras["manifest"]])
        result = {
            "schema_version": 1,
            "model_sha256": hashlib.sha256(self.files[extras["model"]]).hexdigest(),
            "provider": extras["provider"],
            "threads": int(extras["threads"]),
            "load_ms": 30.0,
            "first_ms": 12.0,
            "latencies_ms": LATENCIES[: int(extras["runs"])],
            "cosine_to_golden": 0.99999,
            "android": {"release": "15", "soc": "Maker SM9"},
            "finished": True,
            **self.changes,
        }
        place = f"/sdcard/Android/data/org.facekd.demo/files/{extras['out']}"
        self.files[place] = json.dumps(result).encode()
        return "Status: ok\n"


class Server(socketserver.ThreadingTCPServer):
    """The host side: OKAY, FAIL and four hexadecimal digits of length, then the device's own services."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, phones: dict[str, FakePhone]) -> None:
        super().__init__(("127.0.0.1", 0), Connection)
        self.phones = phones


class Connection(socketserver.StreamRequestHandler):
    server: Server

    def request_text(self) -> str:
        length = self.rfile.read(4)
        return self.rfile.read(int(length, 16)).decode() if length else ""

    def okay(self, text: str | None = None) -> None:
        data = b"" if text is None else f"{len(text.encode()):04x}".encode() + text.encode()
        self.wfile.write(b"OKAY" + data)

    def fail(self, text: str) -> None:
        self.wfile.write(b"FAIL" + f"{len(text):04x}{text}".encode())

    def handle(self) -> None:
        request = self.request_text()
        if request == "host:version":
            self.okay("0029")
        elif request == "host:devices":
            self.okay("".join(f"{serial}\t{phone.state}\n" for serial, phone in self.server.phones.items()))
        elif found := re.fullmatch(r"host:tport:serial:(.+)", request):
            phone = self.server.phones.get(found[1])
            if phone is None:
                self.fail(f"device '{found[1]}' not found")
            elif phone.state != "device":
                self.fail(f"device {phone.state}")
            else:
                self.okay()
                self.wfile.write(struct.pack("<Q", 1))
                self.service(phone)

    def service(self, phone: FakePhone) -> None:
        request = self.request_text()
        if self.cut(phone, request):
            return
        self.okay()
        if request.startswith("shell:"):
            command, _, code = request.removeprefix("shell:").rpartition("; echo ")
            self.wfile.write((phone.shell(command) + code.replace("$?", "0") + "\n").encode())
        elif request == "sync:":
            self.sync(phone)

    def sync(self, phone: FakePhone) -> None:
        kind, length = struct.unpack("<4sI", self.rfile.read(8))
        path = self.rfile.read(length).decode()
        if self.cut(phone, f"{kind.decode()} {path}"):
            return
        if kind == b"STAT":
            content = phone.files.get(path)
            there = (0o100644, len(content), 1) if content is not None else (0, 0, 0)
            self.wfile.write(b"STAT" + struct.pack("<III", *there))
        elif kind == b"RECV":
            content = phone.files[path]
            self.wfile.write(b"DATA" + struct.pack("<I", len(content)) + content + b"DONE" + bytes(4))
        elif kind == b"SEND":
            content = b""
            while (part := struct.unpack("<4sI", self.rfile.read(8)))[0] == b"DATA":
                content += self.rfile.read(part[1])
            name = path.rpartition(",")[0]
            phone.files[name] = content
            self.wfile.write(b"OKAY" + bytes(4))

    def cut(self, phone: FakePhone, request: str) -> bool:
        for beginning in phone.drops:
            if request.startswith(beginning) and phone.drops[beginning] > 0:
                phone.drops[beginning] -= 1
                return True
        return False


@pytest.fixture
def phones() -> dict[str, FakePhone]:
    return {"ONE": FakePhone()}


@pytest.fixture
def server(phones: dict[str, FakePhone]) -> Iterator[Server]:
    with Server(phones) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def subject(tmp_path: Path) -> Subject:
    """An artefact's folder as far as a phone is concerned: the manifest, the model's bytes, the golden files."""
    folder = tmp_path / "artefact"
    (folder / "golden").mkdir(parents=True)
    (folder / "model.onnx").write_bytes(bytes(range(256)) * 40)
    (folder / "golden/crop.png").write_bytes(b"png")
    manifest = Manifest.model_validate(
        {
            "name": "net",
            "target": "android",
            "precision": "fp32",
            "created": "2026-01-01",
            "facekd_version": "0",
            "bundle": {"name": "net", "architecture": "mobilefacenet", "sha256": "00"},
            "model": "model.onnx",
            "format_version": "opset 20",
            "size_bytes": 10240,
            "input": {
                "name": "image",
                "dtype": "float32",
                "layout": "nchw",
                "batch": 1,
                "preprocess": "out",
                "spec": InputSpec().model_dump(),
            },
            "output": {"name": "embedding", "width": 8},
            "operators": {"Conv": 1},
            "parity": {
                "runtime": "onnxruntime",
                "faces": 1,
                "source": "drawn",
                "max_abs_difference": 0,
                "scale": 1,
                "max_abs_difference_unit": 0,
                "cosine_min": 1,
                "cosine_mean": 1,
                "bounds": {},
                "batches": [1],
            },
            "golden": {"min_cosine": 0.9999},
            "seconds": 1,
            "versions": {},
            "files": {},
        }
    )
    (folder / "manifest.json").write_text(manifest.model_dump_json())
    sha256 = hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest()
    facts = ModelFacts(
        name="net fp32", file="model.onnx", sha256=sha256, target="android", precision="fp32", size_bytes=10240
    )
    return Subject(
        facts=facts,
        path=folder / "model.onnx",
        folder=folder,
        runtime="onnxruntime",
        input_spec=InputSpec(),
        manifest=manifest,
    )


def open_phone(server: Server, serial: str = "ONE") -> Phone:
    return Phone(serial, host="127.0.0.1", port=server.server_address[1], poll_s=0.01, reconnect_s=0.3)


def measure(server: Server, subject: Subject, out: Path | None = None, **settings: Any) -> Any:
    rests: list[float] = []
    plan = PhoneRun(**{"runs": 50, "timeout_s": 0.2, "out": out, **settings})
    serials = list(server.phones)
    return run_on_phones([open_phone(server, s) for s in serials], [subject], plan, sleep=rests.append), rests


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
