"""Which threshold a promise to a gallery takes: an independent reference, and the cases for Kotlin and JavaScript.

Written from the rule, in exact fractions, not from the code: of the rates of a table those are allowed whose multiple
by the samples does not exceed the promise, and the largest of these is taken. `tests/android/lfw_calibration.json` is
the table of EdgeFace-XS on 800 of LFW's people (tests/evaluation/test_gallery_promises.py makes it anew and compares).
"""

import json
import math
from fractions import Fraction
from pathlib import Path
from typing import Any

from facekd.schemas.calibration import Calibration

LFW_TABLE = Path(__file__).with_name("lfw_calibration.json")
PROMISES = (1e-2, 1e-3, 1e-4)
USUAL = 1e-3
SLACK = 1 + Fraction(1, 10**9)
"""A promise of 1e-3 to 10 samples needs 1e-4, however the division is rounded."""


def answer(table: list[dict[str, Any]], fpir: float | None, samples: int) -> dict[str, Any]:
    """What a table makes of a promise.

    Args:
        table: entries with far, threshold_cos and far_high (None: unknown), in any order.
        fpir: the share of the strangers' searches that may name somebody; None is USUAL, or the least supported.
        samples: enrolled; nobody counts as one.

    Returns:
        kept, fpir, and either threshold_cos, at_worst and one_in, or best_one_in, most_samples and people_needed.
    """
    count = max(samples, 1)
    asked = Fraction(USUAL if fpir is None else fpir)
    allowed = [entry for entry in table if Fraction(entry["far"]) * count <= asked * SLACK]
    lowest = min(table, key=lambda entry: entry["far"])
    supported = Fraction(lowest["far"]) * count
    if not allowed and fpir is None and supported < 1:
        allowed, asked = [lowest], supported
    if allowed:
        chosen = max(allowed, key=lambda entry: entry["far"])
        worst = None if chosen["far_high"] is None else float(min(1, Fraction(chosen["far_high"]) * count))
        found = {"threshold_cos": chosen["threshold_cos"], "at_worst": worst, "one_in": int(SLACK / asked)}
        return {"kept": True, "fpir": float(asked), **found}
    pairs = 30 * Fraction(10**0.1) * count / asked
    people = max(2, math.isqrt(int(2 * pairs)))
    while people * (people - 1) < 2 * pairs:
        people += 1
    return {
        "kept": False,
        "fpir": float(asked),
        "best_one_in": None if supported >= 1 else int(SLACK / supported),
        "most_samples": int(asked * SLACK / Fraction(lowest["far"])),
        "people_needed": people,
    }


def entries(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    """The table that counts in this part of a manifest: the calibration, or the thresholds of lists of pairs, where a
    lower rate never has a looser threshold than a higher one."""
    if manifest["calibration"] is not None:
        found: list[dict[str, Any]] = manifest["calibration"]["thresholds"]
        return found
    measured = manifest["thresholds"]
    return [
        {
            "far": far,
            "threshold_cos": max(t["threshold_cos"] for t in measured if t["far"] >= far),
            "far_high": None,
        }
        for far in {t["far"] for t in measured}
    ]


def manifests() -> dict[str, dict[str, Any]]:
    """The parts of a manifest that hold thresholds, by name."""
    lfw = json.loads(LFW_TABLE.read_text(encoding="utf-8"))
    rates = [10 ** (-2 - step / 10) for step in range(46)]
    rows = [
        {"far": far, "threshold_cos": 0.2 + 0.01 * i, "far_low": 0.7 * far, "far_high": 1.5 * far}
        for i, far in enumerate(rates)
    ]
    made = Calibration(
        faces="made",
        fingerprint="0" * 64,
        images=3000,
        identities=1500,
        impostor_pairs=5_000_000,
        method="made",
        thresholds=rows,
    ).model_dump()
    pairs = [(0.01, 0.31, "a"), (0.001, 0.42, "a"), (0.01, 0.29, "b"), (0.001, 0.4, "b"), (0.1, 0.2, "a")]
    loose = [(0.01, 0.5, "a"), (0.001, 0.4, "b")]

    def listed(rows: list[tuple[float, float, str]]) -> list[dict[str, Any]]:
        return [{"far": far, "threshold_cos": cos, "dataset": name} for far, cos, name in rows]

    return {
        "lfw": {"thresholds": listed(pairs), "calibration": lfw},
        "made": {"thresholds": [], "calibration": made},
        "one rate": {"thresholds": [], "calibration": {**made, "thresholds": rows[:1]}},
        "pairs alone": {"thresholds": listed(pairs), "calibration": None},
        "pairs that disagree": {"thresholds": listed(loose), "calibration": None},
    }


def galleries() -> dict[str, Any]:
    """Tables, and what each promise takes for galleries of many sizes; JSON."""
    parts = manifests()
    cases = [
        {
            "table": name,
            "fpir": fpir,
            "samples": samples,
            "expected": answer(entries(part), fpir, samples),
        }
        for name, part in parts.items()
        for fpir in (*PROMISES, None)
        for samples in (0, 1, 2, 3, 5, 9, 10, 11, 37, 99, 100, 101, 111, 200, 600, 1000, 5000, 30_000)
    ]
    return {"tables": parts, "cases": cases}
