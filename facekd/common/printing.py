"""JSON for machines, once: what the verbs and the studies print with --json."""

import json
from typing import Any


def print_json(data: Any) -> None:
    """Prints `data` as JSON on stdout; paths and NumPy scalars become strings and numbers."""

    def plain(value: Any) -> Any:
        if hasattr(value, "item"):
            return value.item()
        if hasattr(value, "model_dump"):
            return value.model_dump(mode="json")
        return str(value)

    print(json.dumps(data, indent=2, default=plain, allow_nan=False))
