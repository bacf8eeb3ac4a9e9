"""TensorFlow Lite's metadata says how an input is normalised: written here by the public schema's field numbers."""

from pathlib import Path

import numpy as np
import pytest

from facekd.runtimes.metadata import with_metadata
from facekd.schemas.input_spec import InputSpec, StatedInput


def metadata(mean: list[float], std: list[float], colour: int) -> bytes:
    """ModelMetadata with one input image: colour space, one NormalizationOptions among its process units."""
    flatbuffers = pytest.importorskip("flatbuffers")
    builder = flatbuffers.Builder(256)

    def numbers(values: list[float]) -> int:
        builder.StartVector(4, len(values), 4)
        for value in reversed(values):
            builder.PrependFloat32(value)
        return int(builder.EndVector())

    def table(fields: int, **slots: tuple[str, int]) -> int:
        builder.StartObject(fields)
        for slot, (kind, value) in slots.items():
            number = int(slot.removeprefix("f"))
            if kind == "byte":
                builder.PrependUint8Slot(number, value, 0)
            else:
                builder.PrependUOffsetTRelativeSlot(number, value, 0)
        return int(builder.EndObject())

    def tables(*places: int) -> int:
        builder.StartVector(4, len(places), 4)
        for place in reversed(places):
            builder.PrependUOffsetTRelative(place)
        return int(builder.EndVector())

    name = builder.CreateString("face")
    options = table(2, f0=("table", numbers(mean)), f1=("table", numbers(std)))
    other = table(2, f0=("byte", 2), f1=("table", table(1)))  # ScoreCalibrationOptions, say
    units = tables(other, table(2, f0=("byte", 1), f1=("table", options)))
    image = table(2, f0=("byte", colour))
    content = table(3, f0=("byte", 2), f1=("table", image))
    tensor = table(7, f0=("table", name), f3=("table", content), f4=("table", units))
    graph = table(8, f2=("table", tables(tensor)))
    builder.Finish(table(8, f0=("table", name), f3=("table", tables(graph))), b"M001")
    return bytes(builder.Output())


def write(path: Path, content: bytes | None) -> Path:
    """A .tflite of no operators, with such metadata."""
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    import flatbuffers

    model, buffers = schema.ModelT(), [schema.BufferT()]
    if content is not None:
        buffers.append(schema.BufferT())
        buffers[1].data = np.frombuffer(content, np.uint8)
        entry = schema.MetadataT()
        entry.name, entry.buffer = "TFLITE_METADATA", 1
        model.metadata = [entry]
    model.version, model.buffers, model.subgraphs, model.operatorCodes = 3, buffers, [], []
    builder = flatbuffers.Builder(256)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path


@pytest.mark.parametrize(
    ("content", "stated"),
    [
        (lambda: metadata([127.5], [128.0], 1), StatedInput(colour="RGB", mean=127.5, std=128)),  # type: ignore[arg-type]
        (lambda: metadata([1, 2, 3], [4, 5, 6], 0), StatedInput(mean=(1, 2, 3), std=(4, 5, 6))),
        (lambda: None, StatedInput()),
        (lambda: b"", StatedInput()),
        (lambda: metadata([127.5], [128.0], 1)[:90], StatedInput()),
        (lambda: b"\xff" * 64, StatedInput()),
    ],
    ids=["one number", "a number a channel", "none", "empty", "cut off", "no metadata"],
)
def test_tflite_metadata_states_the_input(tmp_path: Path, content: object, stated: StatedInput) -> None:
    from facekd.runtimes.litert_metadata import lite_metadata

    assert lite_metadata(write(tmp_path / "m.tflite", content())) == stated  # type: ignore[operator]


def test_what_a_person_says_goes_first() -> None:
    path, own = Path("m.onnx"), StatedInput(colour="BGR", std=(128.0,) * 3)
    spec, notes = with_metadata(path, None, own)
    assert spec == InputSpec(colour="BGR", std=(128.0,) * 3)
    assert notes == ("m.onnx states its input in its metadata: colour BGR, std 128",)
    spec, notes = with_metadata(path, InputSpec(colour="RGB"), own)
    assert spec == InputSpec(std=(128.0,) * 3)
    assert notes[0] == "m.onnx states colour BGR in its metadata; --colour RGB is taken"
    assert with_metadata(path, InputSpec(mean=(1.0,) * 3), StatedInput()) == (InputSpec(mean=(1.0,) * 3), ())
    assert with_metadata(path, None, StatedInput(colour="RGB", mean=(127.5,) * 3)) == (None, ())
