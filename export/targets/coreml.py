"""Core ML mlprograms, verified on any machine by the MIL interpreter and on a Mac by Core ML itself as well."""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from facekd.common.errors import FacekdError, UsageError
from facekd.export.network import INPUT_NAME, OUTPUT_NAME, Network
from facekd.export.options import ExportOptions
from facekd.export.targets.base import Conversion, Target, count, refuse, register_target
from facekd.schemas.input_spec import InputSpec
from facekd.schemas.manifest import ArtefactInput

# Smallest iOS of each Core ML specification version.
IOS_SPECIFICATION = {15: 6, 16: 7, 17: 8, 18: 9, 26: 10}
# benchmarks/studies/prelu_forms.py cannot time Core ML here; its own prelu operator is kept: it is one operation of the
# set.
PRELU_FORM = "native"


@register_target
class CoreMLTarget(Target):
    """One .mlpackage; an image input with scale and bias baked in, or a tensor."""

    name = "coreml"
    extra = "coreml"
    modules = ("coremltools",)
    precisions: ClassVar[dict[str, str]] = {
        "fp32": "float32",
        "fp16": "float16 weights and activations",
        "w8": "float16, weights int8 per channel (iOS 16)",
        "palette": "float16, weights in a look-up table (iOS 16)",
    }
    refused: ClassVar[dict[str, str]] = {
        "int8": "coremltools calibrates activations by running the model, which needs macOS; use w8 or palette"
    }
    default_preprocess = "in"

    def validate(self, options: ExportOptions) -> None:
        """See Target; also iOS against precision and image input against batch."""
        super().validate(options)
        if options.min_ios not in IOS_SPECIFICATION:
            raise UsageError(f"--min-ios {options.min_ios}: valid: {', '.join(map(str, IOS_SPECIFICATION))}")
        if options.precision in ("w8", "palette") and options.min_ios < 16:
            raise UsageError(
                f"target coreml, precision {options.precision}: compressed weights need --min-ios 16 or newer, "
                f"not {options.min_ios}"
            )
        if options.palette_bits not in (1, 2, 4, 6, 8):
            raise UsageError(f"--palette-bits {options.palette_bits}: valid: 1, 2, 4, 6, 8")
        if options.image_input and options.preprocess == "in" and options.batch != 1:
            raise UsageError(f"target coreml, batch {options.batch}: an image input holds one; add --tensor-input")

    def convert(self, network: Network, folder: Path, options: ExportOptions, scratch: Path) -> Conversion:
        """Writes model.mlpackage, reads it back and counts its operations.

        Raises:
            FacekdError: coremltools cannot convert the network, or the saved specification is not the one asked for.
        """
        import coremltools as ct

        batch = options.batch or 1
        image = options.image_input and options.preprocess == "in"
        form = options.prelu_form or PRELU_FORM
        # A single divisor can be the image's scale; three of them have to be computed in the program.
        baked = image and len(set(network.input.std)) == 1
        inside = options.preprocess == "in" and not baked
        module = network.module_for(preprocess="in" if inside else "out", prelu_form=form)
        shape = (batch, 3, *network.input.size)
        try:
            traced = _trace(module.eval(), torch.rand(shape))
            model = ct.convert(
                traced,
                inputs=[_input_type(shape, network.input, image=image, baked=baked, inside=inside)],
                outputs=[ct.TensorType(name=OUTPUT_NAME, dtype=np.float32)],
                convert_to="mlprogram",
                minimum_deployment_target=getattr(ct.target, f"iOS{options.min_ios}"),
                compute_precision=ct.precision.FLOAT32 if options.precision == "fp32" else ct.precision.FLOAT16,
                skip_model_load=True,
            )
            model = _compress(model, options)
        # coremltools reports an unknown torch operator as NotImplementedError, RuntimeError, ValueError or KeyError.
        except Exception as error:
            raise refuse(self.name, "coremltools cannot convert this network")(error) from error
        _describe(model, network, options)
        path = folder / "model.mlpackage"
        model.save(str(path))
        return self._read_back(path, network, options, image=image, form=form)

    def _read_back(self, path: Path, network: Network, options: ExportOptions, *, image: bool, form: str) -> Conversion:
        from facekd.runtimes.mil.program import MilProgram

        program = MilProgram(path)
        wanted = IOS_SPECIFICATION[options.min_ios]
        if program.specification != wanted:
            raise FacekdError(
                f"target coreml: iOS {options.min_ios} is specification {wanted}, coremltools wrote "
                f"{program.specification}"
            )
        return Conversion(
            model=path.name,
            format_version=f"specification {wanted} (iOS {options.min_ios})",
            input=ArtefactInput(
                name=program.inputs[0].name,
                dtype="image" if image else "float32",
                layout="nchw",
                batch=options.batch or 1,
                preprocess=options.preprocess,
                spec=network.input,
            ),
            output_name=program.outputs[0].name,
            operators=count(program.operator_types()),
            prelu_form=form if network.has_prelu() else None,
            details={"min_ios": options.min_ios, "input": "image" if image else "tensor"}
            | ({"palette_bits": options.palette_bits} if options.precision == "palette" else {}),
            packages=("torch", "coremltools"),
        )


def _trace(module: torch.nn.Module, x: torch.Tensor) -> torch.jit.ScriptModule:
    """A trace whose sizes are numbers: one that is computed from a shape stops coremltools 9 with NumPy 2."""
    with torch.no_grad():
        exported = torch.export.export(module, (x,)).module()
        graph: torch.fx.Graph = exported.graph
        for node in list(graph.nodes):
            if node.target is torch.ops.aten.alias.default:  # an operation that coremltools does not know
                node.replace_all_uses_with(node.args[0])
                graph.erase_node(node)
        exported.recompile()
        return torch.jit.trace(exported, x)  # type: ignore[no-any-return]


def _input_type(shape: tuple[int, ...], spec: InputSpec, *, image: bool, baked: bool, inside: bool) -> Any:
    import coremltools as ct

    if not image:
        return ct.TensorType(name=INPUT_NAME, shape=shape, dtype=np.float32)
    # Normalisation inside the program orders the channels itself and therefore takes RGB.
    colour = ct.colorlayout.RGB if inside or spec.colour == "RGB" else ct.colorlayout.BGR
    if not baked:
        return ct.ImageType(name=INPUT_NAME, shape=shape, color_layout=colour)
    scale = 1 / spec.std[0]
    return ct.ImageType(
        name=INPUT_NAME, shape=shape, scale=scale, bias=[-mean * scale for mean in spec.mean], color_layout=colour
    )


def _compress(model: Any, options: ExportOptions) -> Any:
    import coremltools.optimize.coreml as optimise

    if options.precision == "w8":
        config = optimise.OptimizationConfig(
            global_config=optimise.OpLinearQuantizerConfig(mode="linear_symmetric", weight_threshold=512)
        )
        return optimise.linear_quantize_weights(model, config=config)
    if options.precision == "palette":
        config = optimise.OptimizationConfig(
            global_config=optimise.OpPalettizerConfig(mode="kmeans", nbits=options.palette_bits, weight_threshold=512)
        )
        return optimise.palettize_weights(model, config=config)
    return model


def _describe(model: Any, network: Network, options: ExportOptions) -> None:
    model.short_description = f"{network.metadata['name']}: aligned face to raw embedding; L2-normalise it"
    model.author = "facekd"
    for key, value in {**network.metadata, "preprocess": options.preprocess}.items():
        model.user_defined_metadata[f"facekd.{key}"] = value
