"""The machine itself: what it is, its clock and temperature now, and how much memory this process holds.

Light on purpose (no torch, no pydantic): it runs inside the measuring process.
"""

import hashlib
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

_SYSTEM = Path("/sys")


def describe_host() -> dict[str, Any]:
    """Fields of record.Device for this machine. The id hashes what it is made of, not who it belongs to."""
    processor = processor_name()
    cores = os.cpu_count() or 1
    memory = _total_memory_mib()
    name = f"{processor}, {cores} cores"
    identity = f"{processor}|{cores}|{platform.machine()}|{memory and round(memory / 1024)}"
    return {
        "id": f"host-{hashlib.sha256(identity.encode()).hexdigest()[:12]}",
        "kind": "host",
        "name": name,
        "processor": processor,
        "cores": cores,
        "memory_mib": memory,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "details": {"python": platform.python_version()},
    }


def read_state(system: Path = _SYSTEM) -> dict[str, Any]:
    """Fields of record.State now. `spin_ms` takes about 20 ms to measure."""
    frequencies = [
        _number(file, 1e-3)
        for file in sorted((system / "devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_cur_freq"))
    ]
    temperatures = {}
    for zone in sorted((system / "class/thermal").glob("thermal_zone*")):
        value = _number(zone / "temp", 1e-3)
        if value is not None:
            temperatures[f"{_text(zone / 'type') or 'zone'} {zone.name.removeprefix('thermal_zone')}"] = value
    return {
        "frequency_mhz": [value for value in frequencies if value is not None],
        "temperature_c": temperatures,
        "spin_ms": spin_ms(),
        "governor": _text(system / "devices/system/cpu/cpu0/cpufreq/scaling_governor"),
    }


def spin_ms(clock: Callable[[], int] = time.perf_counter_ns, repeats: int = 9) -> float:
    """The fastest of `repeats` runs of one fixed loop: the processor's clock where the system shows none.

    The fastest run is the one that nothing interrupted, so that a busy neighbour does not pass for a lower clock.
    """
    best = None
    for _ in range(repeats):
        start = clock()
        value = 1
        for _ in range(20_000):
            value = (value * 1_103_515_245 + 12_345) & 0x7FFFFFFF
        elapsed = clock() - start
        best = elapsed if best is None else min(best, elapsed)
    assert best is not None
    return best / 1e6


def resident_mib() -> float | None:
    """Resident memory of this process; None where the system does not show it."""
    return _status("VmRSS")


def peak_mib() -> float | None:
    """Highest resident memory of this process since it began, or since `reset_peak`."""
    if sys.platform == "darwin":
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return _status("VmHWM")  # not ru_maxrss: Linux carries the parent's over into a new process


def reset_peak() -> bool:
    """Lets the peak begin at the present memory; False where the system cannot (then it counts from the start)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def pin(cores: list[int]) -> None:
    """Keeps this process and its later threads on `cores`."""
    if not hasattr(os, "sched_setaffinity"):
        raise OSError(f"{platform.system()} cannot pin a process to cores")
    os.sched_setaffinity(0, cores)


def _status(field: str) -> float | None:
    text = _text(Path("/proc/self/status"))
    for line in (text or "").splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1024
    return None


def processor_name() -> str:
    """The processor as the system names it."""
    for line in (_text(Path("/proc/cpuinfo")) or "").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _total_memory_mib() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    except (ValueError, OSError):
        return None


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None


def _number(path: Path, scale: float) -> float | None:
    text = _text(path)
    try:
        return float(text) * scale if text else None
    except ValueError:
        return None
