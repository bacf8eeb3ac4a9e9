"""Models in a file, each behind the Embedder call: ONNX through ONNX Runtime, TFLite through LiteRT.

Both take whatever batch they are given: a file with a fixed batch is called in steps of it, the last step padded.
"""

import importlib
import json
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
import torch

from facekd.common.errors import FacekdError, UsageError
from facekd.common.hashing import file_sha256
from facekd.schemas.input_spec import InputSpec

log = logging.getLogger(__name__)

Layout = Literal["NCHW", "NHWC"]
Run = Callable[[np.ndarray], np.ndarray]


class FileRunner:
    """What ONNX and TFLite files share: layout and size read from the input's shape, batching, output to [b, e].

    Args:
        path: the file, for messages.
        shape: the input's declared shape; a dimension that is not a positive integer is free.
        dtype: the input's type. Floats are fed normalised pixels; uint8 without quantisation is fed the pixels as they
            are (the file normalises itself).
        run: normalised input of the file's own layout and type -> output array.
        input_spec: normalisation; its size is taken where the file leaves it free, else the file's own size holds.
        layout: needed only where the shape does not tell.
        encode: float32 array -> the file's input type; default a plain cast.
        takes_pixels: the file takes RGB pixels, 0 to 255, and normalises and orders them itself.
    """

    def __init__(
        self,
        path: Path,
        *,
        shape: Sequence[Any],
        dtype: np.dtype,
        run: Run,
        input_spec: InputSpec,
        layout: Layout | None,
        encode: Run | None = None,
        takes_pixels: bool = False,
    ) -> None:
        self.path = path
        self.layout: Layout = find_layout(path, shape, layout)
        rows, columns = (2, 3) if self.layout == "NCHW" else (1, 2)
        size = tuple(
            shape[axis] if _fixed(shape[axis]) else input_spec.size[i] for i, axis in enumerate((rows, columns))
        )
        self.input = input_spec.model_copy(update={"size": size})
        self.fixed_batch: int | None = int(shape[0]) if _fixed(shape[0]) else None
        self._takes_pixels = takes_pixels
        self._raw_pixels = encode is None and dtype == np.uint8
        self._dtype = dtype
        self._run = run
        self._encode = encode
        self.embedding_width = self._probe()

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 RGB images [b, 3, h, w] -> raw float32 embeddings [b, e]."""
        array = self._prepare(images)
        step = self.fixed_batch or len(array)
        outputs = []
        for start in range(0, len(array), step):
            part = array[start : start + step]
            padding = step - len(part)
            if padding:
                part = np.concatenate([part, np.repeat(part[-1:], padding, axis=0)])
            output = np.asarray(self._run(part), dtype=np.float32)
            if len(output) != step:
                raise FacekdError(f"{self.path}: the model returned {output.shape} for a batch of {step}")
            outputs.append(output.reshape(step, -1)[: step - padding])
        return torch.from_numpy(np.concatenate(outputs))

    def _prepare(self, images: torch.Tensor) -> np.ndarray:
        if self._takes_pixels:
            array = images.numpy()
        elif self._raw_pixels:
            pixels = images.flip(1) if self.input.colour == "BGR" else images
            array = pixels.numpy()
        else:
            array = self.input.normalise(images).numpy()
        if self.layout == "NHWC":
            array = array.transpose(0, 2, 3, 1)
        array = self._encode(array) if self._encode else array.astype(self._dtype, copy=False)
        return np.ascontiguousarray(array)

    def _probe(self) -> int:
        """The embedding's width, from one run; and whether a batch declared free really is."""
        height, width = self.input.size
        pixels = np.random.default_rng(0).integers(0, 256, (2, 3, height, width), dtype=np.uint8)
        images = torch.from_numpy(pixels)
        declared, self.fixed_batch = self.fixed_batch, self.fixed_batch or 1
        one = self(images[:1])
        self.fixed_batch = declared
        if declared is None:
            # A view(b, -1) exported with the batch baked in declares a free batch and fails, or is wrong, above 1.
            try:
                agrees = np.allclose(self(images)[0], one[0], rtol=1e-2, atol=1e-2 * float(one.abs().max()))
            except Exception as error:  # the runtime's own classes differ from version to version
                log.debug("batch 2 failed: %s", error)
                agrees = False
            if not agrees:
                log.warning("%s declares a free batch but works only with batch 1: running one by one", self.path)
                self.fixed_batch = 1
        return one.shape[1]


def open_onnx(
    path: Path,
    *,
    input_spec: InputSpec | None = None,
    layout: Layout | None = None,
    threads: int | None = None,
    takes_pixels: bool = False,
) -> FileRunner:
    """An .onnx file through ONNX Runtime on the CPU.

    Args:
        path: the file; one input, and the first output of two dimensions (or [b, e, 1, 1]) is the embedding.
        input_spec: default: RGB, (pixel - 127.5) / 127.5.
        layout: default: read from the input's shape.
        threads: default: all of the machine's.
        takes_pixels: see FileRunner.
    """
    runtime = _need("onnxruntime", "onnx")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads or os.cpu_count() or 1
    options.log_severity_level = 4  # its errors arrive as exceptions and are reported once
    try:
        session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises a dozen classes of its own without a common base
        raise FacekdError(f"{path} is not a readable ONNX model: {_one_line(error)}") from error
    inputs = session.get_inputs()
    if len(inputs) != 1:
        raise UsageError(f"{path} has inputs {[i.name for i in inputs]}: a face model with one image input is needed")
    types = {
        "tensor(float)": np.float32,
        "tensor(float16)": np.float16,
        "tensor(uint8)": np.uint8,
    }
    if inputs[0].type not in types:
        raise UsageError(f"{path} takes {inputs[0].type} at {inputs[0].name!r}: valid are {', '.join(types)}")
    output = _embedding_output(path, [(o.name, o.shape) for o in session.get_outputs()])

    def run(array: np.ndarray) -> np.ndarray:
        try:
            return session.run([output], {inputs[0].name: array})[0]
        except Exception as error:
            raise FacekdError(f"{path} failed on input {array.shape}: {_one_line(error)}") from error

    return FileRunner(
        path,
        shape=inputs[0].shape,
        dtype=np.dtype(types[inputs[0].type]),
        run=run,
        input_spec=input_spec or InputSpec(),
        layout=layout,
        takes_pixels=takes_pixels,
    )


def open_tflite(
    path: Path,
    *,
    input_spec: InputSpec | None = None,
    layout: Layout | None = None,
    threads: int | None = None,
    takes_pixels: bool = False,
) -> FileRunner:
    """A .tflite file through LiteRT (XNNPACK); int8 and uint8 inputs and outputs by their quantisation parameters.

    Args: as open_onnx.
    """
    interpreter_module = _need("ai_edge_litert.interpreter", "tflite")
    try:
        interpreter = interpreter_module.Interpreter(str(path), num_threads=threads or os.cpu_count() or 1)
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise FacekdError(f"{path} is not a readable TFLite model: {_one_line(error)}") from error
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    if len(inputs) != 1:
        raise UsageError(f"{path} has inputs {[i['name'] for i in inputs]}: a face model with one is needed")
    name = _embedding_output(path, [(o["name"], list(o["shape"])) for o in outputs])
    source, target = inputs[0], next(o for o in outputs if o["name"] == name)
    dtype = np.dtype(source["dtype"])
    in_scale, in_zero = source["quantization"]
    out_scale, out_zero = target["quantization"]

    def quantise(array: np.ndarray) -> np.ndarray:
        limits = np.iinfo(dtype)
        return np.clip(np.rint(array / in_scale + in_zero), limits.min, limits.max).astype(dtype)

    def run(array: np.ndarray) -> np.ndarray:
        try:
            interpreter.set_tensor(source["index"], array)
            interpreter.invoke()
        except (ValueError, RuntimeError) as error:
            raise FacekdError(f"{path} failed on input {array.shape}: {_one_line(error)}") from error
        output = interpreter.get_tensor(target["index"])
        if np.issubdtype(output.dtype, np.integer):
            return (output.astype(np.float32) - out_zero) * out_scale
        return output

    return FileRunner(
        path,
        # LiteRT resizes its arena for another batch; the file's own batch is what it was made and quantised for.
        shape=[int(n) for n in source["shape"]],
        dtype=dtype,
        run=run,
        input_spec=input_spec or InputSpec(),
        layout=layout,
        encode=quantise if in_scale else None,
        takes_pixels=takes_pixels,
    )


RUNNERS: dict[str, Callable[..., FileRunner]] = {".onnx": open_onnx, ".tflite": open_tflite}
"""File suffix -> what opens it."""


def open_artefact(folder: Path, *, threads: int | None = None) -> FileRunner:
    """The model of an exported artefact, as its manifest describes it, after comparing it with its sha256.

    Raises:
        UsageError: the artefact is for a runtime that is not run here.
        FacekdError: the manifest or the model is damaged.
    """
    manifest_file = folder / "manifest.json"
    try:
        manifest = json.loads(manifest_file.read_text(encoding="utf-8"))
        model, stated = folder / manifest["model"], manifest["input"]
        input_spec = InputSpec.model_validate(stated["spec"])
        layout: Layout = stated["layout"].upper()
        takes_pixels = {"in": True, "out": False}[stated["preprocess"]]
        hashes: dict[str, str] = manifest["files"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise FacekdError(
            f"{manifest_file} is not an artefact's manifest ({_one_line(error)}); export the bundle again"
        ) from error
    if model.suffix not in RUNNERS:
        raise UsageError(
            f"{folder} is for {manifest.get('target')} ({model.name}): evaluated here are {', '.join(RUNNERS)}"
        )
    if not model.is_file():
        raise FacekdError(f"{folder}: {model.name} is missing; export the bundle again")
    if file_sha256(model) != hashes.get(manifest["model"]):
        raise FacekdError(f"{model} was changed after it was exported (its sha256 differs); export the bundle again")
    return RUNNERS[model.suffix](
        model, input_spec=input_spec, layout=layout, threads=threads, takes_pixels=takes_pixels
    )


def find_layout(path: Path, shape: Sequence[Any], stated: Layout | None) -> Layout:
    """NCHW or NHWC: where the 3 of an input shape stands, or as stated where it does not show."""
    if len(shape) != 4:
        raise UsageError(f"{path} takes an input of shape {list(shape)}: a face model takes images, [b, 3, h, w]")
    shown = [layout for layout, axis in (("NCHW", 1), ("NHWC", 3)) if shape[axis] == 3]
    if stated is not None:
        axis = 1 if stated == "NCHW" else 3
        if _fixed(shape[axis]) and shape[axis] != 3:
            raise UsageError(f"{path} takes an input of shape {list(shape)}, which is not {stated}: leave --layout out")
        return stated
    if len(shown) != 1:
        raise UsageError(f"{path} takes an input of shape {list(shape)}: say --layout NCHW or --layout NHWC")
    return shown[0]  # type: ignore[return-value]


def _embedding_output(path: Path, outputs: list[tuple[str, list[Any]]]) -> str:
    """The first output that can be an embedding: [b, e], or [b, e, 1, 1] with its ones anywhere."""
    for name, shape in outputs:
        if sum(1 for n in shape[1:] if not (_fixed(n) and n == 1)) == 1:
            return name
    raise UsageError(f"{path} has outputs {outputs}: none is an embedding [b, e]")


def _fixed(dimension: Any) -> bool:
    return isinstance(dimension, int) and dimension > 0


def _need(module: str, extra: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise FacekdError(f"{module} cannot be imported ({error}): pip install 'facekd[{extra}]'") from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
