"""The table of an export, for the terminal and, in Markdown, for docs/results.md."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from facekd.common.markdown import markdown_text, replace_section
from facekd.common.table import Table
from facekd.common.text import plain
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


def cells_table(cells: Sequence[ExportCell], title: str | None = None) -> Table:
    """The cells as a table; print it in full width: fourteen columns cut to eighty characters say nothing."""
    return Table(COLUMNS, rows(cells), title=title, left=2)


def write_results(path: Path, name: str, cells: Sequence[ExportCell], *, command: str) -> None:
    """Puts the table into a Markdown file, between markers of the bundle's name; the rest of the file stays as it is.

    Args:
        command: what was typed, for the reader who wants to do it again.

    Raises:
        FacekdError: the file has an opening marker without its end.
    """
    replace_section(path, f"facekd export: {name}", _markdown(name, cells, command))


def _markdown(name: str, cells: Sequence[ExportCell], command: str) -> str:
    manifests = [cell.manifest for cell in cells if cell.manifest is not None]
    lines = [f"## Export of {markdown_text(name)}", "", cells_table(cells).markdown()]
    lines += [markdown_text(caption(manifests), starts_line=True) + "." if manifests else "No artefact passed."]
    lines += ["", markdown_text(_circumstances(manifests), starts_line=True)] if manifests else []
    lines += ["", f"    {plain(command)}"]
    # The log that a reason may name is a file of this machine: of no use to the document's readers.
    lines += (
        ["", *(f"- {markdown_text(reason.partition(LOG_NOTE)[0])}" for reason in reasons(cells))]
        if reasons(cells)
        else []
    )
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
