"""A phone over adb: pushing, running the demo app's benchmark, and saying in one line what is wrong with the phone."""

import functools
import json
import re
import shlex
import struct
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from facekd.common.errors import FacekdError, UsageError

PUSHED = "/data/local/tmp/facekd"
RESULTS = "/sdcard/Android/data/org.facekd.demo/files"
ACTIVITY = "org.facekd.demo/.BenchmarkActivity"
PROVIDERS = ("cpu", "xnnpack", "nnapi")

# What the server or adbutils say when the phone or the server has gone in the middle of something.
_GONE = (
    "offline",
    "not found",
    "closed",
    "Unknown data",
    "connect",
    "missing",
    "Invalid sync cmd",
    "shell output invalid",
)

Result = TypeVar("Result")


class ConnectionLost(FacekdError):
    """The phone, the cable or the adb server went away in the middle of something."""


class Phone:
    """One device of an adb server.

    Args:
        serial: as `adb devices` lists it.
        host: of the adb server; default as adb has it (ANDROID_ADB_SERVER_HOST, or this machine).
        port: likewise (ANDROID_ADB_SERVER_PORT, or 5037).
        poll_s: between looks for the app's result.
        reconnect_s: how long a lost phone is waited for.
    """

    def __init__(
        self,
        serial: str,
        *,
        host: str | None = None,
        port: int | None = None,
        poll_s: float = 1.0,
        reconnect_s: float = 30.0,
    ) -> None:
        try:
            import adbutils
        except ImportError as error:
            raise UsageError(f"--device adb:... needs adbutils ({error}): pip install adbutils") from error
        self.serial = serial
        self._client = adbutils.AdbClient(host, port, socket_timeout=20)
        self._device = self._client.device(serial)
        self._poll_s = poll_s
        self._reconnect_s = reconnect_s

    def require(self) -> None:
        """Checks that the phone is there and may be used.

        Raises:
            UsageError: it is not listed, offline, or has not yet allowed this computer; says what to do.
        """
        states = {entry.serial: entry.state for entry in self._ask(self._client.list)}
        if not states:
            raise UsageError(
                f"--device adb:{self.serial}: adb lists no phone: connect one by USB, and allow debugging on its screen"
            )
        there = ", ".join(f"{serial} ({state})" for serial, state in states.items())
        if self.serial not in states:
            raise UsageError(f"--device adb:{self.serial}: adb lists {there}; give the serial of one of these")
        what_to_do = {
            "offline": "it is offline: reconnect the cable, or run adb reconnect offline",
            "unauthorized": "it has not allowed this computer: unlock it and confirm the question on its screen",
        }
        state = states[self.serial]
        if state != "device":
            raise UsageError(f"adb:{self.serial}: {what_to_do.get(state, f'its state is {state}, not device')}")

    def shell(self, *words: str, timeout_s: float = 30.0) -> str:
        """Output of a command on the phone; each word arrives as one, whatever is in it."""
        # shell2 ends with the command's exit code, without which a cut connection looks like a short output.
        return str(self._ask(lambda: self._device.shell2(shlex.join(words), timeout=timeout_s)).output)

    def push_file(self, path: Path, name: str, *, mode: int = 0o755) -> str:
        """Copies one file, such as a program, and returns where it lies on the phone. Raises FacekdError."""
        target = f"{PUSHED}/{name}"
        self.shell("mkdir", "-p", PUSHED)
        self._check_space(path.stat().st_size, PUSHED)
        self._ask(functools.partial(self._device.sync.push, path, target, mode=mode, check=True))
        return target

    def push_folder(self, folder: Path, name: str) -> str:
        """Copies every file of `folder` and returns where they lie on the phone.

        Raises:
            FacekdError: the phone has no room, or did not take a file.
        """
        files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        needed = sum(path.stat().st_size for path in files)
        target = f"{PUSHED}/{name}"
        folders = sorted(
            {f"{target}/{path.parent.relative_to(folder).as_posix()}".removesuffix("/.") for path in files}
        )
        self.shell("mkdir", "-p", *folders)
        self._check_space(needed, target)
        for path in files:
            remote = f"{target}/{path.relative_to(folder).as_posix()}"
            self._ask(functools.partial(self._device.sync.push, path, remote, mode=0o644, check=True))
        return target

    def read(self, path: str) -> bytes | None:
        """A file's content; None where there is none."""

        def fetch() -> bytes | None:
            return bytes(self._device.sync.read_bytes(path)) if self._device.sync.exists(path) else None

        return self._ask(fetch)

    def run_app(
        self,
        folder: str,
        model: str,
        *,
        name: str,
        threads: int,
        warm_up: int,
        runs: int,
        provider: str,
        timeout_s: float,
        tell: Callable[[float], None] = lambda seconds: None,
    ) -> dict[str, Any]:
        """Starts the demo app's benchmark on a pushed artefact and waits for what it writes.

        Args:
            folder: where `push_folder` put it.
            model: the model file in it.
            name: of the result, without ".json".
            tell: hears the seconds waited.

        Raises:
            FacekdError: the app is not installed, refuses, or does not finish in time.
        """
        result = f"{RESULTS}/{name}.json"
        self.shell("rm", "-f", result)  # an older result must not pass for this one
        self.shell("am", "force-stop", ACTIVITY.partition("/")[0])
        texts = {"model": f"{folder}/{model}", "manifest": f"{folder}/manifest.json", "out": f"{name}.json"}
        numbers = {"threads": threads, "warmup": warm_up, "runs": runs}
        said = self.shell(
            *("am", "start", "-W", "-n", ACTIVITY),
            *(word for key, value in texts.items() for word in ("--es", key, value)),
            *(word for key, value in numbers.items() for word in ("--ei", key, str(value))),
            *("--es", "provider", provider),
        )
        if "Error" in said:
            why = [line.strip() for line in said.splitlines() if "Error" in line][-1]
            raise FacekdError(f"adb:{self.serial} cannot start the benchmark ({why[:200]}): install the demo app first")
        start = time.monotonic()
        while (content := self.read(result)) is None:
            waited = time.monotonic() - start
            if waited > timeout_s:
                raise FacekdError(
                    f"adb:{self.serial}: the app wrote no {name}.json in {timeout_s:.0f} s: see adb logcat, or give "
                    "fewer --runs"
                )
            tell(waited)
            time.sleep(self._poll_s)
        try:
            record: dict[str, Any] = json.loads(content)
        except ValueError as error:
            raise FacekdError(f"adb:{self.serial}: {name}.json is not JSON ({error}): update the demo app") from error
        if record.get("error") or record.get("finished") is not True:
            raise FacekdError(f"adb:{self.serial}: the app says: {record.get('error') or 'not finished'}")
        if record.get("schema_version") != 1:
            raise FacekdError(
                f"adb:{self.serial}: {name}.json has schema {record.get('schema_version')}, read here is 1: "
                "update facekd or the demo app"
            )
        return record

    def describe(self) -> dict[str, Any]:
        """Fields of record.Device."""
        properties = dict(re.findall(r"\[(.+?)\]: \[(.*?)\]", self.shell("getprop")))
        maker, model = (properties.get(f"ro.product.{key}", "unknown") for key in ("manufacturer", "model"))
        soc = " ".join(properties.get(f"ro.soc.{key}", "") for key in ("manufacturer", "model")).strip()
        memory = re.search(r"MemTotal:\s+(\d+) kB", self.shell("cat", "/proc/meminfo"))
        cores = re.findall(r"^processor\s*:", self.shell("cat", "/proc/cpuinfo"), re.M)
        return {
            "id": f"android-{maker}-{model}-{properties.get('ro.build.version.release', '?')}".replace(" ", "_"),
            "kind": "android",
            "name": f"{maker} {model}",
            "processor": soc or properties.get("ro.board.platform", "unknown"),
            "cores": len(cores) or 1,
            "memory_mib": int(memory[1]) // 1024 if memory else None,
            "system": f"Android {properties.get('ro.build.version.release', '?')}",
            "details": {"build": properties.get("ro.build.display.id", "")},
        }

    def state(self) -> dict[str, Any]:
        """Fields of record.State: frequencies, battery temperature, governor."""
        base = "/sys/devices/system/cpu/cpu"
        shown = self.shell("sh", "-c", f"cat {base}[0-9]*/cpufreq/scaling_cur_freq")
        governor = self.shell("cat", f"{base}0/cpufreq/scaling_governor").strip()
        battery = re.search(r"temperature: (\d+)", self.shell("dumpsys", "battery"))
        return {
            "frequency_mhz": [int(line) / 1e3 for line in shown.split() if line.isdigit()],
            "temperature_c": {"battery": int(battery[1]) / 10} if battery else {},
            "spin_ms": None,
            "governor": governor if re.fullmatch(r"[a-z_]+", governor) else None,
        }

    def is_hot(self) -> bool:
        """Whether Android reports a thermal status above none."""
        found = re.search(r"Thermal Status: (\d)", self.shell("dumpsys", "thermalservice"))
        return found is not None and int(found[1]) > 0

    def retried_once(self, what: str, action: Callable[[], Result]) -> Result:
        """`action`; after a lost connection once more, as soon as the phone is back.

        Raises:
            FacekdError: the connection was lost a second time, or the phone did not come back.
        """
        try:
            return action()
        except ConnectionLost as first:
            deadline = time.monotonic() + self._reconnect_s
            while True:
                time.sleep(min(self._poll_s, 1))
                is_back = False
                try:
                    self.require()
                    is_back = True
                    return action()
                except (ConnectionLost, UsageError) as again:
                    if is_back and isinstance(again, ConnectionLost):
                        raise FacekdError(f"{what}: the connection was lost twice ({again})") from first
                    # Not yet: a server that dies still takes connections for a moment, which it then drops.
                    if time.monotonic() > deadline:
                        raise FacekdError(f"{what}: the connection was lost and did not come back: {again}") from first

    def app_memory(self) -> dict[str, float | None]:
        """Resident and peak memory [MiB] of the demo app's process, which its benchmark has left running.

        The user "shell" may read the processes of apps (group readproc); a phone that refuses gives None.
        """
        package = ACTIVITY.partition("/")[0]
        process = self.shell("pidof", package).split()
        status = self.shell("cat", f"/proc/{process[0]}/status") if process and process[0].isdigit() else ""
        found = {key: int(kib) / 1024 for key, kib in re.findall(r"^(VmRSS|VmHWM):\s+(\d+) kB", status, re.M)}
        return {"resident_mib": found.get("VmRSS"), "peak_mib": found.get("VmHWM")}

    def _check_space(self, needed: int, path: str) -> None:
        lines = self.shell("df", "-k", path).splitlines()
        words = lines[-1].split() if len(lines) > 1 else []
        free = int(words[3]) * 1024 if len(words) >= 4 and words[3].isdigit() else None
        if free is not None and free < needed:
            raise FacekdError(
                f"adb:{self.serial} has {free / 2**20:.1f} MiB free at {PUSHED}, {needed / 2**20:.1f} MiB are needed: "
                f"free space, for example with adb shell rm -r {PUSHED}"
            )

    def _ask(self, action: Callable[[], Result]) -> Result:
        """Runs one exchange with the server; every way in which it may break becomes one of ours."""
        from adbutils import AdbError, AdbTimeout

        try:
            return action()
        except AdbTimeout as error:
            raise ConnectionLost(f"adb:{self.serial} does not answer ({error})") from error
        except AdbError as error:
            said = str(error)
            if "unauthorized" in said:
                raise UsageError(
                    f"adb:{self.serial} has not allowed this computer: unlock it and confirm the question on its screen"
                ) from error
            if not said or any(word in said for word in _GONE):
                raise ConnectionLost(f"adb:{self.serial} is gone ({said[:200] or 'no answer'})") from error
            if "No space" in said or "FAIL" in said or "Push not complete" in said:
                raise FacekdError(
                    f"adb:{self.serial} did not take a file ({said[:200]}): is there space left?"
                ) from error
            raise FacekdError(f"adb:{self.serial}: {said[:300]}") from error
        # A socket that ends early meets adbutils as half a number, half a structure or a failed assertion; a server
        # that is not there it starts with the program adb, which may hang.
        except (OSError, EOFError, ValueError, AssertionError, struct.error, subprocess.SubprocessError) as error:
            raise ConnectionLost(f"adb:{self.serial}: the adb server is gone ({error})") from error
