"""TinyFace's testing set as it is published: three folders, and two .mat files that say who is who.

    Testing_Set/Probe/, Gallery_Match/, Gallery_Distractor/
    Testing_Set/probe_img_ID_pairs.mat             probe_set (cells of names), probe_ids
    Testing_Set/gallery_match_img_ID_pairs.mat     gallery_set, gallery_ids

The published images are a few pixels wide and not aligned. Results differ by how they were enlarged and aligned, so the
folders must hold 112x112 crops of the same names; the .mat files stay as they are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from facekd.common.errors import FacekdError, UsageError
from facekd.common.table import Table
from facekd.data.image_list import ImageList, find_names
from facekd.data.source import ALIGNED_SIZE
from facekd.evaluation.identification import identify
from facekd.evaluation.protocols import PROTOCOLS, ListFeatures, ProtocolOptions, PublishedProtocol, percent
from facekd.runtimes.embedder import Embedder


@dataclass(frozen=True)
class TinyFace:
    """Attributes:
    probes, gallery: images; the gallery is the matches, then the distractors.
    probe_subjects: int64 [p].
    gallery_subjects: int64 [g]; a distractor's is -1.
    """

    probes: ImageList
    gallery: ImageList
    probe_subjects: np.ndarray
    gallery_subjects: np.ndarray

    @property
    def distractors(self) -> int:
        """Images of the gallery that show nobody who is searched."""
        return int((self.gallery_subjects < 0).sum())


def read_tinyface(folder: Path, *, size: tuple[int, int] = ALIGNED_SIZE) -> TinyFace:
    """Reads Testing_Set, or a folder that holds it.

    Raises:
        UsageError: the folder is not laid out so.
        FacekdError: SciPy is not installed (it reads .mat), or a list is damaged.
    """
    folder = folder / "Testing_Set" if (folder / "Testing_Set").is_dir() else folder
    probes, probe_subjects = _read_mat(folder / "probe_img_ID_pairs.mat", "probe_set", "probe_ids")
    matches, match_subjects = _read_mat(folder / "gallery_match_img_ID_pairs.mat", "gallery_set", "gallery_ids")
    distractors = find_names(folder / "Gallery_Distractor")
    names = [f"Gallery_Match/{name}" for name in matches] + [f"Gallery_Distractor/{name}" for name in distractors]
    return TinyFace(
        probes=ImageList(folder / "Probe", probes, size=size),
        gallery=ImageList(folder, names, size=size),
        probe_subjects=probe_subjects,
        gallery_subjects=np.concatenate([match_subjects, np.full(len(distractors), -1)]),
    )


def _read_mat(path: Path, names_key: str, ids_key: str) -> tuple[list[str], np.ndarray]:
    if not path.is_file():
        raise UsageError(f"no list at {path}: give the folder that holds TinyFace's Testing_Set as it is published")
    try:
        from scipy.io import loadmat
        from scipy.io.matlab import MatReadError
    except ImportError as error:
        raise FacekdError(f"{path.name} needs SciPy to be read ({error}): pip install scipy") from None
    try:
        content = loadmat(str(path), squeeze_me=True)
        names = [str(name).strip() for name in np.atleast_1d(content[names_key]).ravel()]
        ids = np.atleast_1d(content[ids_key]).ravel().astype(np.int64)
    except (MatReadError, KeyError, ValueError, TypeError, NotImplementedError) as error:
        raise FacekdError(f"{path} does not hold {names_key} and {ids_key}: {error}") from None
    if len(names) != len(ids) or len(names) == 0 or (ids < 0).any():
        raise FacekdError(f"{path}: {len(names)} names and {len(ids)} ids (0 or more) do not fit")
    return names, ids


@PROTOCOLS.decorator("tinyface")
class TinyFaceProtocol(PublishedProtocol):
    """Ranks of the probes among matches and distractors."""

    def run(
        self, folder: Path, embedder: Embedder, features: ListFeatures, options: ProtocolOptions
    ) -> tuple[str, dict[str, Any]]:
        data = read_tinyface(folder, size=embedder.input.size)
        result = identify(
            features("tinyface gallery", data.gallery),
            data.gallery_subjects,
            features("tinyface probes", data.probes),
            data.probe_subjects,
            ranks=(1, 5, 10, 20),
            fpirs=(),
        )
        figures = {
            "rank": {str(rank): rate for rank, rate in result.ranks.items()},
            "probes": len(data.probes),
            "probes_without_mate": result.non_mated,
            "gallery": len(data.gallery),
            "distractors": data.distractors,
        }
        return "cosine; rank k: any gallery image of the person among the first k, ties count against", figures

    def tables(self, figures: Mapping[str, Any]) -> Sequence[Table]:
        rows = [[f"rank {rank}", percent(rate)] for rank, rate in figures["rank"].items()]
        title = f"tinyface: {figures['probes']:,} probes, {figures['gallery']:,} in the gallery"
        return [Table(["figure", "%"], rows, title=title)]
