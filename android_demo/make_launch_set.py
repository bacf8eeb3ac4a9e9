#!/usr/bin/env python3
"""Makes what the launch tests run on: python android_demo/make_launch_set.py OUT [--shared FOLDER]

OUT/artefact (as `facekd export --target android` writes it), OUT/detector.onnx and OUT/frames/*.yuv, the camera's
pictures. Without --shared everything is drawn: faces of facekd.data.synthetic, a small student with random weights, and
a detector that finds the coloured square below each drawn face. With --shared, the folder of real faces and weights:
LFW's photographs, EdgeFace-XS, YuNet, MiniFASNet and its samples.

A frame is one picture of 640x480 as a phone's front camera gives it (sensor turned by 270 degrees): NV21 with rows of
704 bytes, V first. Frames of person a have a red strip at the upright picture's top, others a blue one, so that a test
sees whose picture is on the screen. `live` shows somebody, `screen` a picture of somebody else, as the artefact's
liveness networks see it.
"""

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from facekd.common.hashing import file_sha256
from facekd.data.synthetic import SyntheticConfig, draw_face
from facekd.runtimes.liveness import open_liveness_files

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.liveness_network import GREEN, write_network

LFW_TABLE = Path(__file__).resolve().parents[1] / "tests/android/lfw_calibration.json"
WIDTH, HEIGHT, STRIDE = 640, 480, 704
UPRIGHT = (640, 480)  # rows, columns of the picture as it is shown
FACE = 224
MARK = 32
RED, BLUE, GREY = (200, 30, 30), (30, 30, 200), (110, 110, 110)


def canvas(strip: tuple[int, int, int], size: tuple[int, int] = UPRIGHT) -> np.ndarray:
    """An upright picture without anybody, uint8 RGB [h, w, 3]."""
    image = np.full((*size, 3), GREY, np.uint8)
    image[:24] = strip
    return image


def nv21(upright: np.ndarray) -> bytes:
    """The upright picture as the sensor has it, BT.601 in full range: turned clockwise by 90 degrees if it is high."""
    sensor = np.rot90(upright, -1) if upright.shape[0] > upright.shape[1] else upright
    y, cr, cb = cv2.split(cv2.cvtColor(np.ascontiguousarray(sensor), cv2.COLOR_RGB2YCrCb))
    luma = np.zeros((HEIGHT, STRIDE), np.uint8)
    luma[:, :WIDTH] = y
    chroma = np.zeros((HEIGHT // 2, STRIDE), np.uint8)
    for place, plane in enumerate((cr, cb)):
        chroma[:, place:WIDTH:2] = cv2.resize(plane, (WIDTH // 2, HEIGHT // 2), interpolation=cv2.INTER_AREA)
    return luma.tobytes() + chroma.tobytes()


Place = Callable[[np.ndarray, np.ndarray, int, int, int], None]


def darkened(face: np.ndarray, light: float) -> np.ndarray:
    """Little light, and the sensor's noise."""
    noise = np.random.default_rng(0).normal(0, 2, face.shape)
    return np.clip(face * light + noise, 0, 255).astype(np.uint8)


def frames(
    people: dict[str, list[np.ndarray]],
    turned: np.ndarray | None,
    place: Place,
    stamp: Callable[[np.ndarray, int, int], None],
    size: int,
    *,
    blur: float,
    light: float,
) -> dict[str, np.ndarray]:
    """Name -> upright picture.

    Args:
        people: photographs of a and b, squares.
        turned: of somebody who looks aside; None where the detector cannot tell.
        place: draws a square onto a picture: (picture, face, column, row, side).
        stamp: draws what the detector needs to find a face, whatever the picture: (picture, column, row).
        size: side of a face alone in a picture.
        blur: of the blurred one, sigma in pixels.
        light: of the dark one, as a share.
    """
    found = {"nobody": canvas(BLUE)}
    middle = ((UPRIGHT[1] - size) // 2 // MARK * MARK, 128)
    for person, strip in (("a", RED), ("b", BLUE)):
        for number, face in enumerate(people[person]):
            found[f"{person}{number}"] = canvas(strip)
            place(found[f"{person}{number}"], face, *middle, size)
    face = people["a"][0]
    aside = {
        "dark": darkened(face, light),
    }
    if turned is not None:
        aside["turned"] = turned
    for name, changed in aside.items():
        found[name] = canvas(BLUE)
        place(found[name], changed, *middle, size)
    found["a1_turned_phone"] = canvas(RED, UPRIGHT[::-1])
    place(found["a1_turned_phone"], people["a"][1], 96, 32, size)
    found["blurred"] = cv2.GaussianBlur(found["a0"], (0, 0), blur)
    stamp(found["blurred"], *middle)
    found["two"] = canvas(BLUE)
    small = size * 224 // 448 // MARK * MARK
    place(found["two"], people["a"][0], 0, 96, small)
    place(found["two"], people["b"][0], 256, 320, small)
    return found


# Drawn.


def drawn_detector(path: Path) -> None:
    """An .onnx with YuNet's inputs and outputs that finds a magenta square of one cell of stride 32.

    The face lies above the square: as wide as FACE, its landmarks where a drawn face has them.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    marks = draw_face(SyntheticConfig(pose=0), 0, 0)[1] * FACE / 112
    centre = (FACE / 2, FACE / 2)
    down = FACE / 2 + MARK / 2  # from the face's middle to the square's
    offsets = (marks - centre - (0, down) + MARK / 2) / MARK
    constants = {
        "bbox": np.array([0.5, 0.5 - down / MARK, np.log(FACE / MARK), np.log(FACE / MARK)]),
        "kps": offsets.ravel(),
    }
    nodes, tensors, outputs = [], [], []

    def constant(name: str, value: np.ndarray) -> str:
        tensors.append(numpy_helper.from_array(value, name))
        return name

    weights = np.array([0.5, -1.0, 0.5], np.float32).reshape(1, 3, 1, 1) / 255  # B, G, R
    nodes.append(helper.make_node("Conv", ["input", constant("magenta", weights)], ["shade"]))
    for stride in (8, 16, 32):
        window = {"kernel_shape": [stride, stride], "strides": [stride, stride]}
        nodes.append(helper.make_node("AveragePool", ["shade"], [f"pool_{stride}"], **window))
        for kind, width in (("cls", 1), ("obj", 1), ("bbox", 4), ("kps", 10)):
            scale = np.zeros((width, 1, 1, 1), np.float32)
            bias = np.zeros(width, np.float32)
            if stride == MARK:
                scale[:] = kind in ("cls", "obj")
                bias[:] = constants.get(kind, 0)
            name = f"{kind}_{stride}"
            parts = [constant(f"{name}_w", scale), constant(f"{name}_b", bias)]
            nodes.append(helper.make_node("Conv", [f"pool_{stride}", *parts], [f"{name}_map"]))
            nodes.append(helper.make_node("Transpose", [f"{name}_map"], [f"{name}_last"], perm=[0, 2, 3, 1]))
            shape = constant(f"{name}_shape", np.array([1, -1, width], np.int64))
            nodes.append(helper.make_node("Reshape", [f"{name}_last", shape], [name]))
            outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, None, width]))
    image = helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, 640, 640])
    graph = helper.make_graph(nodes, "drawn", [image], outputs, tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def place_drawn(picture: np.ndarray, face: np.ndarray, column: int, row: int, side: int) -> None:
    """The face at FACE pixels whatever `side` is, and the square below its middle, on a cell of the detector."""
    centre, bottom = cell(column, row)
    picture[bottom - FACE : bottom, centre - FACE // 2 : centre + FACE // 2] = face
    stamp_drawn(picture, column, row)


def cell(column: int, row: int) -> tuple[int, int]:
    """Middle and upper edge of the square of a face whose left upper corner is near this place."""
    return (column + FACE // 2) // MARK * MARK + MARK // 2, (row + FACE) // MARK * MARK


def stamp_drawn(picture: np.ndarray, column: int, row: int) -> None:
    """The square."""
    centre, bottom = cell(column, row)
    picture[bottom : bottom + MARK, centre - MARK // 2 : centre + MARK // 2] = (255, 0, 255)


def drawn_student(out: Path, crops: dict[str, list[np.ndarray]]) -> None:
    """A small student with random weights, exported; its threshold lies between a's photographs and b's."""
    import torch

    from facekd.export.faces import synthetic_faces
    from facekd.export.options import ExportOptions
    from facekd.export.pipeline import Reference, export_artefact
    from facekd.models.architectures.mobilefacenet import MobileFaceNet
    from facekd.models.bundle import load_bundle, save_bundle
    from facekd.models.describe import describe

    arguments: dict[str, Any] = {
        "scale": 0.25,
        "blocks": [1, 1, 1, 1],
        "embedding_width": 64,
        "mid_multiplier": 0.125,
        "feature_channels": 32,
    }
    torch.manual_seed(3)
    model = MobileFaceNet(**arguments).eval()
    with torch.no_grad():

        def embed(face: np.ndarray) -> np.ndarray:
            small = cv2.resize(face, (112, 112), interpolation=cv2.INTER_AREA)
            both = torch.from_numpy(np.stack([small, small[:, ::-1]])).permute(0, 3, 1, 2).float()
            total: np.ndarray = model((both - 127.5) / 127.5).sum(0).numpy()
            return total / np.linalg.norm(total)

        a, b = (np.stack([embed(face) for face in crops[person]]) for person in "ab")
    same, other = float((a @ a.T).min()), float((a @ b.T).max())
    print(f"drawn faces: one person's at least {same:.3f}, two people's at most {other:.3f}")
    if same <= other:
        raise SystemExit("the drawn people look alike to this student: choose others")
    middle = other + 0.75 * (same - other)  # in the app the surroundings make strangers more alike
    rates = [
        {"far": far, "threshold_cos": cos, "dataset": "drawn"} for far, cos in ((1e-2, middle - 1e-3), (1e-3, middle))
    ]
    card = describe(
        model, kind="student", name="drawn", architecture="mobilefacenet", arguments=arguments, thresholds=rates
    )
    with tempfile.TemporaryDirectory() as scratch:
        save_bundle(Path(scratch) / "bundle", model, card)
        liveness = open_liveness_files([write_network(Path(scratch) / "greenness.onnx", scale=2.0)])
        bundle, faces = load_bundle(Path(scratch) / "bundle"), synthetic_faces(8, (112, 112))
        reference = Reference(bundle=bundle, faces=faces, liveness=liveness)
        export_artefact(reference, "android", ExportOptions(precision="fp32"), out)


def make_drawn(out: Path) -> None:
    """Everything without any data."""
    config = SyntheticConfig(
        identities=64, images=8, seed=4, pose=0, expression=0.3, light=0.2, blur=0, noise=0, clutter=0
    )

    def faces(identity: int) -> list[np.ndarray]:
        return [
            cv2.resize(draw_face(config, identity, i)[0], (FACE, FACE), interpolation=cv2.INTER_CUBIC) for i in range(4)
        ]

    people = {"a": faces(0), "b": faces(1)}
    drawn_student(out / "artefact", people)
    drawn_detector(out / "detector.onnx")
    found = frames(people, None, place_drawn, stamp_drawn, FACE, blur=10, light=0.03)
    # What the drawn liveness network takes for a screen: b before a green wall.
    screen = np.where(found["b0"] == GREY, np.array(GREEN, np.uint8), found["b0"])
    write(out, {**found, "live": found["a0"], "screen": screen})


# Real.


def place_photograph(picture: np.ndarray, face: np.ndarray, column: int, row: int, side: int) -> None:
    """A square photograph at this size."""
    scaled = cv2.resize(face, (side, side), interpolation=cv2.INTER_AREA if side < face.shape[0] else cv2.INTER_CUBIC)
    picture[row : row + side, column : column + side] = scaled


def foreign_artefact(model: Path, out: Path) -> None:
    """EdgeFace-XS as the app opens an exported student, with its calibration on 800 of LFW's people."""
    from facekd.export.liveness import write_liveness
    from facekd.runtimes.opening import open_file

    (out / "golden").mkdir(parents=True)
    shutil.copy(model, out / "model.onnx")
    import torch

    crop = draw_face(SyntheticConfig(), 0, 0)[0]
    cv2.imwrite(str(out / "golden/crop.png"), crop[:, :, ::-1])
    embedding = open_file(model, threads=1)(torch.from_numpy(crop).permute(2, 0, 1)[None])[0].numpy()
    (out / "golden/embedding.json").write_text(json.dumps({"embedding": embedding.tolist()}), encoding="utf-8")
    networks = open_liveness_files([model.with_name(f"minifasnet_{name}.onnx") for name in ("v2", "v1se")])
    liveness = write_liveness(out, networks)
    names = ("model.onnx", "golden/crop.png", "golden/embedding.json", *(one.file for one in liveness.models))
    files = {name: file_sha256(out / name) for name in names}
    spec = {"size": [112, 112], "colour": "RGB", "mean": [127.5] * 3, "std": [127.5] * 3}
    manifest = {
        "schema_version": 1,
        "name": "edgeface_xs",
        "precision": "fp32",
        "bundle": {"sha256": files["model.onnx"]},
        "model": "model.onnx",
        "input": {"dtype": "float32", "layout": "nchw", "batch": 1, "preprocess": "out", "spec": spec},
        "output": {"name": "embedding", "width": len(embedding)},
        "thresholds": [],
        "calibration": json.loads(LFW_TABLE.read_text(encoding="utf-8")),
        "liveness": liveness.model_dump(mode="json"),
        "golden": {"crop": "golden/crop.png", "embedding": "golden/embedding.json", "min_cosine": 0.9999},
        "files": files,
    }
    (out / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


def make_real(out: Path, shared: Path) -> None:
    """LFW's photographs, EdgeFace-XS and YuNet."""

    def photographs(name: str, *numbers: int) -> list[np.ndarray]:
        paths = [shared / "data/lfw_raw" / name / f"{name}_{number:04}.jpg" for number in numbers]
        return [np.ascontiguousarray(cv2.imread(str(path))[:, :, ::-1]) for path in paths]

    # Photographs of one face that looks at the camera, sharp enough to be enrolled.
    people = {"a": photographs("Hugo_Chavez", 27, 41, 50, 53), "b": photographs("Jennifer_Garner", 4, 5, 6, 8)}
    turned = photographs("Andy_Dick", 1)[0][50:200, 50:200]  # without the face behind
    foreign_artefact(shared / "weights/edgeface_xs.onnx", out / "artefact")
    shutil.copy(shared / "weights/yunet_n_640_640.onnx", out / "detector.onnx")
    found = frames(people, turned, place_photograph, lambda *_: None, 448, blur=10, light=0.12)
    for name, sample in (("live", "real"), ("screen", "spoof_2")):
        found[name] = np.ascontiguousarray(cv2.imread(str(shared / f"data/liveness/{sample}.jpg"))[:, :, ::-1])
    write(out, found)


def write(out: Path, pictures: dict[str, np.ndarray]) -> None:
    """One .yuv a picture."""
    (out / "frames").mkdir(parents=True)
    for name, picture in pictures.items():
        (out / "frames" / f"{name}.yuv").write_bytes(nv21(picture))


def main() -> None:
    """Makes one folder."""
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument("out", type=Path)
    words.add_argument("--shared", type=Path, help="folder of real faces and weights; default: everything is drawn")
    given = words.parse_args()
    given.out.mkdir(parents=True)
    if given.shared is None:
        make_drawn(given.out)
    else:
        make_real(given.out, given.shared)


if __name__ == "__main__":
    main()
