"""ExecuTorch: a .pte lowered to XNNPACK and executed here."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from facekd.export.network import INPUT_NAME, OUTPUT_NAME, Network
from facekd.export.options import ExportOptions
from facekd.export.targets.base import Conversion, Target, count, refuse, register_target
from facekd.runtimes.embedder import FileEmbedder
from facekd.runtimes.encoding import InputEncoding
from facekd.runtimes.executorch import load_method
from facekd.schemas.manifest import ArtefactInput, Quantisation

PRELU_FORM = {"fp32": "native", "fp16": "native", "int8": "native"}


@register_target
class ExecutorchTarget(Target):
    """One .pte file, NCHW, fixed batch, XNNPACK."""

    name = "executorch"
    extra = "executorch"
    modules = ("executorch.exir", "executorch.runtime")
    precisions: ClassVar[dict[str, str]] = {
        "fp32": "float32",
        "fp16": "float16 inside; float32 input and output, first and last layer",
        "int8": "static int8, weights per channel (PT2E, XNNPACK quantiser)",
    }
    refused: ClassVar[dict[str, str]] = {
        "w8": "XNNPACK has no convolution with int8 weights and float activations; use int8 or fp16",
        "palette": "look-up-table weights are a Core ML format",
    }

    def convert(self, network: Network, folder: Path, options: ExportOptions, scratch: Path) -> Conversion:
        """Writes model.pte.

        Raises:
            FacekdError: the network cannot be exported, quantised or lowered.
        """
        form = options.prelu_form or PRELU_FORM[options.precision]
        module = network.module_for(preprocess=options.preprocess, prelu_form=form)
        if options.precision == "fp16":
            module = Half(module)
        module = module.eval()
        spec = ArtefactInput(
            name=INPUT_NAME,
            dtype="uint8" if options.preprocess == "in" else "float32",
            layout="nchw",
            batch=options.batch or 1,
            preprocess=options.preprocess,
            spec=network.input,
        )
        example = network.example(batch=options.batch or 1, preprocess=options.preprocess)
        float_model = None
        quantisation = None
        try:
            if options.precision == "int8":
                float_model = scratch / "float.pte"
                float_model.write_bytes(_lower(module, example)[0])
                module, quantisation = _quantise(module, example, spec, options)
            data, operators, partitions = _lower(module, example)
        # Export, quantiser and partitioner each raise their own types; the first line says what is not supported.
        except Exception as error:
            raise refuse(self.name, "the network cannot be lowered to XNNPACK")(error) from error
        path = folder / "model.pte"
        path.write_bytes(data)
        return Conversion(
            model=path.name,
            format_version="ExecuTorch program, XNNPACK",
            input=spec,
            output_name=OUTPUT_NAME,
            operators=operators,
            partitions=partitions,
            prelu_form=form if network.has_prelu() else None,
            quantisation=quantisation,
            float_model=float_model,
            packages=("torch", "executorch", "torchao"),
        )

    def trace(
        self, network: Network, options: ExportOptions, embedder: FileEmbedder, face: np.ndarray
    ) -> Iterator[tuple[str, np.ndarray]]:
        """An XNNPACK partition shows no intermediate value, so the network is lowered once more to return them all.

        int8 is traced in float: what a calibrated network computes inside cannot be asked for without changing it.
        """
        form = options.prelu_form or PRELU_FORM[options.precision]
        tapped = Tapped(network.module_for(preprocess=options.preprocess, prelu_form=form))
        x = torch.from_numpy(embedder.encoding.encode(np.repeat(face, embedder.fixed_batch or 1, axis=0)))
        program, method = load_method(_lower(tapped, x)[0])
        for index, value in enumerate(method.execute([x])):
            yield f"layer {index}", value.numpy()
        del program


class Tapped(nn.Module):
    """Returns the output of every leaf module, in the order they run."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self._taken: list[torch.Tensor] = []
        for leaf in module.modules():
            if not list(leaf.children()):
                leaf.register_forward_hook(lambda _, __, output: self._taken.append(output))

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        self._taken.clear()
        self.module(x)
        return list(self._taken)


class Half(nn.Module):
    """The module in float16 between two casts; it keeps float32 (or pixels) at the door.

    Its first and last layer stay in float32: where the processor has half arithmetic XNNPACK also sums in half, which
    costs most in the one that sees the image and the one that sums the most products (MobileFaceNet: 1.3e-3 in the
    normalised embedding, 0.7e-3 with both kept).
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module.half()
        layers = [name for name, one in module.named_modules() if isinstance(one, (nn.Conv2d, nn.Linear))]
        for name in dict.fromkeys([*layers[:1], *layers[-1:]]):
            module.set_submodule(name, _InFloat(module.get_submodule(name)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.module(x.half()).float()
        return output


class _InFloat(nn.Module):
    """A float32 layer among float16 ones."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer.float()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.layer(x.float()).half()
        return output


def _lower(module: nn.Module, example: torch.Tensor) -> tuple[bytes, dict[str, int], int]:
    """The program's bytes, its operators before delegation, and the number of XNNPACK partitions."""
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    exported = torch.export.export(module, (example,))
    names = [str(node.target) for node in exported.graph.nodes if node.op == "call_function"]
    edge = to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()])
    graph = edge.exported_program().graph_module.graph
    left = [str(node.target) for node in graph.nodes if node.op == "call_function"]
    partitions = sum("executorch_call_delegate" in name for name in left)
    return bytes(edge.to_executorch().buffer), count([name.removeprefix("aten.") for name in names]), partitions


def _quantise(
    module: nn.Module, example: torch.Tensor, spec: ArtefactInput, options: ExportOptions
) -> tuple[nn.Module, Quantisation]:
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    from facekd.export.quantisation import require_calibration

    faces = require_calibration(options)
    quantiser = XNNPACKQuantizer().set_global(get_symmetric_quantization_config(is_per_channel=True))
    kept = [] if options.keep_float == "auto" else list(options.keep_float)
    for name in kept:
        quantiser.set_module_name(name, None)
    prepared = prepare_pt2e(torch.export.export(module, (example,)).module(), quantiser)
    batch = len(example)
    encoding = InputEncoding.of_artefact(spec)
    with torch.no_grad():
        for start in range(0, len(faces) - batch + 1, batch):
            prepared(torch.from_numpy(encoding.encode(faces[start : start + batch])))
    quantisation = Quantisation(
        method="PT2E static W8A8, symmetric, weights per channel; ranges by the observers' histogram",
        calibration=options.calibration_source,
        calibration_faces=len(faces),
        layers=[],
        keep_float=kept,
    )
    converted: Any = convert_pt2e(prepared)
    return converted, quantisation
