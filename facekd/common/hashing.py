"""SHA-256 of files and of what describes data: the one hash by which facekd tells two things apart."""

import hashlib
from pathlib import Path

import numpy as np


def file_sha256(path: Path) -> str:
    """The file's SHA-256 in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def text_sha256(text: str) -> str:
    """The SHA-256 in hexadecimal of a text's UTF-8 bytes."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def parts_sha256(*parts: str | np.ndarray) -> str:
    """The SHA-256 in hexadecimal over texts and arrays, each with its length, so that no two splits of them agree."""
    digest = hashlib.sha256()
    for part in parts:
        # Names of files that are not UTF-8 reach Python as surrogates.
        data = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else np.ascontiguousarray(part).tobytes()
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()
