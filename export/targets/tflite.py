"""TFLite through litert-torch, executed by LiteRT with XNNPACK."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from facekd.common.errors import FacekdError
from facekd.export.network import Network
from facekd.export.targets.base import Conversion, ExportOptions, Runner, Target, count, refuse, register_target
from facekd.schemas.manifest import ArtefactInput, Layout

SIGNATURE = "serving_default"
# The fastest forms of benchmarks/studies/prelu_forms.py on LiteRT; docs/export.md has the table.
# max_slope is a little faster in float, but int8 MAXIMUM is not XNNPACK's: it would cut the graph into 34 partitions.
PRELU_FORM = {"fp32": "max_slope", "fp16": "max_slope", "w8": "max_slope", "int8": "lin_relu"}


@register_target
class TFLiteTarget(Target):
    """One .tflite file; NHWC unless asked otherwise; fixed batch; float32 (or pixel) input and float32 output."""

    name = "tflite"
    extra = "tflite"
    modules = ("litert_torch", "ai_edge_litert.interpreter", "ai_edge_quantizer")
    precisions: ClassVar[dict[str, str]] = {
        "fp32": "float32",
        "fp16": "float16 weights, float32 arithmetic on the CPU, float16 on a GPU",
        "w8": "dynamic range: int8 weights, activations quantised while running",
        "int8": "static W8A8, weights per channel",
    }
    refused: ClassVar[dict[str, str]] = {"palette": "look-up-table weights are a Core ML format"}
    layouts: ClassVar[tuple[Layout, ...]] = ("nhwc", "nchw")

    def convert(self, network: Network, folder: Path, options: ExportOptions, scratch: Path) -> Conversion:
        """Writes model.tflite.

        Raises:
            FacekdError: litert-torch cannot convert the network.
        """
        from facekd.export import lite_quantisation

        form = options.prelu_form or PRELU_FORM[options.precision]
        float_model = scratch / "float.tflite"
        self._export(network, float_model, options, form)
        spec = _input_of(float_model, network, options)
        path = folder / "model.tflite"
        quantisation = None
        if options.precision == "fp32":
            path.write_bytes(float_model.read_bytes())
        elif options.precision == "int8":
            quantisation = lite_quantisation.quantise_static(float_model, path, spec, options)
        else:
            lite_quantisation.quantise_weights(float_model, path, options.precision)
        operators, partitions = operators_of(path)
        return Conversion(
            model=path.name,
            format_version="TFLite schema 3",
            input=spec,
            output_name=LiteRunner(path).output_name,
            operators=operators,
            partitions=partitions,
            prelu_form=form if network.has_prelu() else None,
            quantisation=quantisation,
            float_model=float_model if options.precision != "fp32" else None,
            packages=("torch", "litert-torch", "ai-edge-litert", "ai-edge-quantizer"),
        )

    def _export(self, network: Network, path: Path, options: ExportOptions, form: str) -> None:
        import litert_torch

        module = network.module_for(preprocess=options.preprocess, prelu_form=form).eval()
        example = network.example(batch=options.batch or 1, preprocess=options.preprocess)
        if options.layout == "nhwc":
            module = litert_torch.to_channel_last_io(module, args=[0]).eval()
            example = example.permute(0, 2, 3, 1).contiguous()
        try:
            litert_torch.convert(module, (example,)).export(str(path))
        # litert-torch raises whatever MLIR or the tracer met; its first line is kept, the log has the rest.
        except Exception as error:
            raise refuse(self.name, "litert-torch cannot convert this network")(error) from error

    def open(self, path: Path, spec: ArtefactInput, *, threads: int = 1) -> Runner:
        """Opens the file in LiteRT."""
        del spec
        return LiteRunner(path, threads=threads)


class LiteRunner(Runner):
    """LiteRT's interpreter; XNNPACK is on."""

    runtime = "LiteRT XNNPACK"

    def __init__(self, path: Path, *, threads: int = 1) -> None:
        self._path = path
        self._interpreter = _interpreter(path, threads=threads)
        self._input = self._interpreter.get_input_details()[0]
        self._output = self._interpreter.get_output_details()[0]

    @property
    def output_name(self) -> str:
        """The output tensor's name in the file."""
        return str(self._output["name"])

    @property
    def input_name(self) -> str:
        """The input tensor's name in the file."""
        return str(self._input["name"])

    def run(self, x: np.ndarray) -> np.ndarray:
        """One input -> embeddings [b, e]."""
        try:
            self._interpreter.set_tensor(self._input["index"], x)
            self._interpreter.invoke()
        except (ValueError, RuntimeError) as error:
            raise FacekdError(f"LiteRT failed on an input of shape {list(x.shape)}: {error}") from error
        return np.array(self._interpreter.get_tensor(self._output["index"]))

    def intermediates(self, x: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        """Every operator's output by LiteRT's reference kernels, quantised tensors back in float."""
        interpreter = _interpreter(self._path, keep=True)
        interpreter.set_tensor(self._input["index"], x)
        interpreter.invoke()
        details = {tensor["index"]: tensor for tensor in interpreter.get_tensor_details()}
        for operator in interpreter._get_ops_details():
            for index in operator["outputs"]:
                tensor = details.get(index)
                if tensor is not None:
                    yield str(tensor["name"]), _dequantised(interpreter.get_tensor(index), tensor)


def operators_of(path: Path) -> tuple[dict[str, int], int]:
    """Operators of the file, and into how many XNNPACK partitions LiteRT cuts it here."""
    names = [str(operator["op_name"]) for operator in _interpreter(path)._get_ops_details()]
    return count([name for name in names if name != "DELEGATE"]), names.count("DELEGATE")


def _interpreter(path: Path, *, threads: int = 1, keep: bool = False) -> Any:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    plain = {
        "experimental_preserve_all_tensors": True,
        "experimental_op_resolver_type": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    }
    try:
        interpreter = Interpreter(str(path), num_threads=threads, **(plain if keep else {}))
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise FacekdError(f"{path}: LiteRT cannot open it: {str(error).splitlines()[0]}") from error
    return interpreter


def _dequantised(values: np.ndarray, tensor: dict[str, Any]) -> np.ndarray:
    parameters = tensor["quantization_parameters"]
    scales = parameters["scales"]
    if len(scales) != 1 or values.dtype not in (np.int8, np.uint8, np.int16):
        return values
    return (values.astype(np.float32) - parameters["zero_points"][0]) * scales[0]


def _input_of(path: Path, network: Network, options: ExportOptions) -> ArtefactInput:
    return ArtefactInput(
        name=LiteRunner(path).input_name,
        dtype="uint8" if options.preprocess == "in" else "float32",
        layout=options.layout,
        batch=options.batch or 1,
        preprocess=options.preprocess,
        spec=network.input,
    )
