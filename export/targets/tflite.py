"""TFLite through litert-torch, executed by LiteRT with XNNPACK."""

from pathlib import Path
from typing import ClassVar

from facekd.export.network import Network
from facekd.export.options import ExportOptions
from facekd.export.targets.base import Conversion, Target, count, refuse, register_target
from facekd.runtimes.litert_graph import operators_of
from facekd.runtimes.opening import open_session
from facekd.schemas.manifest import ArtefactInput, Layout

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
            output_name=open_session(path, threads=1).output.name,
            operators=count(operators),
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


def _input_of(path: Path, network: Network, options: ExportOptions) -> ArtefactInput:
    return ArtefactInput(
        name=open_session(path, threads=1).input.name,
        dtype="uint8" if options.preprocess == "in" else "float32",
        layout=options.layout,
        batch=options.batch or 1,
        preprocess=options.preprocess,
        spec=network.input,
    )
