"""Verification accuracy of the very file that is timed, through the same runtime; kept by file and set."""

import json
import os
import tempfile
from pathlib import Path
from typing import Protocol

from facekd.benchmarks.subject import FOREIGN, Subject
from facekd.common.hashing import text_sha256
from facekd.data.verification_set import VerificationSet
from facekd.evaluation.embedding import ImagePairs, evaluate_verification
from facekd.export.logs import captured
from facekd.runtimes.embedder import Embedder
from facekd.runtimes.input_verdict import check_embedder
from facekd.schemas.record import Accuracy


def accuracy_of(
    subject: Subject,
    pairs: "FingerprintedPairs",
    *,
    cache: Path,
    threads: int,
    trust_input: bool = False,
    progress: bool = False,
) -> Accuracy:
    """Verification; taken from `cache` where the same file was measured on the same set before.

    Args:
        cache: folder of one JSON file per (model sha256, input spec, set sha256).
        trust_input: do not check on the pairs that a foreign file is fed as it was trained.
        progress: show a bar on stderr, image by image, with the time that is left.
    """
    fingerprint = pairs.fingerprint()
    place = cache / f"{cache_key(subject, fingerprint)}.json"
    if place.is_file():
        return Accuracy.model_validate_json(place.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as scratch, captured(Path(scratch) / "said.log"):
        embedder: Embedder = subject.embedder(threads=threads)
    if subject.facts.target == FOREIGN and not trust_input and isinstance(pairs, VerificationSet):
        check_embedder(subject.path, embedder, pairs, progress=progress)
    result = evaluate_verification(embedder, pairs, progress=progress)
    accuracy = Accuracy(
        dataset=str(pairs.name),
        fingerprint=fingerprint,
        pairs=len(result.issame),
        accuracy=result.accuracy,
        std=result.std,
        protocol=result.protocol,
    )
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=cache, delete=False, encoding="utf-8") as file:
        file.write(accuracy.model_dump_json() + "\n")
    Path(file.name).replace(place)
    return accuracy


class FingerprintedPairs(ImagePairs, Protocol):
    """A verification set that knows its own sha256."""

    def fingerprint(self) -> str: ...


def cache_key(subject: Subject, fingerprint: str) -> str:
    """The same bytes normalised otherwise, or another output of them, are another model: both are part of the key."""
    spec = json.dumps(subject.encoding.spec.model_dump(mode="json"), sort_keys=True)
    output = f"|{subject.output}" if subject.output is not None else ""
    return text_sha256(f"{subject.facts.sha256}|{spec}|{fingerprint}{output}")


def default_cache() -> Path:
    """XDG_CACHE_HOME/facekd/accuracy, or ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "facekd" / "accuracy"
