"""The table of an export, for the terminal and, in Markdown, for docs/results.md."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from facekd.common.errors import FacekdError
from facekd.export.artefact_folder import LOG_NOTE
from facekd.export.matrix import ExportCell
from facekd.schemas.manifest import Manifest

COLUMNS = (
    "target",
    "precision",
    "MB",
    "operators",
    "partitions",
    "max diff",
    "cos min",
    "cos mean",
    "float %",
    "exported %",
    "changed",
    "float ms",
    "ms",
    "seconds",
)


def row(manifest: Manifest) -> list[str]:
    """One artefact's row."""
    parity, accuracy, latency = manifest.parity, manifest.accuracy, manifest.latency
    return [
        manifest.target,
        manifest.precision,
        f"{manifest.size_bytes / 1e6:.2f}",
        str(manifest.num_operators),
        "-" if manifest.partitions is None else str(manifest.partitions),
        f"{parity.max_abs_difference:.1e}",
        f"{parity.cosine_min:.6f}",
        f"{parity.cosine_mean:.6f}",
        f"{100 * accuracy.float_accuracy:.2f}" if accuracy else "-",
        f"{100 * accuracy.accuracy:.2f}" if accuracy else "-",
        f"{accuracy.changed}/{accuracy.pairs}" if accuracy else "-",
        f"{latency.float_ms:.1f}" if latency and latency.float_ms is not None else "-",
        f"{latency.ms:.1f}" if latency else "-",
        f"{manifest.seconds:.0f}",
    ]


def rows(cells: Sequence[ExportCell]) -> list[list[str]]:
    """Every cell's row; one without an artefact says so, its reason is printed below the table."""
    result = []
    for cell in cells:
        if cell.manifest is not None:
            result.append(row(cell.manifest))
        else:
            word = "failed" if cell.offered else "not offered"
            result.append([cell.target, cell.precision, word, *["-"] * (len(COLUMNS) - 3)])
    return result


def reasons(cells: Sequence[ExportCell]) -> list[str]:
    """Why a cell has no artefact, a line each."""
    return [f"{cell.target} {cell.precision}: {cell.problem}" for cell in cells if cell.manifest is None]


def caption(manifests: Sequence[Manifest]) -> str:
    """What the figures mean: the faces, the runtimes' thread, the accuracy's set."""
    if not manifests:
        return ""
    sources = dict.fromkeys(manifest.parity.source for manifest in manifests)
    text = f"parity on {' or '.join(sources)}"
    sets = [f"{a.dataset}, {a.pairs} pairs, {a.protocol}" for a in (m.accuracy for m in manifests) if a]
    if sets:
        text += f"; accuracy on {' or '.join(dict.fromkeys(sets))}"
    if any(manifest.latency for manifest in manifests):
        text += "; ms: median of one image, one thread, this machine: compare ratios"
    return text


def print_cells(title: str, cells: Sequence[ExportCell]) -> None:
    """Prints the table on stdout, as wide as it needs to be: fourteen columns cut to eighty characters say nothing."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, box=SIMPLE_HEAD, padding=(0, 1, 0, 0), title_justify="left")
    for index, column in enumerate(COLUMNS):
        table.add_column(column, justify="left" if index < 2 else "right", no_wrap=True)
    for cells_ in rows(cells):
        table.add_row(*cells_)
    console = Console()
    needed = console.measure(table, options=console.options.update(width=500)).maximum
    Console(width=max(console.width, needed)).print(table)


def write_results(path: Path, name: str, cells: Sequence[ExportCell], *, command: str) -> None:
    """Puts the table into a Markdown file, between markers of the bundle's name; the rest of the file stays as it is.

    Args:
        command: what was typed, for the reader who wants to do it again.

    Raises:
        FacekdError: the file has an opening marker without its end.
    """
    replace_section(path, f"facekd export: {name}", _markdown(name, cells, command))


def replace_section(path: Path, marker: str, markdown: str) -> None:
    """Puts `markdown` between the file's comments with this marker, or at its end; the file appears if need be.

    Raises:
        FacekdError: the file has an opening marker without its end.
    """
    start, end = f"<!-- {marker} -->", f"<!-- end of {marker} -->"
    text = path.read_text(encoding="utf-8") if path.is_file() else "# Results\n"
    section = f"{start}\n{markdown}{end}"
    if start in text:
        before, _, rest = text.partition(start)
        _, found, after = rest.partition(end)
        if not found:
            raise FacekdError(f"{path}: the marker {end!r} is missing; restore it or remove its opening one")
        text = before + section + after
    else:
        text = text.rstrip("\n") + f"\n\n{section}\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def _markdown(name: str, cells: Sequence[ExportCell], command: str) -> str:
    manifests = [cell.manifest for cell in cells if cell.manifest is not None]
    lines = [f"## Export of {name}", ""]
    lines += ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * 2 + "---:|" * (len(COLUMNS) - 2)]
    lines += ["| " + " | ".join(cells_) + " |" for cells_ in rows(cells)]
    lines += ["", caption(manifests) + "." if manifests else "No artefact passed."]
    lines += ["", _circumstances(manifests)] if manifests else []
    lines += ["", f"    {command}"]
    # The log that a reason may name is a file of this machine: of no use to the document's readers.
    lines += ["", *(f"- {reason.partition(LOG_NOTE)[0]}" for reason in reasons(cells))] if reasons(cells) else []
    return "\n".join(lines) + "\n"


def _circumstances(manifests: Sequence[Manifest]) -> str:
    """Bundle, machine and versions, from the manifests: with --resume, rows may come from several runs."""
    first = manifests[0].bundle
    machines = sorted({manifest.latency.machine for manifest in manifests if manifest.latency})
    versions: dict[str, set[str]] = {}
    for manifest in manifests:
        for package, version in manifest.versions.items():
            versions.setdefault(package, set()).add(version)
    made = ", ".join(f"{package} {'/'.join(sorted(found))}" for package, found in sorted(versions.items()))
    parts = [f"Bundle {first.sha256[:12]} ({first.architecture})", *machines, made]
    return "; ".join(parts) + "."


def summary(cell: ExportCell) -> dict[str, Any]:
    """A cell for JSON."""
    return {
        "target": cell.target,
        "precision": cell.precision,
        "folder": str(cell.folder) if cell.manifest else None,
        "offered": cell.offered,
        "problem": cell.problem,
        "manifest": cell.manifest.model_dump(mode="json") if cell.manifest else None,
    }
