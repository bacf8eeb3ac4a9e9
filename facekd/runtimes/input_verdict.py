"""The check of facekd.runtimes.input_check on a user's faces: once for a model, spec and data, and in words."""

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from facekd.common.errors import UsageError
from facekd.common.hashing import parts_sha256
from facekd.common.progress import progress_bar
from facekd.common.text import plain
from facekd.common.writing import atomic_file
from facekd.data.same_person import SamePersonPairs, are_drawn
from facekd.data.source import Source
from facekd.data.verification_set import VerificationSet
from facekd.runtimes.embedder import Embedder, FileEmbedder
from facekd.runtimes.feedings import ways_of
from facekd.runtimes.files import ModelFiles
from facekd.runtimes.input_check import FEWEST_PAIRS, Feeding, Verdict, judge
from facekd.runtimes.input_range import shown
from facekd.schemas.input_spec import StatedInput

log = logging.getLogger(__name__)

Faces = Source | VerificationSet
_VERDICT = TypeAdapter(Verdict)
_VERSION = "input check 1"


def check_embedder(model: Path, embedder: Embedder, faces: Faces, *, progress: bool = False) -> None:
    """Stops where a foreign model file, opened, is fed clearly otherwise than it was trained; nothing for other models.

    Args:
        model: where it lies.
        embedder: as it will be used.
        faces: what it will be used on, of its input's size.
        progress: show a bar on stderr.

    Raises:
        UsageError: another usual way to feed it separates people clearly better, or its output is probabilities.
    """
    if not isinstance(embedder, FileEmbedder) or model.is_dir():
        return
    files = ModelFiles.of(model, runtime=embedder.session.runtime)
    problem = input_problem(
        ways_of(embedder),
        faces,
        name=str(model),
        model_sha256=f"{files.sha256} {embedder.session.output.name} {embedder.encoding.layout}",
        as_options=options,
        go_on="--trust-input",
        progress=progress,
    )
    if problem is not None:
        raise UsageError(problem)


def options(stated: StatedInput) -> str:
    """As options of a command: "give --colour BGR --mean 0"."""
    return "give " + " ".join(f"--{name} {_shown(value)}" for name, value in stated.stated.items())


def recipe_fields(stated: StatedInput) -> str:
    """As settings of a recipe: "give --set teacher.colour=BGR"."""
    return "give " + " ".join(f"--set teacher.{name}={_shown(value)}" for name, value in stated.stated.items())


def input_problem(
    ways: Sequence[Feeding],
    faces: Faces,
    *,
    name: str,
    model_sha256: str,
    as_options: Callable[[StatedInput], str] | None,
    go_on: str,
    progress: bool = False,
    seed: int = 0,
) -> str | None:
    """What is wrong with how a model is fed, in one line; None where nothing is, or there is too little to tell.

    Args:
        ways: how it is fed, then how else it could be.
        faces: of people; facekd's synthetic ones are not looked at.
        name: of the model, for the message.
        model_sha256: and whatever else of the model decides; "" is never remembered.
        as_options: how a person states another input; None where the model states its own.
        go_on: how a person goes on all the same.
        progress: show a bar on stderr.
        seed: of the faces that are drawn.
    """
    if are_drawn(faces) or len(ways) < 2:
        return None
    pairs = SamePersonPairs.of(faces, seed=seed)
    if len(pairs) < FEWEST_PAIRS:
        log.warning(
            "%s: how it is fed was not checked: %s holds %d pairs of pictures of one person, %d are needed",
            plain(name), plain(faces.name), len(pairs), FEWEST_PAIRS,
        )  # fmt: skip
        return None
    place = None
    if model_sha256:
        key = parts_sha256(_VERSION, model_sha256, ways[0].words, faces.fingerprint(), str(seed))
        place = _cache() / f"{key[:32]}.json"
    verdict = _remembered(place)
    if verdict is None:
        with progress_bar(f"check how {Path(name).name} is fed", len(ways), shown=progress) as bar:

            def tell(words: str) -> None:
                bar.describe(f"check how {Path(name).name} is fed: {words}")
                bar.advance()

            verdict = judge(ways, pairs.read, tell=tell)
        _remember(place, verdict)
    outputs = [way.stated for way in ways[1:] if way.stated.output is not None]
    advice = (
        " or ".join(map(as_options, outputs)) if outputs and as_options else "export the layer before the classifier"
    )
    return _in_words(verdict, name, faces.name, as_options, go_on, instead=advice)


def _in_words(
    verdict: Verdict,
    name: str,
    faces: str,
    as_options: Callable[[StatedInput], str] | None,
    go_on: str,
    *,
    instead: str,
) -> str | None:
    found = verdict.better
    if found is not None:
        what = "its output is probabilities; " if verdict.probabilities else ""
        advice = as_options(found.stated) if as_options else "correct what it states of its input"
        return (
            f"{name}: {what}fed {found.now}, it separates the people of {faces} by {found.separation_now:.2f} standard "
            f"deviations, fed {found.better} by {found.separation_better:.2f} ({found.pairs} pairs; the difference is "
            f"{found.deviate:.1f} standard errors): {advice}, or go on with {go_on}"
        )
    if verdict.probabilities:
        return (
            f"{name}: every row of its output is positive and sums to 1, as probabilities of classes do, which are no "
            f"embedding: {instead}, or go on with {go_on}"
        )
    return None


def _shown(value: object) -> str:
    return shown(value) if isinstance(value, tuple) else str(value)


def _cache() -> Path:
    """XDG_CACHE_HOME/facekd/input-checks, or ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "facekd" / "input-checks"


def _remembered(place: Path | None) -> Verdict | None:
    try:
        return None if place is None else _VERDICT.validate_json(place.read_bytes())
    except (OSError, ValidationError):
        return None


def _remember(place: Path | None, verdict: Verdict) -> None:
    if place is None:
        return
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(place, overwrite=True) as stream:
            stream.write(_VERDICT.dump_json(verdict))
    except Exception as error:  # a cache that cannot be written costs seconds the next time, no more
        log.debug("the verdict is not kept: %s", error)
