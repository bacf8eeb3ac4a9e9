#!/usr/bin/env python3
"""Makes core's test vectors from OpenCV and facekd, on drawn faces: python android_demo/make_vectors.py DETECTOR

Writes vectors.json, session.json, enrolment.json, gallery.json, liveness.json and faces.bin in core/src/test/resources,
the same each time; tests/android regenerates and compares them, so that the Kotlin code and the Python it mirrors
cannot drift apart. session.json and enrolment.json come from tests/android/session_reference.py, gallery.json from
gallery_reference.py, liveness.json from liveness_reference.py; tests/demo runs the page's JavaScript on them too.
DETECTOR is YuNet's .onnx; its weights are not copied.
"""

import argparse
import json
import os
import sys
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from facekd.data.alignment import align, similarity_transform, template
from facekd.data.detection import YuNet
from facekd.data.synthetic import SyntheticConfig, draw_face
from facekd.demo.site import any_size
from facekd.runtimes.liveness import crop_face, crop_region
from facekd.runtimes.onnxruntime import inference_session
from facekd.schemas.input_spec import InputSpec

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.android import liveness_reference
from tests.android.gallery_reference import galleries
from tests.android.session_reference import measures, reviews, sequences

RESOURCES = Path(__file__).resolve().parent / "core/src/test/resources"
SCENE = 256  # a multiple of 32, so that nothing is padded


def scene() -> np.ndarray:
    """Three drawn faces of different size and turn on a grey ground, uint8 RGB [256, 256, 3]."""
    image = np.full((SCENE, SCENE, 3), 128, np.uint8)
    config = SyntheticConfig(identities=8, images=4, seed=3)
    for identity, (x, y, size, degrees) in enumerate([(8, 12, 112, 0), (150, 20, 84, 12), (70, 140, 100, -9)]):
        face = draw_face(config, identity, 0)[0]
        matrix = cv2.getRotationMatrix2D((55.5, 55.5), degrees, 1.0)
        turned = cv2.warpAffine(face, matrix, (112, 112), borderValue=(128, 128, 128))
        image[y : y + size, x : x + size] = cv2.resize(turned, (size, size), interpolation=cv2.INTER_AREA)
    return image


def yuv_planes(rng: np.random.Generator, width: int, height: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Random Y [h, w], U and V [ceil(h/2), ceil(w/2)]."""
    chroma = ((height + 1) // 2, (width + 1) // 2)
    return tuple(rng.integers(0, 256, shape, dtype=np.uint8) for shape in ((height, width), chroma, chroma))  # type: ignore[return-value]


def yuv_vector(rng: np.random.Generator, width: int, height: int) -> dict[str, Any]:
    """Planes and what OpenCV's full-range BT.601 (YCrCb) makes of them, chroma repeated."""
    y, u, v = yuv_planes(rng, width, height)
    full = [np.repeat(np.repeat(c, 2, 0), 2, 1)[:height, :width] for c in (v, u)]
    rgb = cv2.cvtColor(np.dstack([y, *full]), cv2.COLOR_YCrCb2RGB)
    return {
        "width": width,
        "height": height,
        "y": y.ravel().tolist(),
        "u": u.ravel().tolist(),
        "v": v.ravel().tolist(),
        "rgb": rgb.ravel().tolist(),
    }


def detector_vector(image: np.ndarray, detector: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """OpenCV's faces of the image at its own size, and the network's outputs on it by ONNX Runtime."""
    faces = YuNet(detector).detect(image)
    session = inference_session(any_size(detector), threads=os.cpu_count() or 1)
    blob = image[:, :, ::-1].transpose(2, 0, 1)[None].astype(np.float32)
    names = [output.name for output in session.get_outputs()]
    outputs = dict(zip(names, session.run(None, {session.get_inputs()[0].name: blob}), strict=True))
    found = [{"box": f.box.tolist(), "landmarks": f.landmarks.tolist(), "score": f.score} for f in faces]
    return {"side": SCENE, "faces": found}, {name: value.ravel() for name, value in outputs.items()}


def sparse(outputs: dict[str, np.ndarray]) -> dict[str, Any]:
    """Only cells whose score passes 0.3 (half the threshold): what decoding can need, and a small file."""
    out: dict[str, Any] = {}
    for stride in (8, 16, 32):
        score = np.sqrt(np.clip(outputs[f"cls_{stride}"], 0, 1) * np.clip(outputs[f"obj_{stride}"], 0, 1))
        cells = np.flatnonzero(score >= 0.3)
        rows = {
            f"{kind}_{stride}": outputs[f"{kind}_{stride}"].reshape(len(score), -1)[cells]
            for kind in ("cls", "obj", "bbox", "kps")
        }
        out[str(stride)] = {
            "cells": cells.tolist(),
            **{k: np.round(v.ravel().astype(float), 6).tolist() for k, v in rows.items()},
        }
    return out


def alignment_vectors(rng: np.random.Generator) -> list[dict[str, Any]]:
    """Landmarks thrown about the template and Umeyama's transform by SVD."""
    vectors = []
    for size in (112, 128, 224):
        for _ in range(4):
            angle, scale = rng.uniform(-3, 3), rng.uniform(0.4, 4)
            turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
            marks = template(112) @ turn.T + rng.uniform(-200, 400, 2) + rng.normal(0, 2 * scale, (5, 2))
            matrix = similarity_transform(marks, template(size))
            vectors.append({"size": size, "landmarks": marks.tolist(), "matrix": matrix.ravel().tolist()})
    return vectors


def liveness_vectors(rng: np.random.Generator, image: np.ndarray) -> dict[str, Any]:
    """Crops of face boxes anywhere about a picture, and OpenCV's pixels of two; a softmax."""
    regions = []
    for scale in (1.0, 2.7, 4.0):
        for _ in range(12):
            width, height = (int(side) for side in rng.integers(60, 800, 2))
            # A fraction that float32 holds, so that every language reads the same box.
            box = np.round(np.array([*rng.uniform(-0.2, 0.9, 2) * (width, height), *rng.uniform(8, 400, 2)]) * 8) / 8
            found = crop_region(box, width, height, scale)
            regions.append(
                {"box": box.tolist(), "width": width, "height": height, "scale": scale, "region": list(found)}
            )
    box = np.array([20.0, 30.0, 60.0, 70.0])
    crops = [
        {
            "box": box.tolist(),
            "scale": scale,
            "size": 24,
            "pixels": crop_face(image, box, scale, (24, 24)).ravel().tolist(),
        }
        for scale in (0.3, 2.7)
    ]
    logits = np.array([-0.138, -2.291, 2.43])
    powers = np.exp(logits)
    return {"regions": regions, "crops": crops, "logits": logits.tolist(), "softmax": (powers / powers.sum()).tolist()}


def make(detector: Path) -> tuple[dict[str, Any], bytes]:
    """(vectors.json's content, faces.bin's: zlib of the scene and its aligned faces, RGB)."""
    import torch

    rng = np.random.default_rng(7)
    image = scene()
    found, outputs = detector_vector(image, detector)
    marks = [np.array(face["landmarks"]) for face in found["faces"]]
    crops = [align(image, m) for m in marks]
    grey = [cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY).astype(np.float64) for crop in crops]
    spec = InputSpec(colour="BGR", mean=(103.5, 116.3, 123.7), std=(57.4, 57.1, 58.4))
    corner = torch.from_numpy(np.ascontiguousarray(crops[0].transpose(2, 0, 1)))[None]
    normal = spec.normalise(corner)[0].numpy()
    vectors = {
        "yuv": [yuv_vector(rng, width, height) for width, height in ((8, 6), (7, 5), (16, 4))],
        "detector": {**found, "outputs": sparse(outputs)},
        "alignment": alignment_vectors(rng),
        "liveness": liveness_vectors(rng, image),
        "quality": [measures(crop, m) for crop, m in zip(crops, marks, strict=True)],
        "sharpness": [float(cv2.Laplacian(g, cv2.CV_64F)[1:-1, 1:-1].var()) for g in grey],
        "normalise": {
            "mean": spec.mean,
            "std": spec.std,
            "places": [[c, y, x, float(normal[c, y, x])] for c in range(3) for y, x in ((0, 0), (50, 61), (111, 3))],
        },
        "scene": SCENE,
        "crops": len(crops),
    }
    return vectors, zlib.compress(b"".join(a.tobytes() for a in [image, *crops]), 9)


def main() -> None:
    """Writes the two files."""
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument("detector", type=Path, help="YuNet's .onnx")
    words.add_argument("--out", type=Path, default=RESOURCES)
    given = words.parse_args()
    vectors, faces = make(given.detector)
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "vectors.json").write_text(json.dumps(vectors) + "\n", encoding="utf-8")
    (given.out / "session.json").write_text(json.dumps(sequences()) + "\n", encoding="utf-8")
    (given.out / "enrolment.json").write_text(json.dumps(reviews()) + "\n", encoding="utf-8")
    liveness = json.dumps(liveness_reference.sequences())
    (given.out / "liveness.json").write_text(liveness + "\n", encoding="utf-8")
    (given.out / "gallery.json").write_text(json.dumps(galleries()) + "\n", encoding="utf-8")
    (given.out / "faces.bin").write_bytes(faces)
    print(f"{given.out}: {len(vectors['detector']['faces'])} faces")


if __name__ == "__main__":
    main()
