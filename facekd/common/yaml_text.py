"""Reading YAML that somebody else may have written: its aliases may not make it larger than what was read."""

from typing import Any

import yaml

from facekd.common.errors import one_line

MAX_VALUES = 100_000
"""Of one text, each alias counted as what it stands for: a grid of many methods has some hundred."""
MAX_CHARACTERS = 10_000_000
"""Of one text: far more than anybody writes by hand."""


class InvalidYaml(ValueError):
    """The text is not YAML, or unfolds to more than anybody writes; the message is one short line."""


def parse_yaml(text: str) -> Any:
    """What a YAML text holds: mappings, lists and plain values only.

    A few hundred bytes of aliases to aliases stand for billions of values, and an anchor may hold itself; so the values
    are counted, aliases unfolded, before any is made.

    Raises:
        InvalidYaml: it is not YAML, is nested too deeply, or holds more than MAX_VALUES values.
    """
    if len(text) > MAX_CHARACTERS:
        raise InvalidYaml(f"{len(text):,} characters, at most {MAX_CHARACTERS:,} are read")
    try:
        loader = yaml.SafeLoader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _count(node, {})
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except InvalidYaml:
        raise
    except RecursionError:
        raise InvalidYaml("brackets nested too deeply") from None
    # ValueError: a date that is none, a number of a million digits. TypeError: a key that is a list.
    except (yaml.YAMLError, ValueError, TypeError) as error:
        raise InvalidYaml(one_line(error)) from error


def _count(node: yaml.Node, known: dict[int, int]) -> int:
    """Values under a node, those behind aliases once for each alias; `known` holds the nodes that were counted."""
    if id(node) in known:
        if known[id(node)] < 0:
            raise InvalidYaml("an alias (*name) stands inside what it names")
        return known[id(node)]
    known[id(node)] = -1
    total = 1
    if isinstance(node, yaml.MappingNode):
        total += sum(_count(part, known) for pair in node.value for part in pair)
    elif isinstance(node, yaml.SequenceNode):
        total += sum(_count(part, known) for part in node.value)
    if total > MAX_VALUES:
        raise InvalidYaml(f"more than {MAX_VALUES:,} values, aliases (*name) unfolded")
    known[id(node)] = total
    return total
