"""What the demo serves: every path with its bytes, put together before the first request."""

import json
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from facekd.common.errors import UsageError, require_modules
from facekd.demo.face_model import FaceModel
from facekd.runtimes.files import ModelFiles

CONTENT_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".wasm": "application/wasm",
    ".onnx": "application/octet-stream",
}


@dataclass(frozen=True)
class Resource:
    """One answer: its content type and bytes."""

    content_type: str
    data: bytes


def build_site(model: FaceModel, detector: Path, runtime: dict[str, bytes]) -> dict[str, Resource]:
    """Path -> answer: the page, model, detector, liveness networks, onnxruntime-web. Nothing else can be asked for.

    Args:
        detector: YuNet's .onnx, checked by `facekd.data.detection.YuNet`.
        runtime: from `facekd.demo.runtime.read_runtime`.
    """
    static = resources.files("facekd.demo") / "static"
    found = {f"/{item.name}": _resource(item.name, item.read_bytes()) for item in static.iterdir() if item.is_file()}
    found["/"] = found["/index.html"]
    found |= {f"/ort/{name}": _resource(name, data) for name, data in runtime.items()}
    found["/model.onnx"] = _resource("model.onnx", model.file.read_bytes())
    # An .onnx file may keep its weights beside itself; the page asks for them by number, the model by name.
    weights = [file for file in ModelFiles.of(model.file).files if file != model.file]
    found |= {f"/weights/{i}": Resource("application/octet-stream", f.read_bytes()) for i, f in enumerate(weights)}
    found["/detector.onnx"] = _resource("detector.onnx", any_size(detector))
    if model.liveness is not None:
        for i, network in enumerate(model.liveness.described.models):
            name = f"/liveness/{i}.onnx"
            found[name] = _resource(name, (model.liveness.folder / network.file).read_bytes())
    if model.golden is not None:
        found["/golden.png"] = _resource("golden.png", model.golden.crop)
    names = [file.relative_to(model.file.parent).as_posix() for file in weights]
    config = {**_config(model), "weights": names}
    found["/config.json"] = _resource("config.json", json.dumps(config, allow_nan=False).encode())
    return found


def any_size(detector: Path) -> bytes:
    """YuNet for inputs of any size: OpenCV's file declares 640x640, though none of its layers depends on it."""
    require_modules("the demo", ["onnx"], extra="onnx")
    import onnx

    network = onnx.load(detector)
    # Height and width of the input; of the outputs [1, cells, numbers] how many cells they give.
    for values, axes in ((network.graph.input, slice(2, 4)), (network.graph.output, slice(1, 2))):
        for value in values:
            for axis in value.type.tensor_type.shape.dim[axes]:
                axis.ClearField("dim_value")
    del network.graph.value_info[:]
    result: bytes = network.SerializeToString()
    return result


def _config(model: FaceModel) -> dict[str, Any]:
    """What the page's scripts read (recogniser.js)."""
    height, width = model.input_spec.size
    if height != width:
        raise UsageError(f"{model.file} takes {width}x{height} faces; alignment makes squares, so the demo needs one")
    golden = None
    if model.golden is not None:
        golden = {"embedding": model.golden.embedding, "min_cosine": model.golden.min_cosine}
    return {
        "name": model.name,
        "precision": model.precision,
        "input": {
            "size": height,
            "colour": model.input_spec.colour,
            "mean": model.input_spec.mean,
            "std": model.input_spec.std,
            "layout": model.layout,
            "dtype": model.dtype,
            "takes_pixels": model.takes_pixels,
            "batch": model.batch or 1,
        },
        "output": model.output,
        "embedding_width": model.embedding_width,
        "thresholds": model.thresholds,
        "calibration": None if model.calibration is None else model.calibration.model_dump(),
        "golden": golden,
        "liveness": None if model.liveness is None else model.liveness.described.model_dump(mode="json"),
    }


def _resource(name: str, data: bytes) -> Resource:
    return Resource(CONTENT_TYPES[Path(name).suffix], data)
