"""The README of a bundle: its card, for people."""

from collections.abc import Sequence
from pathlib import Path

from facekd.common.markdown import markdown_text
from facekd.common.table import Table
from facekd.schemas.card import Card

CONSENT = """\
## Use with consent

Face embeddings are biometric data. Enrol and compare people only with their informed consent and where the law allows
it, keep templates encrypted and delete them on request. Accuracy differs between groups of people and with image
quality: measure it on people like yours before relying on it, and do not let it decide about anyone alone."""


def write_readme(path: Path, card: Card) -> None:
    """Writes README.md for `card`."""
    height, width = card.input.size
    parts = [f"# {markdown_text(card.name)}", _table(("fact", "value"), fact_rows(card))]
    if card.metrics:
        parts += ["## Measured", _table(("data", "protocol", "figure", "value"), metric_rows(card))]
    if card.thresholds:
        columns = ("false accept rate", "cosine above", "measured on")
        parts += ["## Thresholds", _table(columns, threshold_rows(card))]
    parts += [
        "## How to use it",
        "```python\nfrom facekd.models.bundle import load_bundle\n\n"
        'bundle = load_bundle("path/to/this/folder")\n'
        f"embeddings = bundle.embed(images)  # uint8 RGB [b, 3, {height}, {width}] "
        f"-> float32 [b, {card.embedding_width}]\n```",
    ]
    if card.notes:
        parts += ["## Notes", "\n".join(markdown_text(line, starts_line=True) for line in card.notes.splitlines())]
    parts.append(CONSENT)
    path.write_text("\n\n".join(parts) + "\n", encoding="utf-8", errors="backslashreplace")


def fact_rows(card: Card) -> list[tuple[str, str]]:
    """The card's single facts, as (fact, value)."""
    height, width = card.input.size
    return [
        ("kind", card.kind),
        ("architecture", f"{card.architecture.name} {_arguments(card.architecture.arguments)}".strip()),
        ("parameters", f"{card.parameters:,}"),
        ("multiply-accumulates (MACs)", f"{card.macs:,} for one {height}x{width} image"),
        (
            "input",
            f"aligned face, {height}x{width}, {card.input.colour}, (pixel - {_numbers(card.input.mean)}) / "
            f"{_numbers(card.input.std)}",
        ),
        ("output", f"{card.embedding_width} numbers, not normalised; compare by cosine"),
        ("trained on", _training(card)),
        ("teacher", _teacher(card)),
        ("head", _head(card)),
        ("made", f"{card.created} with facekd {card.facekd_version}"),
        ("weights sha256", card.sha256),
    ]


def metric_rows(card: Card) -> list[tuple[str, str, str, str]]:
    """The card's metrics, as (data, protocol, figure, value)."""
    return [
        (m.dataset, m.protocol, m.name + ("" if m.far is None else f" at FAR {m.far:g}"), _value(m.value, m.std))
        for m in card.metrics
    ]


def threshold_rows(card: Card) -> list[tuple[str, str, str]]:
    """The card's thresholds, as (false accept rate, cosine, data)."""
    return [(f"{t.far:g}", f"{t.threshold_cos:.4f}", t.dataset) for t in card.thresholds]


def _training(card: Card) -> str:
    training = card.training or {}
    if "imported_from" in training:
        return f"imported from {training['imported_from']}, see the notes"
    data = training.get("data")
    if not isinstance(data, dict):
        return "not recorded"
    counts = [f"{data[key]:,} {key}" for key in ("images", "identities") if isinstance(data.get(key), int)]
    return ", ".join([str(data.get("name", "unnamed")), *counts])


def _teacher(card: Card) -> str:
    if card.teacher is None:
        return "none"
    sha256 = str(card.teacher.get("sha256", ""))
    return str(card.teacher.get("name", "unnamed")) + (f", sha256 {sha256}" if sha256 else "")


def _head(card: Card) -> str:
    if card.head is None:
        return "not kept"
    return (
        f"{card.head.name} {_arguments(card.head.arguments)}, centres of {card.head.num_identities:,} identities in "
        "head.safetensors"
    )


def _arguments(arguments: dict[str, object]) -> str:
    return ", ".join(f"{key}={value}" for key, value in arguments.items())


def _numbers(values: tuple[float, ...]) -> str:
    return f"{values[0]:g}" if len(set(values)) == 1 else f"({', '.join(f'{value:g}' for value in values)})"


def _value(value: float, std: float | None) -> str:
    return f"{value:.4f}" if std is None else f"{value:.4f} ± {std:.4f}"


def _table(columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    return Table(columns, rows, left=columns).markdown().rstrip("\n")
