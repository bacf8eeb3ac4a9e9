"""A runtime of another package: registering one class is enough for every verb to find it by a file's suffix."""

from pathlib import Path

import numpy as np
import pytest
import torch

from facekd.cli.evaluate import open_model
from facekd.common.errors import FacekdError
from facekd.runtimes.base import RUNTIMES, OpenOptions, Runtime, Session, Tensor, list_runtimes
from facekd.schemas.input_spec import InputSpec
from facekd.schemas.manifest import (
    ArtefactInput,
    ArtefactOutput,
    BundleReference,
    GoldenFiles,
    Manifest,
    Parity,
    hash_files,
    write_manifest,
)

SPEC = InputSpec(size=(4, 4), colour="BGR", mean=(100, 110, 120), std=(50, 60, 70))
WEIGHT = np.random.default_rng(0).normal(size=(48, 5))
OPTIONS = {"mean": None, "std": None, "colour": None, "layout": None, "threads": 1}


class ArrayRuntime(Runtime):
    """A runtime made for this test: the file is a NumPy array, the model a product with it."""

    name, title, suffixes = "array", "NumPy", (".npy",)

    def open(self, path: Path, options: OpenOptions) -> Session:
        assert options.threads == 1
        return ArraySession(self, path, np.load(path))


class ArraySession(Session):
    provider = "CPU"

    def __init__(self, runtime: Runtime, path: Path, weight: np.ndarray) -> None:
        image = Tensor(name="x", dtype="float32", shape=(2, 4, 4, 3))
        super().__init__(
            runtime, path, inputs=[image], outputs=[Tensor(name="y", dtype="float32", shape=(2, weight.shape[1]))]
        )
        self._weight = weight

    def run(self, x: np.ndarray) -> np.ndarray:
        assert x.shape == (2, 4, 4, 3), "the layout and batch"
        return (x.reshape(2, 48) @ self._weight).astype(np.float32)


@pytest.fixture
def artefact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    list_runtimes()  # so that the real ones are registered before the made one joins them
    monkeypatch.setitem(RUNTIMES._entries, "array", ArrayRuntime)
    np.save(tmp_path / "model.npy", WEIGHT)
    manifest = Manifest(
        name="made",
        target="array",
        precision="fp32",
        created="",
        facekd_version="",
        bundle=BundleReference(name="made", architecture="none", sha256=""),
        model="model.npy",
        format_version="",
        size_bytes=1,
        input=ArtefactInput(name="x", dtype="float32", layout="nhwc", batch=2, preprocess="out", spec=SPEC),
        output=ArtefactOutput(name="y", width=5),
        operators={},
        parity=Parity(
            runtime="NumPy", faces=1, source="", max_abs_difference=0, scale=1, max_abs_difference_unit=0,
            cosine_min=1, cosine_mean=1, bounds={}, batches=[2],
        ),
        golden=GoldenFiles(min_cosine=1),
        seconds=0,
        versions={},
        files=hash_files(tmp_path),
    )  # fmt: skip
    write_manifest(tmp_path, manifest)
    return tmp_path


def test_it_is_fed_as_its_manifest_says(artefact: Path) -> None:
    images = np.random.default_rng(1).integers(0, 256, (5, 3, 4, 4), dtype=np.uint8)
    embedder = open_model(artefact, **OPTIONS)  # type: ignore[arg-type]
    assert (embedder.input, embedder.embedding_width) == (SPEC, 5)
    x = images[:, ::-1].astype(np.float64).transpose(0, 2, 3, 1)
    expected = ((x - SPEC.mean) / SPEC.std).reshape(5, 48) @ WEIGHT
    np.testing.assert_allclose(embedder(torch.from_numpy(images)).numpy(), expected, rtol=1e-4, atol=1e-4)


def test_a_changed_file_is_refused(artefact: Path) -> None:
    np.save(artefact / "model.npy", WEIGHT + 1)
    with pytest.raises(FacekdError, match="was changed after it was exported"):
        open_model(artefact, **OPTIONS)  # type: ignore[arg-type]
