"""An independent recognition session, and the sequences by which Kotlin's and JavaScript's are held to it.

Written from the rules that Session.kt states, not from its code: here every face keeps its whole history, and a verdict
is read from the history anew at each frame.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

AGREEING = 3
OVERLAP = 0.3
GAP_MS = 2000
PEOPLE = ("Ada", "Ben", "Cleo", "stranger")
THRESHOLD = 0.5


@dataclass(frozen=True)
class Seen:
    """A face in a frame. `fault` is what the floor of quality says of it; None is good enough."""

    box: tuple[float, float, float, float]
    fault: str | None
    embedding: np.ndarray


@dataclass
class History:
    """What was seen of one face: its last box and embedding, and (usable, vote) of each frame, the newest last."""

    number: int
    box: tuple[float, float, float, float]
    embedding: np.ndarray | None = None
    entries: list[tuple[bool, str | None]] = field(default_factory=list)


Gallery = Sequence[tuple[str, np.ndarray]]


def best(embedding: np.ndarray, gallery: Gallery) -> tuple[str, float] | None:
    """The most similar person and the cosine."""
    scores = [(float(embedding @ other), name) for name, other in gallery]
    return max(scores)[::-1] if scores else None


def iou(a: Sequence[float], b: Sequence[float]) -> float:
    """Intersection over union of (left, top, width, height)."""
    low, high = np.maximum(a[:2], b[:2]), np.minimum(np.add(a[:2], a[2:]), np.add(b[:2], b[2:]))
    shared = float(np.prod(np.clip(high - low, 0, None)))
    return shared / (a[2] * a[3] + b[2] * b[3] - shared)


def votes(entries: Sequence[tuple[bool, str | None]]) -> list[str | None]:
    """The votes that still count, the newest first: from the newest back to AGREEING unusable frames in a row."""
    found: list[str | None] = []
    blind = 0
    for usable, vote in reversed(entries):
        blind = 0 if usable else blind + 1
        if blind == AGREEING:
            break
        if usable:
            found.append(vote)
    return found[:AGREEING]


def run(
    frames: Sequence[tuple[int, Sequence[Seen]]], gallery: Gallery, asked: str | None
) -> list[list[dict[str, Any]]]:
    """(time in ms, faces) of each frame -> of each face its track, verdict, fault, person and score.

    Args:
        frames: in their order.
        gallery: who is enrolled.
        asked: 1:1 against this person; None is 1:N.
    """
    compared = [(name, e) for name, e in gallery if asked in (None, name)]
    alive: list[History] = []
    last, number, out = None, 0, []
    for time, seen in frames:
        if last is None or time - last > GAP_MS:
            alive = []
        last = time
        table = np.array([[iou(h.box, s.box) for s in seen] for h in alive]).reshape(len(alive), len(seen))
        for i, h in enumerate(alive):
            for j, s in enumerate(seen):
                if h.embedding is not None and s.fault is None and h.embedding @ s.embedding <= THRESHOLD:
                    table[i, j] = 0
        owner: dict[int, History] = {}
        while table.size and table.max() >= OVERLAP:
            i, j = np.unravel_index(table.argmax(), table.shape)
            owner[int(j)] = alive[i]
            table[i, :] = table[:, j] = 0
        alive, row = [], []
        for j, s in enumerate(seen):
            if j not in owner:
                owner[j] = History(number, s.box)
                number += 1
            history = owner[j]
            history.box = s.box
            alive.append(history)
            row.append(verdict(history, s, compared))
        out.append(row)
    return out


def verdict(history: History, seen: Seen, compared: Gallery) -> dict[str, Any]:
    """Adds the frame to the history and reads the verdict from it."""
    said: dict[str, Any] = {"track": history.number, "fault": seen.fault, "person": None, "score": None}
    if seen.fault is not None:
        history.entries.append((False, None))
        return {**said, "verdict": "unusable"}
    history.embedding = seen.embedding
    found = best(seen.embedding, compared)
    if found is None:
        return {**said, "verdict": "nobody_enrolled"}
    name, score = found
    person = name if score > THRESHOLD else None
    history.entries.append((True, person))
    counted = votes(history.entries)
    agreed = len(counted) == AGREEING and set(counted) == {person}
    known = "unknown" if person is None else "person"
    return {**said, "score": score, "person": person, "verdict": known if agreed else "undecided"}


# The sequences.

LEFT, RIGHT = (100.0, 100.0, 90.0, 110.0), (400.0, 110.0, 90.0, 110.0)
GOOD = {"eyeDistance": 45.0, "yaw": 0.02, "rollDegrees": 1.0, "pitch": 0.55, "brightness": 120.0, "sharpness": 130.0}
FAULTS = {
    "too_small": {"eyeDistance": 15.0},
    "turned": {"yaw": -0.6},
    "tilted": {"rollDegrees": 44.0},
    "nodded": {"pitch": 0.9},
    "too_dark": {"brightness": 8.0},
    "blurred": {"sharpness": 3.0},
}


def people() -> dict[str, np.ndarray]:
    """Four people, orthogonal: [8] each."""
    return dict(zip(PEOPLE, np.linalg.qr(np.random.default_rng(11).normal(size=(8, 8)))[0][:4], strict=True))


def sequences() -> list[dict[str, Any]]:
    """What the sessions are shown, with the reference's answers; JSON."""
    rng = np.random.default_rng(5)
    known = people()

    def sight(person: str, place: Sequence[float], fault: str | None = None) -> Seen:
        noisy = known[person] + rng.normal(0, 0.12, 8)
        # A fraction that float32 holds, so that every language reads the same box.
        left, top = (round(float(v + rng.uniform(-4, 4)) * 8) / 8 for v in place[:2])
        return Seen((left, top, place[2], place[3]), fault, noisy / np.linalg.norm(noisy))

    def many(count: int, *faces: tuple[Any, ...]) -> list[list[Seen]]:
        return [[sight(*face) for face in faces] for _ in range(count)]

    def cross(i: int) -> list[Seen]:
        step = 30.0 * i
        return [sight("Ada", (100 + step, 100, 90, 110)), sight("Ben", (400 - step, 104, 90, 110))]

    crossing = [cross(i) for i in range(11)]
    # Somebody's frame that resembles the one before it, but nobody enrolled.
    plain = sight("Ada", LEFT)
    aside = plain.embedding - (plain.embedding @ known["Ada"]) * known["Ada"]
    doubtful = Seen(plain.box, None, 0.45 * known["Ada"] + np.sqrt(1 - 0.45**2) * aside / np.linalg.norm(aside))
    wobble = [*many(3, ("Ada", LEFT)), [plain], [doubtful], [plain], [plain], [plain]]
    seen: dict[str, list[list[Seen]]] = {
        "one person": many(5, ("Ada", LEFT)),
        "one leaves and another enters in the next frame": many(4, ("Ada", LEFT)) + many(4, ("Ben", LEFT)),
        "one leaves and a stranger enters in the next frame": many(4, ("Ada", LEFT)) + many(4, ("stranger", LEFT)),
        "one leaves, nobody is there, the same returns": [*many(4, ("Ada", LEFT)), [], *many(4, ("Ada", LEFT))],
        "another enters behind a blur": many(4, ("Ada", LEFT))
        + many(2, ("stranger", LEFT, "blurred"))
        + many(4, ("stranger", LEFT)),
        "two at once": many(4, ("Ada", LEFT), ("Ben", RIGHT)),
        "one of two leaves": many(4, ("Ada", LEFT), ("Ben", RIGHT)) + many(3, ("Ben", RIGHT)),
        "two cross": crossing,
        "two change places": many(4, ("Ada", LEFT), ("Ben", RIGHT)) + many(4, ("Ben", LEFT), ("Ada", RIGHT)),
        "a short blur": many(4, ("Ada", LEFT)) + many(2, ("Ada", LEFT, "blurred")) + many(2, ("Ada", LEFT)),
        "a long blur": many(4, ("Ada", LEFT)) + many(3, ("Ada", LEFT, "blurred")) + many(4, ("Ada", LEFT)),
        "dark": many(4, ("Ada", LEFT, "too_dark")) + many(4, ("Ada", LEFT)),
        "every fault": [[sight("Ada", LEFT, fault)] for fault in FAULTS],
        "nobody": [[], [], []],
        "a frame that doubts": wobble,
        "jumps": many(2, ("Ada", LEFT)) + many(2, ("Ada", RIGHT)) + many(3, ("Ada", LEFT)),
    }
    gallery = [(name, known[name]) for name in ("Ada", "Ben", "Cleo")]
    cases: list[tuple[str, list[list[Seen]], Gallery, str | None, Callable[[int], int]]] = [
        (name, frames, gallery, None, lambda i: 200 * i) for name, frames in seen.items()
    ]
    cases += [
        ("nobody is enrolled", many(4, ("Ada", LEFT)), [], None, lambda i: 200 * i),
        ("yes", many(4, ("Ben", LEFT)), gallery, "Ben", lambda i: 200 * i),
        ("no", many(4, ("Ada", LEFT)), gallery, "Ben", lambda i: 200 * i),
        ("a gap in time", many(7, ("Ada", LEFT)), gallery, None, lambda i: 200 * i + (1900 if i > 3 else 0)),
    ]
    return [case(*one) for one in cases]


def case(
    name: str, faces: list[list[Seen]], gallery: Gallery, asked: str | None, time: Callable[[int], int]
) -> dict[str, Any]:
    """One sequence as JSON."""
    frames = [(time(i), row) for i, row in enumerate(faces)]
    answers = run(frames, gallery, asked)
    return {
        "name": name,
        "threshold": THRESHOLD,
        "asked": asked,
        "gallery": [{"person": person, "embedding": e.tolist()} for person, e in gallery],
        "frames": [
            {
                "time_ms": at,
                "faces": [
                    {
                        "box": list(s.box),
                        "quality": GOOD | (FAULTS[s.fault] if s.fault else {}),
                        "embedding": s.embedding.tolist(),
                    }
                    for s in row
                ],
                "expected": answer,
            }
            for (at, row), answer in zip(frames, answers, strict=True)
        ],
    }


def measures(crop: np.ndarray, landmarks: np.ndarray) -> dict[str, float]:
    """The quality of an aligned crop, uint8 RGB [112, 112, 3], and its landmarks [5, 2] in the picture."""
    grey = crop.astype(np.float64) @ [0.299, 0.587, 0.114]
    kernel = {(0, 1): 1, (2, 1): 1, (1, 0): 1, (1, 2): 1, (1, 1): -4}
    h, w = grey.shape
    laplacian = sum(k * grey[y : y + h - 2, x : x + w - 2] for (y, x), k in kernel.items())
    left, right, nose, *mouth = landmarks.astype(float)
    along = (right - left) / np.linalg.norm(right - left)
    down = np.array([-along[1], along[0]])
    middle = (left + right) / 2
    return {
        "eyeDistance": float(np.linalg.norm(right - left)),
        "rollDegrees": float(np.degrees(np.angle(along[0] + 1j * along[1]))),
        "yaw": float((nose - middle) @ along / np.linalg.norm(right - left)),
        "pitch": float((nose - middle) @ down / ((sum(mouth) / 2 - middle) @ down)),
        "brightness": float(grey.mean()),
        "sharpness": float(np.var(laplacian)),
    }


# Enrolment.


def review(person: str, samples: Sequence[np.ndarray], stored: Gallery) -> dict[str, Any]:
    """What speaks against keeping samples under a name, as EnrolmentReview.kt states it."""
    nothing: dict[str, Any] = {"kind": "fine", "sample": None, "person": None}
    table = np.array(samples) @ np.array(samples).T
    np.fill_diagonal(table, np.nan)
    if np.nanmin(table, initial=2) <= THRESHOLD:
        means = np.nanmean(table, axis=1)
        return {**nothing, "kind": "odd", "sample": int(np.flatnonzero(np.isclose(means, means.min()))[-1])}
    own = [e for name, e in stored if name == person]
    if own and (np.array(samples) @ np.array(own).T).max(axis=1).min() <= THRESHOLD:
        return {**nothing, "kind": "name_taken"}
    nearest = max((float(s @ e), name) for s in samples for name, e in [*stored, ("", -s)] if name != person)
    return {**nothing, "kind": "known", "person": nearest[1]} if nearest[0] > THRESHOLD else nothing


def reviews() -> list[dict[str, Any]]:
    """Samples that come to be enrolled, with the reference's answers; JSON."""
    rng = np.random.default_rng(6)
    known = people()

    def sample(person: str) -> np.ndarray:
        noisy = known[person] + rng.normal(0, 0.12, 8)
        noisy /= np.linalg.norm(noisy)
        return noisy

    stored = [(name, sample(name)) for name in ("Ada", "Ada", "Ben")]
    cases = [
        ("Cleo", ["Cleo", "Cleo", "Cleo"]),
        ("Cleo", ["Cleo", "stranger", "Cleo"]),
        ("Cleo", ["stranger", "Cleo", "Cleo"]),
        ("Cleo", ["Cleo", "stranger"]),
        ("Ada", ["Ada"]),
        ("Ada", ["stranger", "stranger"]),
        ("Ada", ["Ben", "Ben", "Ben"]),
        ("Benjamin", ["Ben", "Ben", "Ben"]),
        ("Cleo", ["Ada"]),
    ]
    found = []
    for person, shown in cases:
        samples = [sample(name) for name in shown]
        for gallery in (stored, []):
            found.append(
                {
                    "person": person,
                    "threshold": THRESHOLD,
                    "samples": [s.tolist() for s in samples],
                    "stored": [{"person": name, "embedding": e.tolist()} for name, e in gallery],
                    "expected": review(person, samples, gallery),
                }
            )
    return found
