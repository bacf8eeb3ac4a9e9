"""MegaFace challenge 1 in the layout of the public test pack: FaceScrub probes, a million distractors, aligned 112x112.

    facescrub_lst         Person/Person_1234.png                 a line a probe image
    megaface_lst          363/36395359@N00/image.jpg             a line a distractor
    facescrub_images/     megaface_images/
    facescrub_noises.txt  megaface_noises.txt                    optional: wrongly labelled images, # starts a comment

The public script replaces a noisy probe by its person's centre, which helps every model, and moves noisy distractors
far away. Here both are left out (facekd's choice); the report says how many.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from facekd.common.errors import FacekdError
from facekd.data.image_list import ImageList, read_lines
from facekd.data.source import ALIGNED_SIZE


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
        raise FacekdError(f"{folder / 'facescrub_lst'}: {wrong!r} is not Person/image")
    probes = [name for name in listed if name.rsplit("/", 1)[-1] not in probe_noise]
    listed_distractors = read_lines(folder / "megaface_lst")
    if wrong := next((name for name in listed_distractors if name.count("/") < 2), None):
        raise FacekdError(f"{folder / 'megaface_lst'}: {wrong!r} is not group/user/image")
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
