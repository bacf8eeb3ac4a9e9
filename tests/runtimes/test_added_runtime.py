"""A runtime of another package: registering one class is enough for every verb to find it by a file's suffix."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

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


PACKAGE = """
from pathlib import Path

import numpy as np

from facekd.runtimes import OpenOptions, Runtime, Session
from facekd.runtimes.base import Tensor


class Product(Runtime):
    name, title, suffixes = "product", "NumPy", (".npz",)

    def open(self, path: Path, options: OpenOptions) -> Session:
        return ProductSession(self, path)


class ProductSession(Session):
    provider = "CPU"

    def __init__(self, runtime, path):
        self._weight = np.load(path)["weight"]
        image = Tensor(name="x", dtype="float32", shape=(None, 3, 112, 112))
        output = Tensor(name="y", dtype="float32", shape=(None, self._weight.shape[1]))
        super().__init__(runtime, path, inputs=[image], outputs=[output])

    def run(self, x):
        return x.reshape(len(x), -1) @ self._weight
"""


@pytest.mark.parametrize("found", ["installed", "named"])
def test_a_package_of_ones_own_is_evaluated_and_benchmarked(tmp_path: Path, found: str) -> None:
    """By the entry point of an installed package, and by `package.module:Class` without one."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "my_runtimes.py").write_text(PACKAGE)
    model = tmp_path / "face.npz"
    np.savez(model, weight=np.random.default_rng(0).normal(size=(3 * 112 * 112, 8)).astype(np.float32))
    environment = {**os.environ, "PYTHONPATH": f"{site}:{os.environ.get('PYTHONPATH', '')}"}
    named: list[str] = []
    if found == "installed":
        info = site / "my_runtimes-1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-runtimes\nVersion: 1\n")
        (info / "entry_points.txt").write_text("[facekd.runtimes]\nproduct = my_runtimes:Product\n")
    else:
        environment["FACEKD_TRUSTED_MODULES"] = "my_runtimes"
        named = ["--runtime", "my_runtimes:Product"]

    def facekd(*words: object) -> Any:
        command = [sys.executable, "-m", "facekd", *map(str, words), "--json"]
        result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout)

    timing = ("--runs", 5, "--duration", "10ms", "--repeats", 1, "--no-peak")
    (record,) = facekd("benchmark", model, *timing, *named)["records"]
    assert record["setup"]["runtime"] == (named[1] if named else "product")
    assert record["model"]["sha256"] == hashlib.sha256(model.read_bytes()).hexdigest()
    report = facekd("evaluate", model, "--pairs", "synthetic:identities=10,pairs=20", *named)
    assert report["sets"][0]["pairs"] == 20
    told = facekd("embed", model, "synthetic:identities=2,images=2", "--out", tmp_path / "e.npz", *named)
    assert told["embedded"] == 4
