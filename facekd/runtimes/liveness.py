"""Passive liveness (presentation attack detection): is a photograph of a face, or of a picture of one?

Networks of the kind of Silent-Face-Anti-Spoofing (Minivision: MiniFASNet V2 and V1SE) see the face with some of its
surroundings, where the border of a screen or of paper shows. They do not stop masks, nor a film that is fed in behind
the camera.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import cv2
import numpy as np
from pydantic import Field, ValidationError

from facekd.common.errors import FacekdError, UsageError
from facekd.common.file_kind import check_not_a_stand_in
from facekd.common.validation import StrictSchema, explain
from facekd.runtimes.base import Session
from facekd.runtimes.files import ModelFiles
from facekd.runtimes.opening import open_session
from facekd.schemas.input_spec import InputSpec
from facekd.schemas.liveness import CropScale, LivenessModel
from facekd.schemas.manifest import MANIFEST_FILE, read_manifest, verify_files

THRESHOLD = 0.5
"""Live above it. facekd's choice: more probably live than every attack together, where the public code asks only that
live be the most probable class."""

_PUBLIC_SCALES = {"minifasnetv2": 2.7, "minifasnetv1se": 4.0}
"""Of Silent-Face-Anti-Spoofing's two networks, by their names without punctuation."""
MOST_CLASSES = 16
"""Of a liveness network; what gives more numbers is another kind of network, such as one for embeddings."""
_NEEDED = f"an .onnx with one float32 input [1, 3, height, width] and one output [1, 2 to {MOST_CLASSES} classes]"


_Divisor = Annotated[float, Field(gt=0)]


class Region(NamedTuple):
    """Part of a picture in whole pixels, the right column and the bottom row belonging to it."""

    left: int
    top: int
    right: int
    bottom: int


class _Description(StrictSchema):
    """What NAME.json beside NAME.onnx says of a network; the defaults are Silent-Face-Anti-Spoofing's."""

    crop_scale: CropScale
    real_class: int = Field(default=1, ge=0)
    colour: Literal["RGB", "BGR"] = "BGR"
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[_Divisor, _Divisor, _Divisor] = (1.0, 1.0, 1.0)


def crop_region(box: np.ndarray, width: int, height: int, scale: float) -> Region:
    """The face box enlarged by `scale` about its centre, no larger than the picture and moved into it.

    As Silent-Face-Anti-Spoofing's code cuts it (src/generate_patches.py): with its right and bottom pixel.

    Args:
        box: left, top, width, height in pixels.
        width: of the picture, in pixels.
        height: likewise.
        scale: side of the crop in sides of the box.

    Raises:
        UsageError: the box is empty or not a number, or the picture has no room.
    """
    left, top, across, down = (float(v) for v in box)
    if not (np.isfinite(box).all() and across > 0 and down > 0 and min(width, height) > 1):
        raise UsageError(f"no crop of a face box {box} in a picture of {width}x{height}")
    scale = min(scale, (width - 1) / across, (height - 1) / down)
    x0, x1 = _inside(left + across / 2, across * scale, width - 1)
    y0, y1 = _inside(top + down / 2, down * scale, height - 1)
    return Region(x0, y0, x1, y1)


def crop_face(image: np.ndarray, box: np.ndarray, scale: float, size: tuple[int, int]) -> np.ndarray:
    """The crop a network takes: `crop_region` resized, bilinear without averaging, as the public code does.

    Args:
        image: uint8 RGB [h, w, 3].
        box: as in `crop_region`.
        scale: likewise.
        size: (height, width) of the network's input.

    Returns:
        uint8 RGB [height, width, 3].
    """
    region = crop_region(box, image.shape[1], image.shape[0], scale)
    cut = image[region.top : region.bottom + 1, region.left : region.right + 1]
    return np.asarray(cv2.resize(np.ascontiguousarray(cut), size[::-1], interpolation=cv2.INTER_LINEAR))


@dataclass(frozen=True)
class LivenessNetwork:
    """One opened network and how it is used."""

    session: Session
    model: LivenessModel

    def probability(self, image: np.ndarray, box: np.ndarray) -> float:
        """How probable it is that the face in `box` of uint8 RGB [h, w, 3] is live, 0 to 1.

        Raises:
            FacekdError: the network fails, or gives what is no number.
        """
        spec = self.model.input
        crop = crop_face(image, box, self.model.crop_scale, spec.size).astype(np.float32)
        pixels = crop if spec.colour == "RGB" else crop[:, :, ::-1]
        x = ((pixels - np.array(spec.mean, np.float32)) / np.array(spec.std, np.float32)).transpose(2, 0, 1)[None]
        return float(self.distribution(np.ascontiguousarray(x))[self.model.real_class])

    def distribution(self, x: np.ndarray) -> np.ndarray:
        """The network's input [1, 3, h, w] -> probabilities [classes]."""
        values = self.session.run_bounded(x).reshape(-1).astype(np.float64)
        if values.shape != (self.model.classes,) or not np.isfinite(values).all():
            raise FacekdError(f"{self.session.path} gives {values[:4]} instead of {self.model.classes} finite numbers")
        return values if self.model.probabilities else _softmax(values)


@dataclass(frozen=True)
class LivenessDetector:
    """The networks of which a face's score is the mean, and the threshold."""

    networks: Sequence[LivenessNetwork]
    threshold: float = THRESHOLD

    def score(self, image: np.ndarray, box: np.ndarray) -> float:
        """Mean of the networks' probabilities that the face in `box` of uint8 RGB [h, w, 3] is live."""
        return float(np.mean([network.probability(image, box) for network in self.networks]))

    def is_live(self, score: float) -> bool:
        """Whether the score passes."""
        return score > self.threshold


def open_liveness(paths: Sequence[Path], *, threshold: float | None = None, threads: int = 1) -> LivenessDetector:
    """The networks of an artefact that was exported with --liveness, or of .onnx files.

    Args:
        paths: one artefact folder, or one or more files.
        threshold: default: the artefact's, THRESHOLD for files.
        threads: CPU threads.

    Raises:
        UsageError: not such an artefact or such files.
        FacekdError: one is damaged.
    """
    folders = [path for path in paths if (path / MANIFEST_FILE).is_file()]
    if not folders:
        return open_liveness_files(paths, threshold=threshold, threads=threads)
    if len(paths) > 1:
        raise UsageError(f"{folders[0]} is an artefact: give one artefact, or liveness files")
    found = read_manifest(folders[0])
    if found.liveness is None:
        raise UsageError(f"{folders[0]} has no liveness networks: export it with --liveness FILE")
    verify_files(folders[0], found)
    networks = [
        LivenessNetwork(open_session(folders[0] / model.file, threads=threads), model)
        for model in found.liveness.models
    ]
    for network in networks:
        network.session.select(network.model.output)
    return LivenessDetector(networks, found.liveness.threshold if threshold is None else threshold)


def open_liveness_files(paths: Sequence[Path], *, threshold: float | None = None, threads: int = 1) -> LivenessDetector:
    """The networks in .onnx files; args and errors as `open_network`.

    Raises:
        UsageError: two have the same name.
    """
    names = [path.name for path in paths]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UsageError(f"two liveness networks are called {twice}: give each once, under a name of its own")
    networks = [open_network(path, threads=threads) for path in paths]
    return LivenessDetector(networks, THRESHOLD if threshold is None else threshold)


def open_network(path: Path, *, threads: int = 1) -> LivenessNetwork:
    """A liveness network in a file, described by NAME.json beside it or known by its name, and tried.

    Raises:
        UsageError: there is no such file, it takes or gives something else, or nothing says which crop it takes.
        FacekdError: it cannot be read, or what it gives is no distribution over classes.
    """
    if not path.is_file():
        raise UsageError(f"no liveness network at {path}: give {_NEEDED}")
    if path.suffix.lower() != ".onnx":
        raise UsageError(f"liveness network {path} is a {path.suffix or 'nameless'} file: give {_NEEDED}")
    check_not_a_stand_in(path, "a liveness network")
    said = _description(path)
    session = open_session(path, threads=threads)
    given, made = session.input, session.outputs[0]
    sides = given.shape[2:]
    classes = made.shape[1] if len(made.shape) == 2 else None
    if (
        len(given.shape) != 4
        or given.shape[0] not in (1, None)
        or given.shape[1] != 3
        or given.dtype != "float32"
        or None in sides
        or len(session.outputs) != 1
        or classes is None
        or not 2 <= classes <= MOST_CLASSES
    ):
        raise UsageError(
            f"{path} takes {given.dtype} {_shape(given.shape)} and gives "
            f"{', '.join(_shape(output.shape) for output in session.outputs)}: a liveness network is {_NEEDED}"
        )
    if len(ModelFiles.of(path).files) > 1:
        raise UsageError(f"{path} keeps weights in other files: save the liveness network as one file")
    session.select(made.name)
    try:
        model = LivenessModel(
            file=path.name,
            crop_scale=said.crop_scale,
            input=InputSpec.model_validate({"size": sides, "colour": said.colour, "mean": said.mean, "std": said.std}),
            output=made.name,
            classes=classes,
            real_class=said.real_class,
            probabilities=_gives_probabilities(session, (int(sides[0] or 0), int(sides[1] or 0))),
        )
    except ValidationError as error:
        raise UsageError(f"liveness network {path}: {explain(error, LivenessModel)}") from None
    network = LivenessNetwork(session, model)
    network.distribution(np.zeros((1, 3, *model.input.size), np.float32))
    return network


def _description(path: Path) -> _Description:
    beside = path.with_suffix(".json")
    if beside.is_file():
        try:
            return _Description.model_validate(json.loads(beside.read_text(encoding="utf-8")))
        except ValidationError as error:
            raise UsageError(f"{beside} does not describe a liveness network: {explain(error, _Description)}") from None
        except (ValueError, OSError, RecursionError) as error:
            raise UsageError(f"{beside} is not valid JSON ({error}): {_example(path)}") from None
    name = re.sub(r"[^a-z0-9]", "", path.stem.lower())
    for known, scale in _PUBLIC_SCALES.items():
        if name.endswith(known):
            return _Description(crop_scale=scale)
    raise UsageError(f"which crop {path} takes is not known: {_example(path)}")


def _example(path: Path) -> str:
    return f'put its description into {path.with_suffix(".json").name} beside it, such as {{"crop_scale": 2.7}}'


def _gives_probabilities(session: Session, size: tuple[int, int]) -> bool:
    """Whether the file ends in a softmax: what it gives for noise is never negative and sums to 1."""
    rng = np.random.default_rng(0)
    for _ in range(3):
        values = session.run_bounded(rng.uniform(0, 255, (1, 3, *size)).astype(np.float32)).reshape(-1)
        if not (values.min() >= 0 and abs(float(values.sum()) - 1) < 1e-3):
            return False
    return True


def _inside(middle: float, side: float, most: int) -> tuple[int, int]:
    """The first and last pixel of an interval, moved to lie within 0 and `most`."""
    near, far = middle - side / 2, middle + side / 2
    if near < 0:
        near, far = 0.0, far - near
    if far > most:
        near, far = near - (far - most), float(most)
    return int(near), int(far)


def _softmax(values: np.ndarray) -> np.ndarray:
    powers = np.exp(values - values.max())
    result: np.ndarray = powers / powers.sum()
    return result


def _shape(shape: Sequence[int | None]) -> str:
    return "[" + ", ".join("any" if side is None else str(side) for side in shape) + "]"
