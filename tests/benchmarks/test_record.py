"""The record's schema: what was written once is read for ever, and damage is named by its line."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from facekd.common.errors import FacekdError, UsageError
from facekd.schemas.record import FLAGS, Record, append_record, json_schema, read_records


def test_lines_come_back_as_they_went(tmp_path: Path, make_record: Callable[..., Record]) -> None:
    path = tmp_path / "deep" / "records.jsonl"
    records = [make_record(id=str(i), model={"name": f"net {i}"}) for i in range(3)]
    for record in records:
        append_record(path, record)
    assert read_records(path) == records


def test_the_first_schema_is_still_read(tmp_path: Path, plain: dict[str, Any]) -> None:
    (tmp_path / "old.jsonl").write_text(json.dumps(plain) + "\n\n")
    (record,) = read_records(tmp_path / "old.jsonl")
    assert record.schema_version == 2
    assert record.latency.p99_ms == 4
    assert record.accuracy is not None and record.accuracy.accuracy == 0.99


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda line: line[:-20], "line 2 is not a benchmark record"),
        (lambda line: line.replace('"schema_version": 1', '"schema_version": 99'), "line 2 has schema 99"),
        (lambda line: line.replace('"runs": 101', '"runs": "many"'), "line 2: latency.runs = 'many'"),
        (lambda line: "[]", "line 2 is not a benchmark record"),
        (lambda line: "[" * 100_000, "line 2 is not a benchmark record"),
        (
            lambda line: re.sub(r'"quantiles_ms": \[[^]]*\]', '"quantiles_ms": [1, 2]', line),
            "quantiles_ms.*has 2 values",
        ),
    ],
    ids=["cut short", "from the future", "a wrong type", "not an object", "nested without end", "two quantiles"],
)
def test_damage_is_named(tmp_path: Path, plain: dict[str, Any], change: Callable[[str], str], message: str) -> None:
    line = json.dumps(plain)
    assert change(line) != line
    path = tmp_path / "records.jsonl"
    path.write_text(f"{line}\n{change(line)}\n")
    with pytest.raises(FacekdError, match=message):
        read_records(path)


def test_bytes_that_are_no_text_are_named_too(tmp_path: Path, plain: dict[str, Any]) -> None:
    path = tmp_path / "records.jsonl"
    path.write_bytes(json.dumps(plain).encode() + b"\n\xff\xfe{\n")
    with pytest.raises(FacekdError, match="line 2 is not a benchmark record"):
        read_records(path)


def test_no_file_and_no_record(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        read_records(tmp_path / "none.jsonl")
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(UsageError, match="holds no record"):
        read_records(tmp_path / "empty.jsonl")


def test_json_schema_names_what_a_reader_needs(plain: dict[str, Any]) -> None:
    schema = json_schema()
    assert set(schema["properties"]) == set(plain)
    assert schema["properties"]["schema_version"]["const"] == 2
    assert set(schema["properties"]["flags"]["items"]["enum"]) == set(FLAGS)
