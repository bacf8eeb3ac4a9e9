"""Forged files: bytes changed at random, values of a structure replaced by ones drawn by hypothesis, and known tricks.

Every forgery is read in a process of its own. It may be read or refused; anything else is a finding.
"""

import copy
import json
import random
import shutil
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from facekd.common.errors import FacekdError, require_modules
from tests.faults.children import Ended, run_child
from tests.faults.targets import Target, plain
from tests.faults.tricks import tricks

LIMIT_S = 300.0
"""By the clock: long enough for a machine that others use, too."""
MEMORY_MIB = 1000.0
CANARY = "canary"
"""The file that a forgery's code would make."""

_NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x1FFFFFFF)


@dataclass
class Verdict:
    """What became of one target's forgeries: how many were read or refused, and each finding in a line."""

    cases: int = 0
    ended: Counter[str] = field(default_factory=Counter)
    peak_mib: float = 0.0
    slowest_cpu_s: float = 0.0
    findings: list[str] = field(default_factory=list)

    def add(self, what: str, ended: Ended, canary: Path) -> None:
        """Judges one case."""
        self.cases += 1
        self.ended[ended.how] += 1
        self.findings += [f"{what}: {line}" for line in self.look(ended, canary)]

    def look(self, ended: Ended, canary: Path) -> list[str]:
        """What is wrong with how a process ended; its memory and its time are taken down."""
        self.peak_mib = max(self.peak_mib, ended.peak_mib)
        self.slowest_cpu_s = max(self.slowest_cpu_s, ended.cpu_s)
        wrong = [] if ended.how in ("done", "refused") else [f"{ended.how}: {ended.said}"]
        if ended.peak_mib > MEMORY_MIB:
            wrong.append(f"{ended.peak_mib:.0f} MiB")
        if "Traceback" in ended.output:
            wrong.append("a traceback on stderr")
        wrong += ended.deeds
        if canary.exists():
            canary.unlink()
            wrong.append("its code was run")
        return wrong


def judge(target: Target, scratch: Path, *, mutations: int, seed: int = 0) -> Verdict:
    """Reads `mutations` forgeries of a target: the tricks first, the rest half by bytes and half by structure.

    Each trick has a process of its own. The others share one by the dozen, since a fork costs ten times a reading;
    where anything is wrong with a dozen, each of it is read again alone.
    """
    work = scratch / plain(target.name)
    shutil.copytree(target.folder, work)
    verdict = Verdict()
    canary = scratch / CANARY
    path = work / target.file
    whole = path.read_bytes()

    def read(content: bytes) -> None:
        path.write_bytes(content)
        target.seal(work)
        target.read(work)

    def read_alone(what: str, content: bytes) -> None:
        verdict.add(what, run_child(lambda: read(content), limit_s=LIMIT_S, inside=work), canary)

    def read_together(forgeries: list[tuple[str, bytes]]) -> None:
        ended = run_child(lambda: _count_refused(read, forgeries), limit_s=LIMIT_S, inside=work)
        wrong = verdict.look(ended, canary)
        if not wrong:
            verdict.cases += len(forgeries)
            verdict.ended.update(refused=int(ended.said), done=len(forgeries) - int(ended.said))
            return
        before = len(verdict.findings)
        for what, content in forgeries:
            read_alone(what, content)
        if len(verdict.findings) == before:
            verdict.findings += [f"{forgeries[0][0]} and those after it, together only: {line}" for line in wrong]

    ended = run_child(lambda: read(whole), limit_s=LIMIT_S, inside=work)
    if ended.how != "done":
        raise FacekdError(f"{target.name}: the whole file is not read: {ended.how}, {ended.said}")
    verdict.add("the whole file", ended, canary)
    for name, content in tricks(target, whole, canary):
        read_alone(name, content)
    left = max(mutations - verdict.cases, 0)
    by_structure = left // 2 if target.form in ("json", "yaml") else 0
    generator = random.Random(seed)
    forgeries: list[tuple[str, bytes]] = []
    for case in range(left - by_structure):
        forgeries.append((f"bytes {seed}:{case}", mutate_bytes(whole, generator, target.scan)))
    if by_structure:
        draw_structures(target, whole, by_structure, seed, lambda n, b: forgeries.append((f"structure {seed}:{n}", b)))
    for at in range(0, len(forgeries), 12):
        read_together(forgeries[at : at + 12])
    return verdict


def _count_refused(read: Callable[[bytes], None], forgeries: list[tuple[str, bytes]]) -> str:
    refused = 0
    for _, content in forgeries:
        try:
            read(content)
        except FacekdError:
            refused += 1
    return str(refused)


def mutate_bytes(whole: bytes, generator: random.Random, scan: int) -> bytes:
    """One to four changes, half of them among the first `scan` bytes, where the lengths and counts stand."""
    data = bytearray(whole)
    for _ in range(generator.randint(1, 4)):
        if not data:
            break
        at = generator.randrange(min(scan, len(data)) if generator.random() < 0.5 else len(data))
        match generator.randrange(7):
            case 0:
                data[at] ^= 1 << generator.randrange(8)
            case 1:
                data[at] = generator.randrange(256)
            case 2:
                number = struct.pack("<I" if generator.random() < 0.7 else ">I", generator.choice(_NUMBERS))
                data[at : at + 4] = number
            case 3:
                data[at : at + 8] = struct.pack("<Q", generator.choice((2**31, 2**40, 2**63, 2**64 - 1)))
            case 4:
                del data[at : at + generator.choice((1, 2, 4, 8, len(data) // 3))]
            case 5:
                part = data[at : at + generator.randint(1, 64)]
                data[at:at] = part * generator.choice((1, 2, 50))
            case 6:
                other = generator.randrange(len(data))
                length = generator.randint(1, 32)
                data[at : at + length] = data[other : other + length]
    return bytes(data)


def draw_structures(target: Target, whole: bytes, number: int, seed: int, read: Callable[[int, bytes], None]) -> None:
    """Replaces a value anywhere in a JSON or YAML file by one that hypothesis draws, or takes it out."""
    require_modules("structured mutations", ["hypothesis"], extra="test")
    import hypothesis
    from hypothesis import strategies

    tree = json.loads(whole) if target.form == "json" else yaml.safe_load(whole)
    places = list(_places(tree))
    leaves = (
        strategies.none()
        | strategies.booleans()
        | strategies.integers()
        | strategies.floats()
        | strategies.text(max_size=30)
        | strategies.sampled_from(_EVIL)
    )
    values = strategies.recursive(
        leaves,
        lambda inner: (
            strategies.lists(inner, max_size=4)
            | strategies.dictionaries(strategies.text(max_size=8), inner, max_size=4)
        ),
        max_leaves=8,
    )
    count = 0

    @hypothesis.settings(
        max_examples=number,
        deadline=None,
        database=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.seed(seed)
    @hypothesis.given(strategies.sampled_from(places), strategies.just(...) | values)
    def one(place: tuple[Any, ...], value: Any) -> None:
        nonlocal count
        changed = copy.deepcopy(tree)
        holder = changed
        for step in place[:-1]:
            holder = holder[step]
        if value is ...:
            del holder[place[-1]]
        else:
            holder[place[-1]] = value
        text = json.dumps(changed) if target.form == "json" else yaml.safe_dump(changed)
        read(count, text.encode("utf-8", "surrogatepass"))
        count += 1

    one()


_EVIL: tuple[Any, ...] = (
    "../../../../../../etc/passwd",
    "/etc/passwd",
    "/dev/zero",
    "golden/../../..",
    "subprocess:run",
    "os:system",
    "\x00",
    "a" * 100_000,
    10**30,
    -1,
    2**31,
    2**63,
    1e308,
    float("nan"),
    float("inf"),
    [],
    {},
    [[1] * 1000] * 100,
)


def _places(tree: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield (*above, key)
        yield from _places(value, (*above, key))
