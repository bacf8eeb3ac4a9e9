"""An independent reference of liveness over frames, and the sequences that Kotlin and JavaScript are held to.

Written from the rules that LivenessSession.kt and ActiveCheck.kt state, not from their code: votes and the progress of
a check are read anew at each frame from all that the track has shown.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tests.android.session_reference import AGREEING, FAULTS, GOOD, LEFT, THRESHOLD, Seen, people, run, votes

LIVE_ABOVE = 0.5
LIMIT_MS, PAUSE_MS = 12_000, 3_000
TURNED, AHEAD = 0.3, 0.15
OVER = ("passed", "too_late", "wrong_turn", "other_person")


@dataclass(frozen=True)
class Sight:
    """A face in a frame: as the session sees it, what the liveness networks give, and where it looks."""

    seen: Seen
    score: float | None
    yaw: float


@dataclass
class Check:
    """An active check: what it asks, who began when, and (time, yaw, embedding or None) of each frame since."""

    turns: Sequence[str]
    before: np.ndarray
    began: int
    frames: list[tuple[int, float, np.ndarray | None]] = field(default_factory=list)

    def outcome(self) -> tuple[str, int]:
        """The step after all frames, and when it ended."""
        goals = [goal for turn in self.turns for goal in (turn, "ahead")]
        for time, yaw, embedding in self.frames:
            if time - self.began > LIMIT_MS:
                return "too_late", time
            signed = {"left": yaw, "right": -yaw}
            if goals[0] == "ahead":
                if abs(yaw) < AHEAD and len(goals) > 1:
                    goals.pop(0)
                elif abs(yaw) < AHEAD and embedding is not None:
                    same = float(self.before @ embedding) > THRESHOLD
                    return ("passed" if same else "other_person"), time
            elif signed[goals[0]] <= -TURNED:
                return "wrong_turn", time
            elif signed[goals[0]] >= TURNED:
                goals.pop(0)
        return ("look_ahead" if goals[0] == "ahead" else f"turn_{goals[0]}"), 0


@dataclass
class Shown:
    """What a track has shown: (usable, live) of each frame, and its last check."""

    entries: list[tuple[bool, bool | None]] = field(default_factory=list)
    check: Check | None = None

    @property
    def live(self) -> bool | None:
        counted = votes(self.entries)  # type: ignore[arg-type]
        return bool(counted[0]) if len(counted) == AGREEING and len(set(counted)) == 1 else None

    @property
    def step(self) -> str | None:
        return None if self.check is None else self.check.outcome()[0]


def clearances(
    frames: Sequence[tuple[int, Sequence[Sight]]],
    verdicts: Sequence[Sequence[dict[str, Any]]],
    demand: str,
    draws: Sequence[Sequence[str]],
) -> list[list[str]]:
    """What liveness lets be said of each face of each frame.

    Args:
        frames: (time in ms, faces).
        verdicts: of the recognition session.
        demand: off, passive or active.
        draws: turns of the first check, of the second, ...
    """
    tracks: dict[int, Shown] = {}
    left, out = list(draws), []
    for (time, sights), said in zip(frames, verdicts, strict=True):
        tracks = {one["track"]: tracks.get(one["track"], Shown()) for one in said}
        for sight, one in zip(sights, said, strict=True):
            shown = tracks[one["track"]]
            usable = one["verdict"] != "unusable" and sight.score is not None
            shown.entries.append((usable, sight.score > LIVE_ABOVE if usable and sight.score is not None else None))
            if shown.check is not None and shown.step not in OVER:
                embedding = sight.seen.embedding if one["verdict"] != "unusable" else None
                shown.check.frames.append((time, sight.yaw, embedding))
        if demand == "active" and all(shown.step in (None, *OVER) for shown in tracks.values()):
            waiting = [
                sight
                for sight, one in zip(sights, said, strict=True)
                if one["verdict"] == "person"
                and abs(sight.yaw) < AHEAD
                and tracks[one["track"]].live
                and may_begin(tracks[one["track"]], time)
            ]
            if waiting:
                largest = max(waiting, key=lambda sight: sight.seen.box[2] * sight.seen.box[3])
                owner = tracks[said[list(sights).index(largest)]["track"]]
                owner.check = Check(left.pop(0), largest.seen.embedding, time)
        out.append(
            [
                clearance(tracks[one["track"]], one["verdict"], demand, sight.yaw)
                for sight, one in zip(sights, said, strict=True)
            ]
        )
    return out


def may_begin(shown: Shown, time: int) -> bool:
    """Whether another check may follow the last."""
    if shown.check is None:
        return True
    step, ended = shown.check.outcome()
    return step != "passed" and time - ended >= PAUSE_MS


def clearance(shown: Shown, verdict: str, demand: str, yaw: float) -> str:
    """Of one face."""
    step = shown.step
    if demand == "off":
        return "clear"
    if step is not None and step not in OVER:
        return step
    if verdict not in ("person", "unknown"):
        return "clear"
    if shown.live is False:
        return "not_live"
    if verdict == "unknown":
        return "clear"
    if shown.live is None:
        return "measuring"
    if demand == "passive" or step == "passed":
        return "clear"
    return step or ("wait" if abs(yaw) < AHEAD else "look_ahead")


# The sequences.


def sequences() -> list[dict[str, Any]]:
    """What the sessions are shown, with the reference's answers; JSON."""
    rng = np.random.default_rng(9)
    known = people()

    def sight(
        person: str,
        place: Sequence[float] = LEFT,
        *,
        score: float | None = 0.97,
        yaw: float = 0.0,
        fault: str | None = None,
    ) -> Sight:
        noisy = known[person] + rng.normal(0, 0.12, 8)
        if abs(yaw) > 0.4:  # beyond the floor of quality
            fault = "turned"
        return Sight(Seen(tuple(place), fault, noisy / np.linalg.norm(noisy)), score, yaw)  # type: ignore[arg-type]

    def many(count: int, *people_: str, **how: Any) -> list[list[Sight]]:
        return [[sight(person, **how) for person in people_] for _ in range(count)]

    def turned(*yaws: float, person: str = "Ada", score: float | None = 0.97) -> list[list[Sight]]:
        return [[sight(person, yaw=yaw, score=score)] for yaw in yaws]

    larger = (400.0, 100.0, 120.0, 150.0)
    both = [[sight("Ada"), sight("Ben", larger)] for _ in range(5)]
    ben_turns = [
        [sight("Ada"), sight("Ben", larger, yaw=yaw)] for yaw in (0.1, 0.3, 0.5, 0.3, 0.05, -0.1, -0.3, 0.0, 0.0)
    ]
    # From Ada to Ben in steps that each pass as the same person.
    steps = [np.cos(a) * known["Ada"] + np.sin(a) * known["Ben"] for a in np.linspace(0, np.pi / 2, 5)]
    drift = [[Sight(Seen(LEFT, None, e), 0.97, yaw)] for e, yaw in zip(steps, (0.3, 0.0, -0.3, -0.2, 0.0), strict=True)]
    full = turned(0.1, 0.2, 0.3, 0.6, 0.5, 0.2, 0.1, -0.1, -0.3, -0.5, -0.2, 0.0, 0.02, 0.0, 0.01)
    begun = many(3, "Ada")

    def at_200(i: int) -> int:
        return 200 * i

    cases: list[tuple[str, str, list[list[Sight]], list[tuple[str, ...]], Callable[[int], int]]] = [
        ("off", "off", many(4, "Ada", score=0.0), [], at_200),
        ("a live face", "passive", many(4, "Ada"), [], at_200),
        ("a screen", "passive", many(5, "Ada", score=0.3), [], at_200),
        ("the threshold itself is not live", "passive", many(4, "Ada", score=LIVE_ABOVE), [], at_200),
        ("nobody measured it", "passive", many(4, "Ada", score=None), [], at_200),
        ("a screen after a face", "passive", many(4, "Ada") + many(5, "Ada", score=0.1), [], at_200),
        ("one frame doubts", "passive", many(4, "Ada") + many(1, "Ada", score=0.4) + many(4, "Ada"), [], at_200),
        (
            "a long blur forgets",
            "passive",
            many(3, "Ada") + many(3, "Ada", fault="blurred") + many(4, "Ada", score=0.2),
            [],
            at_200,
        ),
        ("somebody else's frames do not count", "passive", many(4, "Ada") + many(4, "Ben", score=0.2), [], at_200),
        ("a stranger", "passive", many(4, "stranger") + many(4, "stranger", score=0.1), [], at_200),
        ("measured late", "passive", many(4, "Ada", score=None) + many(4, "Ada"), [], at_200),
        ("both turns, and the name", "active", begun + full, [("left", "right")], at_200),
        ("the same way twice", "active", begun + turned(-0.3, -0.1, -0.3, 0.1, 0.0), [("right", "right")], at_200),
        (
            "looks aside to begin with",
            "active",
            turned(0.2, 0.2, 0.2, -0.2, 0.1, 0.2, 0.3),
            [("left", "right")],
            at_200,
        ),
        ("a screen is not asked", "active", many(6, "Ada", score=0.2), [], at_200),
        ("a stranger is not asked", "active", many(5, "stranger"), [], at_200),
        (
            "the wrong way, and once more",
            "active",
            begun + turned(-0.1, -0.3) + many(18, "Ada") + turned(-0.4, 0.0, 0.4, 0.0, 0.0),
            [("left", "right"), ("right", "left")],
            at_200,
        ),
        ("nobody turns", "active", many(18, "Ada"), [("left", "left")], lambda i: 900 * i),
        (
            "another comes back from the turn",
            "active",
            begun + turned(0.3, 0.0, -0.3, -0.5, -0.5, -0.5) + many(2, "Ben") + many(4, "Ben"),
            [("left", "right"), ("left", "left")],
            at_200,
        ),
        ("becomes another by and by", "active", begun + drift + many(4, "Ben"), [("left", "right")], at_200),
        (
            "the last look ahead is blurred",
            "active",
            begun + turned(0.3, 0.0, -0.3) + many(2, "Ada", fault="blurred") + many(2, "Ada"),
            [("left", "right")],
            at_200,
        ),
        (
            "leaves during the check",
            "active",
            [*begun, *turned(0.3), [], *begun, *turned(0.3, 0.0, 0.3, 0.0)],
            [("left", "right"), ("left", "left")],
            at_200,
        ),
        (
            "a screen is held up after the check",
            "active",
            begun + full + many(4, "Ada", score=0.1),
            [("left", "right")],
            at_200,
        ),
        ("the larger of two is asked first", "active", both + ben_turns, [("left", "right"), ("left", "left")], at_200),
    ]
    return [case(*one) for one in cases]


def case(
    name: str, demand: str, faces: list[list[Sight]], draws: list[tuple[str, ...]], time: Callable[[int], int]
) -> dict[str, Any]:
    """One sequence as JSON."""
    known = people()
    gallery = [(person, known[person]) for person in ("Ada", "Ben", "Cleo")]
    frames = [(time(i), row) for i, row in enumerate(faces)]
    verdicts = run([(at, [sight.seen for sight in row]) for at, row in frames], gallery, None)
    answers = clearances(frames, verdicts, demand, draws)
    return {
        "name": name,
        "demand": demand,
        "threshold": THRESHOLD,
        "live_above": LIVE_ABOVE,
        "draws": [list(turns) for turns in draws],
        "gallery": [{"person": person, "embedding": e.tolist()} for person, e in gallery],
        "frames": [
            {
                "time_ms": at,
                "faces": [
                    {
                        "box": list(sight.seen.box),
                        "quality": GOOD
                        | {"yaw": sight.yaw}
                        | (FAULTS[sight.seen.fault] if sight.seen.fault and sight.seen.fault != "turned" else {}),
                        "embedding": sight.seen.embedding.tolist(),
                        "live": sight.score,
                    }
                    for sight in row
                ],
                "verdicts": [one["verdict"] for one in said],
                "expected": answer,
            }
            for (at, row), said, answer in zip(frames, verdicts, answers, strict=True)
        ],
    }
