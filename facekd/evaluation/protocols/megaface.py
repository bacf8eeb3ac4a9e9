"""MegaFace challenge 1 in the layout of the public test pack: FaceScrub probes, a million distractors, aligned 112x112.

    facescrub_lst         Person/Person_1234.png                 a line a probe image
    megaface_lst          363/36395359@N00/image.jpg             a line a distractor
    facescrub_images/     megaface_images/
    facescrub_noises.txt  megaface_noises.txt                    optional: wrongly labelled images, # starts a comment

The public script replaces a noisy probe by its person's centre, which helps every model, and moves noisy distractors
far away. Here both are left out (facekd's choice); the report says how many.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from facekd.common.errors import FacekdError
from facekd.common.table import Table
from facekd.common.validation import shown
from facekd.data.image_list import ImageList, read_lines
from facekd.data.source import ALIGNED_SIZE
from facekd.evaluation.identification import megaface
from facekd.evaluation.protocols import PROTOCOLS, ListFeatures, ProtocolOptions, PublishedProtocol, percent
from facekd.evaluation.verification import far_name
from facekd.runtimes.embedder import Embedder


@dataclass(frozen=True)
class MegaFace:
    """Attributes:
    probes: FaceScrub images.
    subjects: int64 [p], who they show.
    distractors: images of people who are not among the subjects.
    noisy_probes, noisy_distractors: how many listed images were left out as noise.
    """

    probes: ImageList
    subjects: np.ndarray
    distractors: ImageList
    noisy_probes: int
    noisy_distractors: int


def read_megaface(folder: Path, *, size: tuple[int, int] = ALIGNED_SIZE) -> MegaFace:
    """Reads the lists of the test pack.

    Raises:
        UsageError: the folder is not laid out so.
        FacekdError: a line names no person or distractor, or a person has one image only.
    """
    probe_noise, distractor_noise = (_read_noises(folder / f"{name}_noises.txt") for name in ("facescrub", "megaface"))
    listed = read_lines(folder / "facescrub_lst")
    if wrong := next((name for name in listed if name.count("/") < 1), None):
        raise FacekdError(f"{folder / 'facescrub_lst'}: {shown(wrong)} is not Person/image")
    probes = [name for name in listed if name.rsplit("/", 1)[-1] not in probe_noise]
    listed_distractors = read_lines(folder / "megaface_lst")
    if wrong := next((name for name in listed_distractors if name.count("/") < 2), None):
        raise FacekdError(f"{folder / 'megaface_lst'}: {shown(wrong)} is not group/user/image")
    distractors = [name for name in listed_distractors if "/".join(name.split("/")[-3:]) not in distractor_noise]
    people = [name.split("/")[-2] for name in probes]
    _, subjects, counts = np.unique(people, return_inverse=True, return_counts=True)
    if len(probes) == 0 or not (counts > 1).any():
        raise FacekdError(f"{folder / 'facescrub_lst'} has no person with two images: there is nothing to find")
    return MegaFace(
        probes=ImageList(folder / "facescrub_images", probes, size=size),
        subjects=subjects.astype(np.int64),
        distractors=ImageList(folder / "megaface_images", distractors, size=size),
        noisy_probes=len(listed) - len(probes),
        noisy_distractors=len(listed_distractors) - len(distractors),
    )


def _read_noises(path: Path) -> set[str]:
    """Names, or 'number TAB name' lines; none where the list is not there."""
    if not path.is_file():
        return set()
    return {line.split("\t")[-1].strip() for line in read_lines(path) if not line.startswith("#")}


@PROTOCOLS.decorator("megaface")
class MegaFaceProtocol(PublishedProtocol):
    """Challenge 1: rank 1 among all distractors, and TAR at a FAR of one in a million."""

    def run(
        self, folder: Path, embedder: Embedder, features: ListFeatures, options: ProtocolOptions
    ) -> tuple[str, dict[str, Any]]:
        data = read_megaface(folder, size=embedder.input.size)
        probes = features("megaface probes", data.probes)
        result = megaface(probes, data.subjects, features("megaface distractors", data.distractors))
        figures = {
            "rank1": result.rank1,
            "tar_at_far": {} if result.tar is None else {far_name(result.far): result.tar},
            "threshold_cos": {} if result.tar is None else {far_name(result.far): result.threshold_cos},
            "unsupported_fars": [far_name(result.far)] if result.tar is None else [],
            "probes": len(data.probes),
            "distractors": len(data.distractors),
            "genuine": result.genuine,
            "impostor": result.impostor,
            "noisy_probes_left_out": data.noisy_probes,
            "noisy_distractors_left_out": data.noisy_distractors,
        }
        return "challenge 1: one image of the person among all distractors; impostors: probes x distractors", figures

    def tables(self, figures: Mapping[str, Any]) -> Sequence[Table]:
        notes = []
        if figures["unsupported_fars"]:
            notes.append(
                f"{figures['impostor']:,} impostor pairs cannot show a FAR of {figures['unsupported_fars'][0]}"
            )
        if left_out := figures["noisy_probes_left_out"] + figures["noisy_distractors_left_out"]:
            notes.append(f"{left_out:,} images left out as the noise lists say")
        rows = [["rank 1", percent(figures["rank1"])]]
        rows += [[f"TAR at FAR {far}", percent(tar)] for far, tar in figures["tar_at_far"].items()]
        title = f"megaface: {figures['probes']:,} probes, {figures['distractors']:,} distractors"
        return [Table(["figure", "%"], rows, title=title, caption="\n".join(notes) or None)]
