"""A small adb server on loopback that speaks the real protocol, with phones whose faults are scripted."""

import hashlib
import json
import os
import re
import shlex
import signal
import socketserver
import struct
from dataclasses import dataclass, field
from typing import Any

import numpy as np

LATENCIES = [round(float(x), 3) for x in np.random.default_rng(0).normal(8, 0.05, 50)]


@dataclass
class FakePhone:
    """A phone's files, and a demo app that answers at once.

    Attributes:
        drops: beginning of a request -> how often the connection is cut when it comes.
        kills: beginning of a request at which the server's own process dies by SIGKILL.
        changes: fields of the app's result to change.
        binary: what benchmark_model prints, by whether a profile is asked for.
    """

    state: str = "device"
    free_kib: int = 10_000
    installed: bool = True
    files: dict[str, bytes] = field(default_factory=dict)
    drops: dict[str, int] = field(default_factory=dict)
    kills: str | None = None
    changes: dict[str, Any] = field(default_factory=dict)
    binary: dict[bool, str] = field(default_factory=dict)
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
            case ["pidof", "org.facekd.demo"]:
                return "4711\n"
            case ["cat", "/proc/4711/status"]:
                return "Name:\tfacekd.demo\nVmPeak:\t 9999999 kB\nVmHWM:\t  204800 kB\nVmRSS:\t  153600 kB\n"
            case ["/data/local/tmp/facekd/benchmark_model", *rest]:
                return self.binary["--enable_op_profiling=true" in rest]
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

    def __init__(self, phones: dict[str, FakePhone], *, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Connection)
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
        if phone.kills is not None and request.startswith(phone.kills):
            os.kill(os.getpid(), signal.SIGKILL)
        for beginning in phone.drops:
            if request.startswith(beginning) and phone.drops[beginning] > 0:
                phone.drops[beginning] -= 1
                return True
        return False
