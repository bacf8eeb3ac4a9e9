"""Faults that converters make are injected; the gate refuses each, names figure and layer, and leaves nothing."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from facekd.common.errors import FacekdError
from facekd.evaluation.verification import VerificationResult, verify_pairs
from facekd.export.network import Network
from facekd.export.options import ExportOptions
from facekd.export.parity import GateError, bounds_for, compare, first_divergence, violation
from facekd.export.pipeline import Reference, export_artefact, judge_accuracy
from facekd.export.targets.base import Conversion, Target, get_target
from facekd.schemas.manifest import Accuracy

pytest.importorskip("onnxruntime")


class _SwappedChannels(nn.Module):
    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.module(x.flip(1))


class _OtherNormalisation(_SwappedChannels):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.module(x * 127.5 / 128)


class _BakedBatch(_SwappedChannels):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # What `view(x.size(0), -1)` becomes when the exporter takes the traced batch for a constant.
        return self.module(x[:1]).expand(x.shape[0], -1)


def _perturbed(module: nn.Module) -> nn.Module:
    module.stage3.down.layers.depthwise.conv.weight.data[0] *= 1.5  # type: ignore[union-attr]
    return module


@pytest.mark.parametrize(
    ("sabotage", "message"),
    [
        (_SwappedChannels, "first diverging layer stem.conv .*colour order"),
        (_OtherNormalisation, "first diverging layer stem.conv .*normalisation"),
        (_BakedBatch, "batch 1|batch 2"),
        (_perturbed, r"first diverging layer stage3.down.layers.depthwise.conv \(the last that agrees is stage3.down"),
    ],
    ids=["colour order", "normalisation", "baked batch", "perturbed weight"],
)
def test_sabotage_is_refused(
    reference: Reference,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    sabotage: Callable[[nn.Module], nn.Module],
    message: str,
) -> None:
    original = Network.module_for
    monkeypatch.setattr(Network, "module_for", lambda self, **options: sabotage(original(self, **options)))
    out = tmp_path / "out"
    with pytest.raises(GateError, match=message) as caught:
        export_artefact(reference, "onnx", ExportOptions(precision="fp32", batch=None), out)
    assert "target onnx, precision fp32" in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_file_that_its_runtime_cannot_open_leaves_nothing_and_names_no_folder_that_is_gone(
    reference: Reference, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = get_target("onnx")
    convert = type(target).convert

    def damaged(self: Target, network: Network, folder: Path, options: ExportOptions, scratch: Path) -> Conversion:
        conversion = convert(self, network, folder, options, scratch)
        (folder / conversion.model).write_bytes(b"\x08\x07 no graph")
        return conversion

    monkeypatch.setattr(type(target), "convert", damaged)
    told = r"^target onnx, precision fp32: model\.onnx is not a readable ONNX model"
    with pytest.raises(FacekdError, match=told) as caught:
        export_artefact(reference, "onnx", ExportOptions(precision="fp32", batch=None), tmp_path / "out")
    assert str(tmp_path) not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_bound_on_accuracy_names_both_figures() -> None:
    accuracy = Accuracy(
        dataset="dev",
        fingerprint="0",
        pairs=1000,
        float_accuracy=0.981,
        accuracy=0.977,
        threshold_cos=0.3,
        changed=9,
        changed_margin=0.02,
        max_accuracy_drop=0.3,
    )
    with pytest.raises(GateError, match=r"from 98.10 to 97.70 %, by 0.40 points; the bound is 0.3"):
        judge_accuracy(accuracy, "int8")
    judge_accuracy(accuracy.model_copy(update={"accuracy": 0.978}), "int8")
    # The same accuracy by other decisions is no float artefact's rounding.
    with pytest.raises(GateError, match="9 decisions on dev change"):
        judge_accuracy(accuracy.model_copy(update={"accuracy": 0.981}), "fp32")


@pytest.mark.parametrize("grouped", [True, False])
def test_accuracy_on_pairs_listed_by_kind_is_at_one_threshold_for_all(grouped: bool) -> None:
    generator = np.random.default_rng(0)
    cosines = np.clip(np.r_[generator.normal(0.5, 0.2, 100), generator.normal(0.1, 0.2, 100)], -1, 1)
    issame = np.arange(200) < 100
    if not grouped:
        order = generator.permutation(200)
        cosines, issame = cosines[order], issame[order]

    def judged(scores: np.ndarray) -> VerificationResult:
        angles = np.arccos(scores)
        second = np.stack([np.cos(angles), np.sin(angles)], axis=1)
        embeddings = np.stack([np.tile([1.0, 0.0], (200, 1)), second], axis=1).reshape(400, 2)
        return verify_pairs(embeddings.astype(np.float32), issame, name="view1")

    reference = judged(cosines)
    protocol, accuracy, limit_cos = reference.protocol, reference.accuracy, reference.chosen_threshold_cos
    if not grouped:
        assert (protocol, accuracy) == ("10 folds", reference.fold_accuracies.mean())
        return
    # From the definition: of all thresholds, the one that decides most pairs rightly.
    cuts = np.linspace(-1, 1, 4001)
    right = ((cosines[None] > cuts[:, None]) == issame[None]).mean(axis=1)
    assert protocol == "one threshold for all pairs"
    assert accuracy == pytest.approx(right.max(), abs=2 / 200)
    assert ((cosines > limit_cos) == issame).mean() == pytest.approx(accuracy)


def test_figures_from_their_definitions() -> None:
    reference = np.array([[3.0, 4.0], [1.0, 0.0]], np.float32)
    figures = compare(reference, reference + np.array([[0.0, 0.5], [0.0, 0.0]], np.float32))
    assert figures.max_abs_difference == pytest.approx(0.5)
    assert figures.scale == pytest.approx(np.sqrt((9 + 16 + 1) / 4))
    expected = (3 * 3 + 4 * 4.5) / (5 * np.hypot(3, 4.5))
    assert figures.cosine_min == pytest.approx(expected)
    assert figures.cosine_mean == pytest.approx((expected + 1) / 2)


def test_embeddings_that_are_not_finite_or_of_another_shape_are_refused() -> None:
    ones = np.ones((2, 3), np.float32)
    with pytest.raises(GateError, match="NaN"):
        compare(ones, ones * np.array([1, np.nan, 1], np.float32))
    with pytest.raises(GateError, match=r"\[2, 2\]"):
        compare(ones, ones[:, :2])


def test_a_users_cosine_bound_holds_for_quantised_artefacts_only() -> None:
    assert bounds_for("int8", scale=1.0, width=2, min_cosine=0.97)["cosine_min"] == 0.97
    assert bounds_for("fp32", scale=1.0, width=2, min_cosine=0.5)["cosine_min"] > 0.9999
    figures = compare(np.eye(2, dtype=np.float32), np.array([[1, 0.5], [0, 1]], np.float32))
    assert "below the bound 0.97" in str(violation(figures, bounds_for("int8", scale=1.0, width=2, min_cosine=0.97)))


def test_divergence_is_found_whatever_the_layout_and_however_much_was_fused() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.Flatten(), nn.Linear(5 * 16, 2)).eval()
    x = torch.randn(1, 3, 8, 8)
    with torch.no_grad():
        relu = module[1](module[0](x))
        wrong = module[2](relu) + 1
    # The first convolution was fused away, the ReLU is there with channels last, then the values part.
    exported = [("a", relu.permute(0, 2, 3, 1).numpy()), ("b", wrong.numpy())]
    assert first_divergence(module, x, exported, precision="fp32").startswith("first diverging layer 2 (")
    assert "not known" in first_divergence(module, x, [], precision="fp32")


def test_min_cosine_gates_a_real_int8_export(reference: Reference, tmp_path: Path) -> None:
    options = ExportOptions(
        precision="int8", batch=1, calibration=reference.faces.images, calibration_source="drawn", keep_float=()
    )
    from facekd.export.pipeline import Gate

    with pytest.raises(GateError, match=r"cosine min .* is below the bound 1"):
        export_artefact(reference, "onnx", options, tmp_path / "out", gate=Gate(min_cosine=1.0))
    assert not list(tmp_path.iterdir())


def test_int8_without_calibration_is_a_usage_error(reference: Reference, tmp_path: Path) -> None:
    with pytest.raises(FacekdError, match="--calibration"):
        export_artefact(reference, "onnx", ExportOptions(precision="int8", batch=1), tmp_path / "out")


def test_unknown_float_layer_is_named_with_valid_ones(reference: Reference, tmp_path: Path) -> None:
    options = ExportOptions(
        precision="int8", batch=1, calibration=reference.faces.images, keep_float=("stem.cnov",), calibration_source="x"
    )
    with pytest.raises(FacekdError, match=r"stem.cnov: no such layer; valid: auto, or of stem.conv"):
        export_artefact(reference, "onnx", dataclasses.replace(options), tmp_path / "out")
