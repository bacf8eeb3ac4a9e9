"""IJB-B and IJB-C in the layout of the public packages: meta/ (lists) and loose_crop/ (photographs cut loosely).

    meta/ijbc_name_5pts_score.txt        name x1 y1 ... x5 y5 score      the detector's landmarks and score
    meta/ijbc_face_tid_mid.txt           name template media             in the same order
    meta/ijbc_template_pair_label.txt    template template 0|1           1:1
    meta/ijbc_1N_gallery_G1.csv, _G2     TEMPLATE_ID,SUBJECT_ID,...      1:N, one line an image (IJB-B: _S1, _S2)
    meta/ijbc_1N_probe_mixed.csv         the same

A media id stands for one video or one still; a template is a person's media in one enrolment or one probe.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from facekd.common.errors import FacekdError, UsageError
from facekd.common.table import Table
from facekd.common.validation import shown
from facekd.data.image_list import ImageList, read_lines
from facekd.data.source import ALIGNED_SIZE
from facekd.evaluation.identification import Identification, identify
from facekd.evaluation.protocols import PROTOCOLS, ListFeatures, ProtocolOptions, PublishedProtocol, percent
from facekd.evaluation.templates import Templates, pair_scores, pool_templates, tar_at_nearest_far
from facekd.evaluation.verification import far_name
from facekd.runtimes.embedder import Embedder

IJBName = Literal["ijbb", "ijbc"]
IJB_FARS = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
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
        raise FacekdError(
            f"{file}, line {wrong}: {shown(' '.join(rows[wrong - 1]))} is not name, ten coordinates, score"
        )
    numbers = _numbers(file, [row[1:] for row in rows], np.float32)
    names = [row[0] for row in rows]
    media_file = meta / f"{name}_face_tid_mid.txt"
    media_rows = [line.split() for line in read_lines(media_file)]
    if wrong := next((i for i, row in enumerate(media_rows, 1) if len(row) != 3), None):
        raise FacekdError(
            f"{media_file}, line {wrong}: {shown(' '.join(media_rows[wrong - 1]))} is not name template media"
        )
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


class IJBProtocol(PublishedProtocol):
    """1:1 and 1:N over templates: TAR at FAR, and ranks and TPIR at FPIR as the mean of the two galleries."""

    name: ClassVar[IJBName]

    def run(
        self, folder: Path, embedder: Embedder, features: ListFeatures, options: ProtocolOptions
    ) -> tuple[str, dict[str, Any]]:
        ijb = read_ijb(folder, self.name, size=embedder.input.size)
        if not ijb.pairs_file.is_file() and not ijb.galleries:
            raise UsageError(f"{ijb.meta} has neither {ijb.pairs_file.name} (1:1) nor {self.name}_1N_*.csv (1:N)")
        templates = pool_templates(
            features(self.name, ijb.images),
            ijb.templates,
            ijb.media,
            scores=ijb.scores if options.detector_score else None,
            keep_norm=options.keep_norm,
        )
        figures: dict[str, Any] = {"images": len(ijb.images), "templates": len(templates.ids)}
        if ijb.pairs_file.is_file():
            first, second, issame = read_pairs(ijb.pairs_file)
            figures["1:1"] = verify_templates(templates, first, second, issame, where=ijb.pairs_file.name)
        if ijb.probes is not None:
            probes = templates.features[templates.rows(ijb.probes.templates, where="the list of probes")]
            results = {}
            for gallery, enrolled in ijb.galleries.items():
                rows = templates.rows(enrolled.templates, where=f"gallery {gallery}")
                results[gallery] = identify(templates.features[rows], enrolled.subjects, probes, ijb.probes.subjects)
            figures["1:N"] = {
                "mean": mean_of_galleries(list(results.values())),
                **{gallery: identification_figures(result) for gallery, result in results.items()},
            }
        weights = [word for word, on in (("norm", options.keep_norm), ("detector score", options.detector_score)) if on]
        protocol = (
            f"flip-sum, images weighed by {' and '.join(weights) or 'nothing'}, mean in media, sum over media; TAR at "
            "the nearest measured FAR; 1:N: mean of the galleries, mixed probes, threshold from top non-mated scores"
        )
        return protocol, figures

    def tables(self, figures: Mapping[str, Any]) -> Sequence[Table]:
        found = []
        if "1:1" in figures:
            one = figures["1:1"]
            found.append(
                Table(
                    ["FAR", "measured at", "TAR, %", "threshold, cosine >"],
                    [
                        [far, f"{one['measured_far'][far]:.2e}", percent(tar), f"{one['threshold_cos'][far]:.4f}"]
                        for far, tar in one["tar_at_far"].items()
                    ],
                    title=f"{self.name} 1:1, {one['pairs']:,} pairs of {figures['templates']:,} templates",
                )
            )
        if "1:N" in figures:
            many = figures["1:N"]
            rows = [
                [
                    key,
                    *(percent(rate) for rate in result["rank"].values()),
                    *(percent(result["tpir_at_fpir"].get(fpir)) for fpir in ("1e-2", "1e-1")),
                ]
                for key, result in many.items()
            ]
            columns = ["gallery", *(f"rank {rank} %" for rank in many["mean"]["rank"]), "TPIR % at 1e-2", "at 1e-1"]
            found.append(Table(columns, rows, title=f"{self.name} 1:N, TPIR by FPIR"))
        return found


@PROTOCOLS.decorator("ijbb")
class IJBBProtocol(IJBProtocol):
    """IJB-B."""

    name = "ijbb"


@PROTOCOLS.decorator("ijbc")
class IJBCProtocol(IJBProtocol):
    """IJB-C."""

    name = "ijbc"


def verify_templates(templates: Templates, first: Any, second: Any, issame: Any, *, where: str) -> dict[str, Any]:
    """1:1 over pairs of template ids: TAR at FAR, for JSON."""
    scores = pair_scores(templates.features, templates.rows(first, where=where), templates.rows(second, where=where))
    points = tar_at_nearest_far(scores, issame, IJB_FARS)
    return {
        "pairs": len(issame),
        "genuine": int(issame.sum()),
        "tar_at_far": {far_name(point.far): point.tar for point in points},
        "measured_far": {far_name(point.far): point.measured_far for point in points},
        "threshold_cos": {far_name(point.far): point.threshold_cos for point in points},
    }


def identification_figures(result: Identification) -> dict[str, Any]:
    """An identification's figures for JSON."""
    return {
        "rank": {str(rank): rate for rank, rate in result.ranks.items()},
        "tpir_at_fpir": {far_name(fpir): rate for fpir, rate in result.tpir.items()},
        "threshold_cos": {far_name(fpir): limit for fpir, limit in result.threshold_cos.items()},
        "unsupported_fpirs": [far_name(fpir) for fpir in result.unsupported_fpirs],
        "mated_probes": result.mated,
        "non_mated_probes": result.non_mated,
        "gallery": result.gallery,
    }


def mean_of_galleries(results: list[Identification]) -> dict[str, Any]:
    """The mean of each figure that every gallery has."""
    fpirs = [fpir for fpir in results[0].tpir if all(fpir in result.tpir for result in results)]
    count = len(results)
    return {
        "rank": {str(rank): sum(result.ranks[rank] for result in results) / count for rank in results[0].ranks},
        "tpir_at_fpir": {far_name(fpir): sum(result.tpir[fpir] for result in results) / count for fpir in fpirs},
    }
