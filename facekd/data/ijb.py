"""IJB-B and IJB-C in the layout of the public packages: meta/ (lists) and loose_crop/ (photographs cut loosely).

    meta/ijbc_name_5pts_score.txt        name x1 y1 ... x5 y5 score      the detector's landmarks and score
    meta/ijbc_face_tid_mid.txt           name template media             in the same order
    meta/ijbc_template_pair_label.txt    template template 0|1           1:1
    meta/ijbc_1N_gallery_G1.csv, _G2     TEMPLATE_ID,SUBJECT_ID,...      1:N, one line an image (IJB-B: _S1, _S2)
    meta/ijbc_1N_probe_mixed.csv         the same

A media id stands for one video or one still; a template is a person's media in one enrolment or one probe.
"""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from facekd.common.errors import FacekdError, UsageError
from facekd.data.image_list import ImageList, read_lines
from facekd.data.source import ALIGNED_SIZE

IJBName = Literal["ijbb", "ijbc"]
GALLERIES = {"ijbb": ("S1", "S2"), "ijbc": ("G1", "G2")}


@dataclass(frozen=True)
class Enrolment:
    """Templates and who they show: a gallery, or the probes.

    Attributes:
        templates: int64 [t], ascending.
        subjects: int64 [t].
    """

    templates: np.ndarray
    subjects: np.ndarray


@dataclass(frozen=True)
class IJB:
    """What is published of IJB-B or IJB-C, without the pairs (see read_pairs).

    Attributes:
        name: "ijbb" or "ijbc".
        meta: the folder of the lists.
        images: aligned crops, in the order of the lists.
        scores: float32 [n], the detector's.
        templates: int64 [n].
        media: int64 [n].
        galleries: name of a gallery -> its templates; empty where the 1:N lists are not there.
        probes: the mixed probes, or None.
    """

    name: IJBName
    meta: Path
    images: ImageList
    scores: np.ndarray
    templates: np.ndarray
    media: np.ndarray
    galleries: dict[str, Enrolment]
    probes: Enrolment | None

    @property
    def pairs_file(self) -> Path:
        """Where the pairs of 1:1 are listed."""
        return self.meta / f"{self.name}_template_pair_label.txt"


def read_ijb(folder: Path, name: IJBName, *, size: tuple[int, int] = ALIGNED_SIZE) -> IJB:
    """Reads the lists.

    Args:
        folder: holds meta/ and loose_crop/.
        name: which of the two; the prefix of the lists' names.
        size: (height, width) the images are aligned to.

    Raises:
        UsageError: the folder is not laid out so.
        FacekdError: a list is damaged, or two lists disagree.
    """
    meta = folder / "meta"
    file = meta / f"{name}_name_5pts_score.txt"
    rows = [line.split() for line in read_lines(file)]
    if wrong := next((i for i, row in enumerate(rows, 1) if len(row) != 12), None):
        raise FacekdError(f"{file}, line {wrong}: {' '.join(rows[wrong - 1])!r} is not name, ten coordinates, score")
    numbers = _numbers(file, [row[1:] for row in rows], np.float32)
    names = [row[0] for row in rows]
    media_file = meta / f"{name}_face_tid_mid.txt"
    media_rows = [line.split() for line in read_lines(media_file)]
    if wrong := next((i for i, row in enumerate(media_rows, 1) if len(row) != 3), None):
        raise FacekdError(f"{media_file}, line {wrong}: {' '.join(media_rows[wrong - 1])!r} is not name template media")
    if [row[0] for row in media_rows] != names:
        raise FacekdError(f"{file.name} and {media_file.name} do not name the same images in the same order")
    ids = _numbers(media_file, [row[1:] for row in media_rows], np.int64)
    galleries, probes = {}, None
    probe_file = meta / f"{name}_1N_probe_mixed.csv"
    if probe_file.is_file():
        probes = _read_enrolment(probe_file)
        for gallery in GALLERIES[name]:
            galleries[gallery] = _read_enrolment(meta / f"{name}_1N_gallery_{gallery}.csv")
    landmarks = numbers[:, :10].reshape(-1, 5, 2)
    return IJB(
        name=name,
        meta=meta,
        images=ImageList(folder / "loose_crop", names, landmarks=landmarks, size=size),
        scores=numbers[:, 10],
        templates=ids[:, 0],
        media=ids[:, 1],
        galleries=galleries,
        probes=probes,
    )


def read_pairs(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The pairs of 1:1: (first template, second template) int32 [n] and issame bool [n]; 15.7 million in IJB-C."""
    if not path.is_file():
        raise UsageError(f"no list of pairs at {path}: give the folder that holds the benchmark as it is published")
    text = path.read_bytes()
    lines = text.count(b"\n") + (not text.endswith(b"\n"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            # int32: template ids have at most six digits, and 15.7 million lines of int64 would take 380 MB.
            values = np.fromstring(text, dtype=np.int32, sep=" ")
        except ValueError:
            values = np.empty(0, dtype=np.int32)
    if len(values) == 0 or len(values) != 3 * lines:
        raise FacekdError(f"{path} is not a list of lines 'template template label' (label 0 or 1)")
    first, second, label = values.reshape(-1, 3).T
    if not np.isin(label, (0, 1)).all():
        raise FacekdError(f"{path}: a label is neither 0 nor 1")
    return np.ascontiguousarray(first), np.ascontiguousarray(second), label == 1


def _read_enrolment(path: Path) -> Enrolment:
    """A 1:N list: a header, then one line an image, template and subject first."""
    rows = [line.split(",")[:2] for line in read_lines(path)[1:]]
    ids = _numbers(path, rows, np.int64) if rows else np.empty((0, 2), dtype=np.int64)
    pairs = np.unique(ids, axis=0)
    templates, counts = np.unique(pairs[:, 0], return_counts=True)
    if len(templates) == 0 or (counts > 1).any():
        problem = (
            "names no template" if len(templates) == 0 else f"gives template {templates[counts > 1][0]} two people"
        )
        raise FacekdError(f"{path} {problem}")
    return Enrolment(pairs[:, 0], pairs[:, 1])


def _numbers(path: Path, rows: list[list[str]], dtype: type) -> np.ndarray:
    try:
        values: np.ndarray = np.array(rows, dtype=dtype)
    except ValueError as error:
        raise FacekdError(f"{path}: {error}") from None
    if values.ndim != 2 or not np.isfinite(values).all():
        raise FacekdError(f"{path} holds lines of different lengths, or values that are not finite")
    return values
