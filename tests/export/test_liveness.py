"""`facekd export --liveness`: the networks lie in the artefact, described, hashed and as good as before."""

from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner, Result

from facekd.cli import export as export_verb
from facekd.cli import liveness as liveness_verb
from facekd.common.errors import FacekdError, UsageError
from facekd.common.hashing import file_sha256
from facekd.runtimes.liveness import open_liveness
from facekd.schemas.manifest import read_manifest
from tests.liveness_network import GREEN, write_network

pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("networks")
    return [write_network(folder / f"{name}.onnx", scale=scale) for name, scale in (("near", 1.0), ("far", 2.0))]


def run(*words: object) -> Result:
    app = typer.Typer()
    for verb in (export_verb, liveness_verb):
        verb.register(app)
    return CliRunner().invoke(app, list(map(str, words)))


def export(bundle: Path, out: Path, *words: object) -> Result:
    return run("export", bundle, "--faces", 2, "--out", out, *words)


def test_the_artefact_holds_what_was_given(bundle_path: Path, networks: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "artefact"
    words = ["--liveness", networks[0], "--liveness", networks[1], "--liveness-threshold", 0.7]
    assert export(bundle_path, out, *words).exit_code == 0
    manifest = read_manifest(out)
    assert manifest.liveness is not None and manifest.liveness.threshold == 0.7
    for given, model, scale in zip(networks, manifest.liveness.models, (1.0, 2.0), strict=True):
        assert (model.file, model.crop_scale, model.real_class) == (f"liveness/{given.name}", scale, 1)
        assert manifest.files[model.file] == file_sha256(out / model.file) == file_sha256(given)
    image = np.full((300, 300, 3), GREEN, np.uint8)
    image[100:201, 100:201] = 120
    box = np.array([100.0, 100, 100, 100])
    assert open_liveness([out]).score(image, box) == pytest.approx(open_liveness(networks).score(image, box))
    shown = run("export", "inspect", out).stdout
    assert "liveness/near.onnx" in shown and "mean probability 0.7" in shown
    assert run("export", "check", out).exit_code == 0

    assert export(bundle_path, out, "--resume", *words).exit_code == 0
    other = export(bundle_path, out, "--resume", "--liveness", networks[0])
    assert isinstance(other.exception, UsageError) and "has liveness" in str(other.exception)

    (out / "liveness/near.onnx").write_bytes(networks[1].read_bytes() + b" ")
    with pytest.raises(FacekdError, match=r"liveness/near\.onnx was changed"):
        open_liveness([out])


def test_a_file_that_is_none_leaves_nothing_behind(bundle_path: Path, networks: list[Path], tmp_path: Path) -> None:
    missing = export(bundle_path, tmp_path / "out", "--liveness", tmp_path / "none.onnx")
    assert isinstance(missing.exception, UsageError) and "no liveness network at" in str(missing.exception)
    lonely = export(bundle_path, tmp_path / "out", "--liveness-threshold", 0.5)
    assert isinstance(lonely.exception, UsageError) and "give --liveness FILE too" in str(lonely.exception)
    far = export(bundle_path, tmp_path / "out", "--liveness", networks[0], "--liveness-threshold", 1)
    assert isinstance(far.exception, UsageError) and "valid: 0 to below 1" in str(far.exception)
    assert list(tmp_path.iterdir()) == []


def test_an_artefact_without_networks_says_how_to_get_them(
    bundle_path: Path, networks: list[Path], tmp_path: Path
) -> None:
    assert export(bundle_path, tmp_path / "plain").exit_code == 0
    assert read_manifest(tmp_path / "plain").liveness is None
    with pytest.raises(UsageError, match="export it with --liveness FILE"):
        open_liveness([tmp_path / "plain"])
    with pytest.raises(UsageError, match="give one artefact, or liveness files"):
        open_liveness([tmp_path / "plain", networks[0]])


def test_the_verb_scores_photographs_and_folders(shared: Path, tmp_path: Path) -> None:
    models = [w for n in ("v2", "v1se") for w in ("--model", shared / f"weights/minifasnet_{n}.onnx")]
    words = [*models, "--detector", shared / "weights/yunet_n_640_640.onnx"]
    samples = {path.stem: path for path in (shared / "data/liveness").glob("*.jpg")}
    shown = run("liveness", samples["real"], samples["spoof_2"], *words).stdout
    assert "live above 0.5" in shown and "not a live face" in shown
    for kind, names in (("live", ["real"]), ("attack/screen", ["spoof_1", "spoof_2"])):
        (tmp_path / kind).mkdir(parents=True)
        for name in names:
            (tmp_path / kind / f"{name}.jpg").write_bytes(samples[name].read_bytes())
    shown = run("liveness", tmp_path, *words).stdout
    assert "BPCER: live faces refused" in shown and "APCER: screen passed" in shown
