"""ONNX through torch's dynamo exporter: one file, simplified, checked, with its meaning in its metadata."""

from pathlib import Path
from typing import Any, ClassVar

import torch

from facekd.common.errors import FacekdError
from facekd.export.network import INPUT_NAME, OUTPUT_NAME, Network
from facekd.export.options import ExportOptions
from facekd.export.targets.base import Conversion, Target, count, refuse, register_target
from facekd.schemas.manifest import ArtefactInput, Layout


@register_target
class OnnxTarget(Target):
    """One .onnx file, NCHW or NHWC, fixed or dynamic batch."""

    name = "onnx"
    extra = "onnx"
    modules = ("onnx", "onnxruntime", "onnxscript", "onnxsim")
    precisions: ClassVar[dict[str, str]] = {
        "fp32": "float32",
        "fp16": "float16 inside, float32 input and output",
        "int8": "static QDQ, int8 weights and activations per tensor",
        "w8": "int8 weights per channel, dequantised when loaded: a smaller file, float32 speed",
    }
    refused: ClassVar[dict[str, str]] = {"palette": "look-up-table weights are a Core ML format"}
    layouts: ClassVar[tuple[Layout, ...]] = ("nchw", "nhwc")
    dynamic_batch = True
    default_batch: ClassVar[int | None] = None

    def convert(self, network: Network, folder: Path, options: ExportOptions, scratch: Path) -> Conversion:
        """Writes model.onnx.

        Raises:
            FacekdError: torch cannot export the network, the opset is not the one asked for, or the checker refuses.
        """
        import onnx

        form = options.prelu_form or PRELU_FORM[options.precision]
        raw = scratch / "exported.onnx"
        self._export(network, raw, options, form)
        model = onnx.load(raw)
        _check_opset(model, options.opset)
        before = len(model.graph.node)
        model = _simplify(model)
        _slopes_3d(model)
        after = len(model.graph.node)
        details: dict[str, Any] = {"nodes_exported": before, "nodes_simplified": after}
        float_model = scratch / "float.onnx"
        onnx.save(model, float_model)
        quantisation = None
        if options.precision == "fp16":
            model = _to_float16(model)
        elif options.precision == "w8":
            from facekd.export.onnx_weights import quantise_weights

            model, details["weights_quantised"] = quantise_weights(model)
        elif options.precision == "int8":
            from facekd.export.quantisation import quantise_onnx

            model, quantisation = quantise_onnx(float_model, _input_of(network, options), options, scratch)
        _describe(model, network, options)
        try:
            onnx.checker.check_model(model, full_check=True)
        except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
            raise refuse(self.name, "onnx.checker refuses the file")(error) from error
        path = folder / "model.onnx"
        onnx.save(model, path)
        _check_opset(onnx.load(path), options.opset)
        return Conversion(
            model=path.name,
            format_version=f"opset {options.opset}",
            input=_input_of(network, options),
            output_name=OUTPUT_NAME,
            operators=count([node.op_type for node in model.graph.node]),
            usability=mobile_usability(path, scratch),
            prelu_form=form if network.has_prelu() else None,
            quantisation=quantisation,
            float_model=float_model if options.precision != "fp32" else None,
            details=details,
            packages=("torch", "onnx", "onnxscript", "onnxsim", "onnxruntime"),
        )

    def _export(self, network: Network, path: Path, options: ExportOptions, form: str) -> None:
        module = network.module_for(preprocess=options.preprocess, prelu_form=form)
        example = network.example(batch=options.batch or 2, preprocess=options.preprocess)
        if options.layout == "nhwc":
            module = ChannelsLast(module)
            example = example.permute(0, 2, 3, 1).contiguous()
        dynamic = None if options.batch else ({0: torch.export.Dim("batch", min=1, max=4096)},)
        try:
            program = torch.onnx.export(
                module.eval(),
                (example,),
                dynamo=True,
                opset_version=options.opset,
                input_names=[INPUT_NAME],
                output_names=[OUTPUT_NAME],
                dynamic_shapes=dynamic,
                external_data=False,
                verbose=False,
            )
            assert program is not None
            program.save(path, external_data=False)
        # torch.onnx raises whatever the tracer met; the user gets its first line, the log the rest.
        except Exception as error:
            raise refuse(self.name, "torch.onnx cannot export this network")(error) from error


# What benchmarks/studies/prelu_forms.py found fastest on ONNX Runtime; docs/export.md has the table.
PRELU_FORM = {"fp32": "lin_relu", "fp16": "lin_relu", "w8": "lin_relu", "int8": "lin_relu"}


class ChannelsLast(torch.nn.Module):
    """Takes [b, h, w, 3]."""

    def __init__(self, module: torch.nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.module(x.permute(0, 3, 1, 2))
        return output


def _input_of(network: Network, options: ExportOptions) -> ArtefactInput:
    return ArtefactInput(
        name=INPUT_NAME,
        dtype="uint8" if options.preprocess == "in" else "float32",
        layout=options.layout,
        batch=options.batch,
        preprocess=options.preprocess,
        spec=network.input,
    )


def _check_opset(model: Any, wanted: int) -> None:
    """torch writes opset 18 for one it cannot convert to, without a word; what was not asked for is not shipped."""
    found = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), None)
    if found != wanted:
        raise FacekdError(
            f"target onnx: opset {wanted} was asked for, the exporter wrote {found}: ask for --opset {found} or newer"
        )


def _simplify(model: Any) -> Any:
    import onnxsim

    try:
        simplified, same = onnxsim.simplify(model)
    except Exception as error:
        raise refuse("onnx", "onnxsim cannot simplify the graph")(error) from error
    if not same:
        raise FacekdError("target onnx: onnxsim's simplified graph differs from the exported one on random inputs")
    return simplified


def _slopes_3d(model: Any) -> None:
    """PRelu's slopes as [c, 1, 1]: ONNX broadcasts from the right, and runtimes expect the batch left out.

    torch writes [1, c, 1, 1] (onnxruntime #3205, onnx/models #91).
    """
    from onnx import numpy_helper

    slopes = {node.input[1] for node in model.graph.node if node.op_type == "PRelu"}
    for tensor in model.graph.initializer:
        if tensor.name in slopes and len(tensor.dims) == 4 and tensor.dims[0] == 1:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor)[0], tensor.name))


def _to_float16(model: Any) -> Any:
    """float16 weights and activations, float32 at the door: a cast at either end."""
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    half = OnnxModel(convert_float_to_float16(model, keep_io_types=True, disable_shape_infer=False))
    # The converter appends its casts at the end; the standard wants every node behind what it reads.
    half.topological_sort()
    return half.model


def _describe(model: Any, network: Network, options: ExportOptions) -> None:
    metadata = {**network.metadata, "preprocess": options.preprocess, "layout": options.layout}
    del model.metadata_props[:]
    for key, value in metadata.items():
        model.metadata_props.add(key=f"facekd.{key}", value=value)
    model.producer_name = "facekd"


def mobile_usability(path: Path, scratch: Path) -> dict[str, dict[str, Any]]:
    """ONNX Runtime's estimate for NNAPI and Core ML, as its mobile usability checker counts it.

    Returns:
        by provider: verdict (YES, MAYBE, NO), partitions, nodes supported and in total, operators not supported.
    """
    import logging

    from onnxruntime.tools.mobile_helpers import usability_checker as checker
    from onnxruntime.tools.onnx_model_utils import ModelProtoWithShapeInfo, optimize_model

    basic = scratch / "basic.onnx"
    try:
        optimize_model(path, basic)
    except Exception as error:
        raise refuse("onnx", "ONNX Runtime cannot optimise the graph")(error) from error
    model = ModelProtoWithShapeInfo(basic).model_with_shape_info
    functions = {
        "NNAPI": checker.check_nnapi_partitions,
        "Core ML": lambda graph, fixed: checker.check_coreml_partitions(
            graph, fixed, "coreml_supported_mlprogram_ops.md"
        ),
    }
    logging.getLogger("usability_checker").setLevel(logging.ERROR)
    verdicts = {}
    for provider, function in functions.items():
        # Shapes count as fixed: an app fixes the batch at one, and a dynamic one alone would turn every verdict to NO.
        info = function(model, False)
        verdicts[provider] = {
            "verdict": info.suitability().name,
            "partitions": info.num_partitions,
            "supported": info.num_supported_nodes,
            "nodes": info.num_nodes,
            "unsupported": sorted(str(op) for op in info.unsupported_ops),
        }
    return verdicts
