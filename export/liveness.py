"""Liveness networks in an artefact: copied as they are, described in its manifest."""

import shutil
from pathlib import Path

from facekd.common.hashing import file_sha256
from facekd.runtimes.liveness import LivenessDetector
from facekd.schemas.liveness import Liveness
from facekd.schemas.manifest import Manifest

FOLDER = "liveness"
"""Of the artefact."""


def write_liveness(folder: Path, detector: LivenessDetector) -> Liveness:
    """Copies the networks' files into the artefact `folder` and describes them."""
    (folder / FOLDER).mkdir()
    models = []
    for network in detector.networks:
        name = f"{FOLDER}/{network.model.file}"
        shutil.copyfile(network.session.path, folder / name)
        models.append(network.model.model_copy(update={"file": name}))
    return Liveness(models=models, threshold=detector.threshold)


def stated(manifest: Manifest) -> str:
    """What an artefact has of liveness, in words that can be compared with `asked`; empty for nothing."""
    if manifest.liveness is None:
        return ""
    hashes = [manifest.files.get(model.file, "") for model in manifest.liveness.models]
    return _words(hashes, manifest.liveness.threshold)


def asked(detector: LivenessDetector | None) -> str:
    """Likewise of what is asked for."""
    if detector is None:
        return ""
    return _words([file_sha256(network.session.path) for network in detector.networks], detector.threshold)


def _words(hashes: list[str], threshold: float) -> str:
    return f"{', '.join(digest[:12] for digest in hashes)} above {threshold:g}"
