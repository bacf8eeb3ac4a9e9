"""What pydantic refuses, as one line: the field, the value, the valid ones; of bounded length whatever was given."""

from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, ValidationError, field_validator

from facekd.common.validation import SHOWN_CHARACTERS, StrictSchema, explain, shown


class Inner(StrictSchema):
    epochs: int = Field(default=1, ge=1)
    names: list[str] = Field(default=[])

    @field_validator("names")
    @classmethod
    def _no_x(cls, names: list[str]) -> list[str]:
        if "x" in names:
            raise ValueError("x is no name: choose another")
        return names


class Outer(StrictSchema):
    kind: Literal["a", "b"]
    training: Inner = Inner()
    either: bool | Inner = False


def said(content: Any) -> str:
    with pytest.raises(ValidationError) as refused:
        Outer.model_validate(content)
    return explain(refused.value, Outer)


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ({"kind": "a", "training": {"epoch": 3}}, ["unknown field 'training.epoch'", "'epochs'", "names"]),
        ({"kind": "c"}, ["kind = 'c'", "'a'", "'b'"]),
        ({}, ["field 'kind' is missing"]),
        ({"kind": "a", "training": {"epochs": 0}}, ["training.epochs = 0", "greater than or equal to 1"]),
        ({"kind": "a", "training": {"names": ["x"]}}, ["training.names: x is no name: choose another"]),
        ({"kind": "c", "training": {"epochs": 0}}, ["kind = 'c'", "(and 1 more)"]),
        ([], ["[]"]),
    ],
)
def test_a_mistake_is_told_with_what_is_valid(content: Any, parts: list[str]) -> None:
    line = said(content)
    assert all(part in line for part in parts), line
    assert "\n" not in line


VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary()),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)),
)


@given(VALUES)
def test_any_value_is_shown_on_one_short_line(value: Any) -> None:
    text = shown(value)
    assert len(text) <= SHOWN_CHARACTERS + 8 and "\n" not in text


@given(st.dictionaries(st.text(), VALUES, max_size=3))
def test_whatever_is_read_the_answer_is_one_line(content: dict[str, Any]) -> None:
    line = said(content)
    assert line and "\n" not in line


def test_a_huge_value_costs_nothing() -> None:
    nested: list[Any] = ["x"]
    for _ in range(100):
        nested = [nested, nested]  # as a YAML alias makes it: 2 ** 100 entries
    assert len(shown(nested)) <= SHOWN_CHARACTERS
    assert len(shown("y" * 10**7)) <= SHOWN_CHARACTERS
    assert len(shown(10**10**5)) <= SHOWN_CHARACTERS
