"""Error rates of passive liveness on a folder of live faces and attacks, as ISO/IEC 30107-3 names them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from facekd.common.errors import UsageError
from facekd.data.decoding import decode_image
from facekd.data.detection import FaceDetector, choose_face
from facekd.data.image_files import list_images, read_image_file
from facekd.runtimes.liveness import LivenessDetector

LIVE, ATTACK = "live", "attack"


@dataclass(frozen=True)
class LivenessScore:
    """One photograph. `score` is None where no face was found."""

    file: str
    score: float | None
    live: bool


@dataclass(frozen=True)
class ErrorRates:
    """Rates over photographs in which a face was found.

    Attributes:
        bpcer: share of live faces that are taken for attacks.
        apcer: of each kind of attack, the share that is taken for live; the figure of the standard is the largest.
        live, attacks: how many photographs they rest on, attacks by kind.
        without_face: photographs without a face, which count nowhere.
    """

    bpcer: float | None
    apcer: dict[str, float]
    live: int
    attacks: dict[str, int]
    without_face: int


def score_images(
    images: Sequence[Path],
    detector: FaceDetector,
    liveness: LivenessDetector,
    *,
    each: Callable[[], None] = lambda: None,
) -> Iterator[LivenessScore]:
    """The largest central face of each photograph; `each` is called after one.

    Raises:
        UnreadableImage: a file is no photograph.
    """
    for path in images:
        image = decode_image(read_image_file(path), str(path))
        face = choose_face(detector.detect(image), image.shape[1], image.shape[0])
        score = None if face is None else liveness.score(image, face.box)
        each()
        yield LivenessScore(str(path), score, score is not None and liveness.is_live(score))


def labelled_images(folder: Path) -> list[tuple[Path, str | None]]:
    """(photograph, kind of attack or None for live) of a folder with live/ and attack/, or attack/KIND/ for each kind.

    Raises:
        UsageError: the folder is not arranged so.
    """
    if not (folder / LIVE).is_dir() or not (folder / ATTACK).is_dir():
        raise UsageError(f"{folder} has no folders {LIVE}/ and {ATTACK}/: give photographs, or a folder that has them")
    found: list[tuple[Path, str | None]] = [(folder / LIVE / name, None) for name in list_images(folder / LIVE).images]
    for name in list_images(folder / ATTACK).images:
        found.append((folder / ATTACK / name, name.parts[0] if len(name.parts) > 1 else ATTACK))
    if not found:
        raise UsageError(f"{folder}: no photographs in {LIVE}/ and {ATTACK}/")
    return found


def error_rates(scores: Sequence[LivenessScore], kinds: Sequence[str | None]) -> ErrorRates:
    """The rates of `scores`, each with its kind of attack or None for live."""
    seen = [(score, kind) for score, kind in zip(scores, kinds, strict=True) if score.score is not None]
    live = [not score.live for score, kind in seen if kind is None]
    attacks: dict[str, list[bool]] = {}
    for score, kind in seen:
        if kind is not None:
            attacks.setdefault(kind, []).append(score.live)
    return ErrorRates(
        bpcer=sum(live) / len(live) if live else None,
        apcer={kind: sum(passed) / len(passed) for kind, passed in sorted(attacks.items())},
        live=len(live),
        attacks={kind: len(passed) for kind, passed in sorted(attacks.items())},
        without_face=len(scores) - len(seen),
    )
