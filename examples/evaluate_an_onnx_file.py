"""Any .onnx face model on a list of your own pairs: two paths and a 1 or 0 a line."""

import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
import torch

import facekd


def make_model(path: Path) -> None:
    """A stand-in for your own model: it takes BGR pixels from 0 to 255, as many public ones do."""

    class Network(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.avg_pool2d(x / 255 - 0.5, 8).flatten(1)

    example = (torch.zeros(2, 3, 112, 112),)
    shapes = ({0: torch.export.Dim("batch", min=1, max=256)},)
    torch.onnx.export(Network(), example, path, dynamo=True, dynamic_shapes=shapes, verbose=False)


def main(out: Path, pairs: int = 60) -> float:
    """Writes images, a list and a model, evaluates, and returns the accuracy."""
    faces = facekd.open_source("synthetic:identities=20,images=4")
    (out / "faces").mkdir(parents=True)
    for i in range(len(faces)):
        cv2.imwrite(str(out / "faces" / f"{i}.png"), faces.read(i)[:, :, ::-1])
    rng = np.random.default_rng(0)
    lines = ["first,second,same"]
    for number in range(pairs):
        same = number % 2 == 0
        person, other = rng.choice(20, 2, replace=False)
        one, two = rng.choice(4, 2, replace=False)
        lines.append(f"{4 * person + one}.png,{4 * (person if same else other) + two}.png,{int(same)}")
    (out / "pairs.csv").write_text("\n".join(lines) + "\n")
    make_model(out / "model.onnx")

    # How the model wants its pixels is not in the file, so it is said here.
    spec = facekd.InputSpec(colour="BGR", mean=(0, 0, 0), std=(1, 1, 1))
    model = facekd.open_model(out / "model.onnx", input_spec=spec)
    result = facekd.evaluate_pairs(model, out / "pairs.csv", images=out / "faces")
    print(f"{result.pairs} pairs: accuracy {result.accuracy_percent} % ({result.protocol}), AUC {result.auc:.4f}")
    for note in result.notes():
        print(note)
    return result.accuracy


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(folder) / "out")
