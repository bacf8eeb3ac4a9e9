"""Aligned faces on their way into a folder or a .rec, kept in a folder beside it (facekd.common.parts).

The folder holds faces.bin, the encoded faces one after the other, and outcomes.jsonl, a line a photograph.
"""

import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from facekd.common.parts import Parts, PartsKind

_FACES, _OUTCOMES = "faces.bin", "outcomes.jsonl"
COMMIT_S = 1.0
"""Seconds between two syncs: what a kill costs at most."""

KIND = PartsKind(
    schema="facekd alignment parts 1",
    name="a folder of faces in the making",
    files=(_FACES, _OUTCOMES),
    items="photographs",
    done="aligned",
    doing="aligning these photographs",
)


@dataclass(frozen=True)
class Outcome:
    """What became of one photograph.

    Attributes:
        face: encoded; None where there is none.
        why: there is none, where the photograph cannot be read; empty where no face was found.
        several: more than one face was found.
    """

    face: bytes | None
    why: str = ""
    several: bool = False


class AlignedParts(Parts):
    """What is aligned so far."""

    def fill(self, outcomes: Iterable[Outcome]) -> None:
        """Appends the outcomes of the photographs from `done` on."""
        faces: list[bytes] = []
        lines: list[bytes] = []
        last = time.monotonic()
        for outcome in outcomes:
            if outcome.face is not None:
                faces.append(outcome.face)
            size = None if outcome.face is None else len(outcome.face)
            lines.append(json.dumps([size, outcome.why, outcome.several]).encode() + b"\n")
            if time.monotonic() - last >= COMMIT_S:
                self._commit(faces, lines)
                last = time.monotonic()
        self._commit(faces, lines)

    def outcomes(self) -> Iterator[Outcome]:
        """All of them, in order."""
        with (self.folder / _FACES).open("rb") as faces, (self.folder / _OUTCOMES).open("rb") as lines:
            for line in lines:
                size, why, several = json.loads(line)
                yield Outcome(None if size is None else faces.read(size), why, several)

    def _commit(self, faces: list[bytes], lines: list[bytes]) -> None:
        if lines:
            self.append(self.done + len(lines), {_FACES: b"".join(faces), _OUTCOMES: b"".join(lines)})
            faces.clear()
            lines.clear()
