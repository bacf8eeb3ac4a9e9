"""TensorFlow Lite's metadata: how a .tflite file says that its input is to be normalised.

The metadata is a FlatBuffer in a buffer of the model named TFLITE_METADATA, whose fields the public schema numbers
(metadata_schema.fbs): ModelMetadata.subgraph_metadata[0].input_tensor_metadata[0] holds `content`, of which
ImageProperties.color_space is read, and `process_units`, of which NormalizationOptions.mean and .std are.
"""

import struct
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from facekd.schemas.input_spec import StatedInput

_SUBGRAPHS, _INPUTS, _CONTENT, _PROCESS_UNITS = 3, 2, 3, 4
_PROPERTIES_KIND, _PROPERTIES, _IMAGE, _COLOUR_SPACE, _RGB = 0, 1, 2, 0, 1
_OPTIONS_KIND, _OPTIONS, _NORMALISATION, _MEAN, _STD = 0, 1, 1, 0, 1


def lite_metadata(path: Path) -> StatedInput:
    """Colour, mean and std that a file's metadata states of its input; nothing where it has none."""
    from ai_edge_litert import schema_py_generated as schema

    try:
        model = schema.Model.GetRootAs(path.read_bytes(), 0)
        for i in range(model.MetadataLength()):
            entry = model.Metadata(i)
            if entry.Name() == b"TFLITE_METADATA":
                return _of_input(model.Buffers(entry.Buffer()).DataAsNumpy().tobytes())
    except (OSError, AttributeError, IndexError, TypeError, ValueError, struct.error, ValidationError):
        pass  # LiteRT opened the file: it runs, and only less is known of it
    return StatedInput()


def _of_input(data: bytes) -> StatedInput:
    import flatbuffers
    from flatbuffers.table import Table

    root = Table(bytearray(data), flatbuffers.encode.Get(flatbuffers.packer.uoffset, data, 0))
    image = _tables(_tables(root, _SUBGRAPHS)[0], _INPUTS)[0]
    given: dict[str, Any] = {}
    for unit in _tables(image, _PROCESS_UNITS):
        if _byte(unit, _OPTIONS_KIND) == _NORMALISATION:
            options = _table(unit, _OPTIONS)
            given = {"mean": _floats(options, _MEAN) or None, "std": _floats(options, _STD) or None}
    content = _table(image, _CONTENT)
    if content is not None and _byte(content, _PROPERTIES_KIND) == _IMAGE:
        colour = _byte(_table(content, _PROPERTIES), _COLOUR_SPACE)
        given["colour"] = "RGB" if colour == _RGB else None
    return StatedInput.model_validate(given)


def _place(table: Any, field: int) -> int:
    """Where a field's value stands in the bytes; 0 where the table has none."""
    offset = table.Offset(4 + 2 * field)
    return int(table.Pos + offset) if offset else 0


def _byte(table: Any, field: int) -> int:
    place = _place(table, field)
    return int(table.Bytes[place]) if place else 0


def _table(table: Any, field: int) -> Any:
    from flatbuffers.table import Table

    place = _place(table, field)
    return Table(table.Bytes, table.Indirect(place)) if place else None


def _tables(table: Any, field: int) -> list[Any]:
    from flatbuffers.table import Table

    offset = table.Offset(4 + 2 * field)
    if not offset:
        return []
    start = table.Vector(offset)
    return [Table(table.Bytes, table.Indirect(start + 4 * i)) for i in range(table.VectorLen(offset))]


def _floats(table: Any, field: int) -> list[float]:
    offset = table.Offset(4 + 2 * field)
    if not offset:
        return []
    start = table.Vector(offset)
    return [struct.unpack_from("<f", table.Bytes, start + 4 * i)[0] for i in range(table.VectorLen(offset))]
