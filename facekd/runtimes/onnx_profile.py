"""What ONNX Runtime's profile says of an inference: the time of each kind of operator, and who ran it."""

import statistics
from collections import defaultdict
from typing import Any


def operators_of(events: list[dict[str, Any]], *, skip: int) -> dict[str, Any]:
    """Fields of schemas.record.Operators from the events of a profile, its first `skip` runs (warm-up) left out."""
    starts = sorted(event["ts"] for event in events if event.get("name") == "model_run")
    begin = starts[skip]
    runs = len(starts) - skip
    durations: dict[tuple[str, str, int], list[float]] = defaultdict(list)
    order: dict[int, str] = {}
    for event in events:
        if event.get("cat") != "Node" or not event["name"].endswith("_kernel_time") or event["ts"] < begin:
            continue
        arguments = event["args"]
        provider = arguments["provider"].removesuffix("ExecutionProvider")
        node = int(arguments["node_index"])
        durations[arguments["op_name"], provider, node].append(event["dur"] / 1e3)
        order[node] = provider
    milliseconds: dict[tuple[str, str], float] = defaultdict(float)
    calls: dict[tuple[str, str], int] = defaultdict(int)
    for (operator, provider, _), values in durations.items():
        # A node's median: one run that other programs interrupted would outweigh all the others in a mean.
        milliseconds[operator, provider] += statistics.median(values) * len(values) / runs
        calls[operator, provider] += len(values)
    rows = [
        {"operator": key[0], "provider": key[1], "calls": calls[key] / runs, "ms": milliseconds[key]}
        for key in sorted(milliseconds, key=lambda key: -milliseconds[key])
    ]
    others = [provider for provider in set(order.values()) if provider != "CPU"]
    sequence = [order[index] for index in sorted(order)]
    pieces = sum(1 for i, p in enumerate(sequence) if p != "CPU" and (i == 0 or sequence[i - 1] != p))
    return {
        "method": f"ONNX Runtime's profile, median of {runs} runs by node",
        "operators": rows,
        "delegate": ", ".join(sorted(others)) or None,
        "partitions": pieces if others else None,
        "fallback": {key[0]: round(calls[key] / runs) for key in calls if others and key[1] == "CPU"},
    }
