"""Static int8: which layers cost the embedding how much, which stay in float, and the ONNX QDQ file."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from facekd.common.errors import FacekdError, UsageError
from facekd.export.options import ExportOptions
from facekd.export.ranges import Named, find_ranges
from facekd.runtimes.base import Session
from facekd.runtimes.embedder import FileEmbedder
from facekd.runtimes.opening import open_stated
from facekd.schemas.manifest import ArtefactInput, LayerLoss, Quantisation

# `--keep-float auto` keeps the costliest layers in float until the mean cosine to the float embedding, on calibration
# faces, is within this of 1 (facekd's choice), but never more than the last of _KEPT.
AUTO_LOSS = 0.004
_KEPT = (0, 1, 2, 4, 8)
# Faces for the per-layer report: each layer costs one quantisation and one run over them.
_REPORT_FACES = 16
# Operators that carry the multiplications. What lies between them (PReLU's form, additions) is quantised with them.
_LAYERS = ("Conv", "Gemm", "MatMul")

Embed = Callable[[np.ndarray], np.ndarray]


def quantise_onnx(
    float_model: Path, spec: ArtefactInput, options: ExportOptions, scratch: Path
) -> tuple[Any, Quantisation]:
    """An ONNX model with QuantizeLinear/DequantizeLinear pairs, int8 weights and activations per tensor.

    Per tensor, since ONNX Runtime runs per-channel QDQ slower on these networks (docs/export.md).

    Raises:
        UsageError: a layer named in keep_float does not exist.
    """
    import onnx
    from onnxruntime.quantization.shape_inference import quant_pre_process

    faces = require_calibration(options)
    prepared = scratch / "prepared.onnx"
    quant_pre_process(float_model, prepared, skip_optimization=True, skip_symbolic_shape=True)
    model = onnx.load(prepared)
    layers = _name_layers(model)
    onnx.save(model, prepared)
    embedder = open_stated(prepared, spec, threads=1)

    def batches() -> Iterator[Named]:
        for start in range(0, len(faces), 8):
            x = feed_padded(embedder, faces[start : start + 8])
            yield float_values(embedder.session, x)

    ranges = find_ranges(batches, method=options.calibration_method, percentile=options.percentile)
    sample = faces[:_REPORT_FACES]
    reference = embedder.embed(sample, batch=32)

    def embed(excluded: Sequence[str], only: Sequence[str] | None = None) -> np.ndarray:
        path = scratch / "trial.onnx"
        onnx.save(_qdq(prepared, ranges, excluded=excluded, only=only), path)
        return open_stated(path, spec, threads=1).embed(sample, batch=32)

    reported = layers if options.layer_report else []
    losses = {name: embedding_loss(reference, embed((), only=(name,))) for name in reported}
    kept = choose_float_layers(losses, options.keep_float, lambda names: embedding_loss(reference, embed(names)))
    quantisation = describe_quantisation(
        f"ONNX Runtime static QDQ, int8 per tensor; ranges by {options.calibration_method}", losses, kept, options
    )
    return _qdq(prepared, ranges, excluded=kept), quantisation


def require_calibration(options: ExportOptions) -> np.ndarray:
    """The calibration faces, uint8 [n, 3, h, w].

    Raises:
        UsageError: there are none.
    """
    if options.calibration is None or not len(options.calibration):
        raise UsageError("precision int8 needs faces to calibrate on: give --calibration SRC (a .rec file or a folder)")
    return options.calibration


def embedding_loss(reference: np.ndarray, embeddings: np.ndarray) -> float:
    """1 - mean cosine between the rows of two arrays [n, e]."""
    # float64: 1 - cosine of a good layer is below float32's resolution at 1.
    a, b = reference.astype(np.float64), embeddings.astype(np.float64)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return float(1 - np.mean(np.sum(a * b, axis=1) / np.maximum(norms, 1e-12)))


def choose_float_layers(
    losses: dict[str, float], keep_float: str | tuple[str, ...], whole_loss: Callable[[list[str]], float]
) -> list[str]:
    """The layers that stay in float.

    Args:
        losses: each layer's loss when quantised alone.
        keep_float: "auto", or layer names.
        whole_loss: the loss of the whole file with the given layers in float.

    Raises:
        UsageError: a name is not a layer.
    """
    if keep_float != "auto":
        unknown = [name for name in keep_float if name not in losses]
        if unknown:
            valid = ", ".join(list(losses)[:8]) + (", ..." if len(losses) > 8 else "")
            raise UsageError(f"--keep-float {unknown[0]}: no such layer; valid: auto, or of {valid}")
        return list(keep_float)
    costly = sorted(losses, key=lambda name: -losses[name])
    results = []
    for number in _KEPT:
        names = costly[:number]
        results.append((whole_loss(names), names))
        if results[-1][0] <= AUTO_LOSS:
            return names
    # None suffices: the gate judges the best there is.
    return min(results, key=lambda result: result[0])[1]


def describe_quantisation(
    method: str, losses: dict[str, float], kept: Sequence[str], options: ExportOptions
) -> Quantisation:
    """The manifest's record, the costliest layer first."""
    ordered = sorted(losses.items(), key=lambda item: -item[1])
    return Quantisation(
        method=method,
        calibration=options.calibration_source,
        calibration_faces=0 if options.calibration is None else len(options.calibration),
        layers=[LayerLoss(name=name, loss=loss, kept_float=name in kept) for name, loss in ordered],
        keep_float=list(kept),
    )


def feed_padded(embedder: FileEmbedder, faces: np.ndarray) -> np.ndarray:
    """The model's input for some faces; with a fixed batch they are repeated or cut to it."""
    if embedder.fixed_batch:
        faces = np.resize(faces, (embedder.fixed_batch, *faces.shape[1:]))
    return embedder.encoding.encode(faces)


def float_values(session: Session, x: np.ndarray) -> Named:
    """(name, values) of the input and of every tensor that the file computes for it, those of type float32."""
    if x.dtype == np.float32:
        yield session.input.name, x
    for name, values in session.intermediates_bounded(x):
        if values.dtype == np.float32:
            yield name, values


def _name_layers(model: Any) -> list[str]:
    """Names every layer after the module whose weight it holds, as the bundle calls it; returns those names.

    Other nodes get a unique name if they have none: onnxsim leaves some empty.
    """
    weights = {tensor.name for tensor in model.graph.initializer}
    seen: set[str] = set()
    layers = []
    for index, node in enumerate(model.graph.node):
        if node.op_type in _LAYERS:
            held = next((name for name in node.input[1:2] if name in weights and name.endswith(".weight")), None)
            if held is not None:
                node.name = held.removesuffix(".weight").removeprefix("module.")
        if not node.name or node.name in seen:
            node.name = f"{node.op_type}_{index}"
        seen.add(node.name)
        if node.op_type in _LAYERS:
            layers.append(node.name)
    return layers


def _qdq(
    prepared: Path,
    ranges: dict[str, tuple[float, float]],
    *,
    excluded: Sequence[str],
    only: Sequence[str] | None = None,
) -> Any:
    import onnx
    from onnxruntime.quantization.calibrate import CalibrationMethod, TensorData, TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
    from onnxruntime.quantization.quant_utils import QuantType
    from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

    tensors = {
        name: TensorData(lowest=np.float32(low), highest=np.float32(high)) for name, (low, high) in ranges.items()
    }
    quantiser = QDQQuantizer(
        onnx.load(prepared),
        per_channel=False,
        reduce_range=False,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QUInt8,
        tensors_range=TensorsData(CalibrationMethod.MinMax, tensors),
        nodes_to_quantize=list(only or []),
        nodes_to_exclude=list(excluded),
        # QDQRegistry alone leaves Mul and Add in float, between which every value is dequantised and quantised again.
        op_types_to_quantize=sorted(set(QDQRegistry) | set(QLinearOpsRegistry)),
        extra_options={},
    )
    try:
        quantiser.quantize_model()
    except ValueError as error:
        raise FacekdError(f"ONNX Runtime cannot quantise the graph: {error}") from error
    # The quantiser appends its pairs at the end; the standard wants every node behind what it reads.
    quantiser.model.topological_sort()
    return quantiser.model.model
