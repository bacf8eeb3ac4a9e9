"""Quantised TFLite files by ai-edge-quantizer: float16 and dynamic-range weights, static W8A8 with a report."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from facekd.export.options import ExportOptions
from facekd.export.quantisation import (
    choose_float_layers,
    describe_quantisation,
    embedding_loss,
    feed_padded,
    float_values,
    require_calibration,
)
from facekd.export.ranges import Named, find_ranges
from facekd.runtimes.litert_interpreter import open_interpreter
from facekd.runtimes.opening import open_stated
from facekd.schemas.manifest import ArtefactInput, Quantisation

_LAYERS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "BATCH_MATMUL")
_REPORT_FACES = 8


def quantise_weights(source: Path, path: Path, precision: str) -> None:
    """Writes `source` with float16 (fp16) or dynamic-range int8 (w8) weights."""
    from ai_edge_quantizer import qtyping, quantizer, recipe

    if precision == "w8":
        converter = quantizer.Quantizer(str(source), recipe.dynamic_wi8_afp32())
    else:
        converter = quantizer.Quantizer(str(source))
        for name in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
            converter.update_quantization_recipe(
                regex=".*",
                operation_name=qtyping.TFLOperationName(name),
                algorithm_key=quantizer.AlgorithmName.FLOAT_CASTING,
                op_config=qtyping.OpQuantizationConfig(
                    weight_tensor_config=qtyping.TensorQuantizationConfig(
                        num_bits=16, dtype=qtyping.TensorDataType.FLOAT
                    ),
                    compute_precision=qtyping.ComputePrecision.FLOAT,
                    explicit_dequantize=True,
                ),
            )
    converter.quantize().export_model(str(path), overwrite=True)


def quantise_static(source: Path, path: Path, spec: ArtefactInput, options: ExportOptions) -> Quantisation:
    """Writes `source` as static W8A8 with float input and output.

    Raises:
        UsageError: no calibration faces, or a layer named in keep_float that does not exist.
    """
    faces = require_calibration(options)
    embedder = open_stated(source, spec, threads=1)

    def batches() -> Iterator[Named]:
        step = spec.batch or 1
        for start in range(0, len(faces), step):
            x = feed_padded(embedder, faces[start : start + step])
            yield float_values(embedder.session, x)

    ranges = find_ranges(batches, method=options.calibration_method, percentile=options.percentile)
    quantised = _StaticQuantiser(source, ranges)
    layers = _layers(source)
    sample = faces[:_REPORT_FACES]
    reference = embedder.embed(sample)

    def loss(excluded: Sequence[str], only: Sequence[str] | None = None) -> float:
        trial = path.with_name("trial.tflite")
        try:
            quantised.write(trial, [layers[name] for name in excluded], _tensors(layers, only))
            return embedding_loss(reference, open_stated(trial, spec, threads=1).embed(sample))
        finally:
            trial.unlink(missing_ok=True)

    losses = {name: loss((), only=(name,)) for name in (layers if options.layer_report else ())}
    kept = choose_float_layers(losses, options.keep_float, loss)
    quantised.write(path, [layers[name] for name in kept], None)
    method = f"LiteRT static W8A8, weights per channel; ranges by {options.calibration_method}"
    return describe_quantisation(method, losses, kept, options)


class _StaticQuantiser:
    """One float file and its activation ranges; `write` quantises all of it, all but some, or only some layers."""

    def __init__(self, source: Path, ranges: dict[str, tuple[float, float]]) -> None:
        self._source = str(source)
        self._statistics = {
            name: {
                "min": np.float32(low).reshape(1, 1, 1, 1),
                "max": np.float32(high).reshape(1, 1, 1, 1),
                "num_samples": np.array(1),
            }
            for name, (low, high) in ranges.items()
        }

    def write(self, path: Path, excluded: Sequence[str], only: Sequence[str] | None) -> None:
        """Args: output tensor names of operators left in float, or the only ones quantised."""
        from ai_edge_quantizer import qtyping, quantizer

        converter = quantizer.Quantizer(self._source)
        for name in [".*"] if only is None else [re.escape(name) for name in only]:
            converter.add_static_config(
                regex=name,
                operation_name=qtyping.TFLOperationName.ALL_SUPPORTED,
                activation_num_bits=8,
                weight_num_bits=8,
            )
        float_everywhere = [qtyping.TFLOperationName.INPUT, qtyping.TFLOperationName.OUTPUT]
        for operation in float_everywhere if only is None else []:
            self._keep(converter, ".*", operation)
        for name in excluded:
            self._keep(converter, re.escape(name), qtyping.TFLOperationName.ALL_SUPPORTED)
        converter.quantize(self._statistics, enable_progress_report=False).export_model(str(path), overwrite=True)

    @staticmethod
    def _keep(converter: Any, regex: str, operation: Any) -> None:
        from ai_edge_quantizer import quantizer

        converter.update_quantization_recipe(
            regex=regex, operation_name=operation, algorithm_key=quantizer.AlgorithmName.NO_QUANTIZE
        )


def _layers(path: Path) -> dict[str, str]:
    """Output tensor of every layer with weights, by its module's name where the tensor tells, else by number."""
    interpreter = open_interpreter(path)
    names = {tensor["index"]: str(tensor["name"]) for tensor in interpreter.get_tensor_details()}
    found: dict[str, str] = {}
    for number, operator in enumerate(interpreter._get_ops_details()):
        if operator["op_name"] in _LAYERS:
            tensor = names[int(operator["outputs"][0])]
            module = _module_name(tensor)
            found[module if module and module not in found else f"{operator['op_name'].lower()}_{number}"] = tensor
    return found


def _module_name(tensor: str) -> str:
    """The module that litert-torch names a tensor by: "wrapper/p.Class_stem/p.Conv2d_conv;...;" is stem.conv.

    A tensor of fused operators has a path for each; the one of the layer with weights is taken.
    """
    paths = [path.split("/") for path in tensor.split(";") if "/" in path]
    layers = [path for path in paths if re.search(r"\.(Conv\dd|Linear)_\w+$", path[-1])]
    path = next(iter(layers or paths), [])
    parts = [part.rpartition(".")[2].partition("_")[2] for part in path[1:]]
    return ".".join(part for part in parts if part and part not in ("wrapped", "module"))


def _tensors(layers: dict[str, str], names: Sequence[str] | None) -> list[str] | None:
    return None if names is None else [layers[name] for name in names]
