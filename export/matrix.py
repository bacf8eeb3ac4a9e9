"""Several targets and precisions of one bundle: each exported on its own, a failure noted and passed over."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from facekd.common.errors import FacekdError, UsageError
from facekd.common.validation import shown
from facekd.export import liveness
from facekd.export.artefact_folder import check_destination
from facekd.export.options import ExportOptions
from facekd.export.pipeline import Gate, Reference, export_artefact
from facekd.export.targets.base import get_target, list_targets
from facekd.schemas.manifest import MANIFEST_FILE, Layout, Manifest, read_manifest, verify_files

# In the order of the tables; `--precision all` takes those a target offers.
PRECISIONS = ("fp32", "fp16", "w8", "palette", "int8")


@dataclass(frozen=True, kw_only=True)
class ExportCell:
    """One artefact of a matrix: what was wanted, and what came of it.

    Attributes:
        manifest: of the artefact, if it passed.
        problem: why there is none.
        offered: False where the target has no such precision; that is no failure of the bundle.
    """

    target: str
    precision: str
    folder: Path
    manifest: Manifest | None = None
    problem: str | None = None
    offered: bool = True


def plan(targets: Sequence[str], precisions: Sequence[str], out: Path) -> list[ExportCell]:
    """The cells of `targets` x `precisions`; "all" stands for every one. A single cell is written to `out` itself.

    Raises:
        UsageError: an unknown name.
    """
    names = list_targets() if "all" in targets else list(dict.fromkeys(targets))
    makers = [get_target(name) for name in names]
    for precision in precisions:
        if precision not in (*PRECISIONS, "all"):
            raise UsageError(f"unknown precision {shown(precision)}; valid: {', '.join(PRECISIONS)}, all")
    wanted = PRECISIONS if "all" in precisions else tuple(dict.fromkeys(precisions))
    pairs = [(maker, precision) for maker in makers for precision in wanted]
    single = len(pairs) == 1
    return [
        ExportCell(
            target=maker.name,
            precision=precision,
            folder=out if single else out / f"{maker.name}-{precision}",
            offered=precision in maker.precisions,
            problem=None if precision in maker.precisions else maker.refused.get(precision, "not offered"),
        )
        for maker, precision in pairs
    ]


def options_for(
    cell: ExportCell, options: ExportOptions, *, batch: str | None, layout: str | None, preprocess: str | None
) -> ExportOptions:
    """`options` with the cell's precision; what the user left open has the target's own default.

    Raises:
        UsageError: batch is neither a positive number nor "dynamic".
    """
    maker = get_target(cell.target)
    size: int | None = maker.default_batch
    if batch is not None:
        if batch != "dynamic" and not (batch.isdigit() and int(batch) > 0):
            raise UsageError(f"--batch {batch}: valid: dynamic, or a number from 1")
        size = None if batch == "dynamic" else int(batch)
    chosen: Layout = maker.layouts[0] if layout is None else layout  # type: ignore[assignment]
    where = maker.default_preprocess if preprocess is None else preprocess
    changes = {"precision": cell.precision, "batch": size, "layout": chosen, "preprocess": where}
    return replace(options, **changes)  # type: ignore[arg-type]


def run_matrix(
    reference: Reference,
    cells: Sequence[ExportCell],
    options: Callable[[ExportCell], ExportOptions],
    *,
    gate: Gate,
    overwrite: bool = False,
    resume: bool = False,
    say: Callable[[str], None] = lambda _: None,
    advance: Callable[[], None] = lambda: None,
) -> list[ExportCell]:
    """Exports every cell that its target offers; the returned cells carry a manifest or the problem.

    Options and destinations of all cells are checked before the first is converted, so that a typo costs no minutes.

    Args:
        overwrite: replace artefacts that are already there.
        resume: take artefacts that are already there as they are, if they are what is asked for; make the others.
        say: called with each step's name.
        advance: called after each cell, made or not.

    Raises:
        UsageError: an option is not valid or a destination is taken; with a single cell, also what it cannot do.
        FacekdError: an artefact that `resume` would take was changed since.
    """
    single = len(cells) == 1
    prepared: list[tuple[ExportCell, ExportOptions | None]] = []
    for cell in cells:
        if not cell.offered:
            if single:
                get_target(cell.target).validate(options(cell))
            prepared.append((cell, None))
            continue
        wanted = options(cell)
        if resume and (cell.folder / MANIFEST_FILE).is_file():
            prepared.append((replace(cell, manifest=_finished(cell, wanted, reference)), None))
            continue
        check_destination(cell.folder, overwrite=overwrite)
        try:
            get_target(cell.target).validate(wanted)
        except UsageError as error:
            if single:
                raise
            prepared.append((replace(cell, problem=str(error)), None))
            continue
        prepared.append((cell, wanted))
    done = []
    for cell, chosen in prepared:
        if chosen is None:
            done.append(cell)
            advance()
            continue
        try:
            manifest = export_artefact(
                reference, cell.target, chosen, cell.folder, gate=gate, overwrite=overwrite, say=say
            )
            done.append(replace(cell, manifest=manifest))
        except FacekdError as error:
            if single:
                raise
            say(f"{cell.target} {cell.precision}: failed: {error}")
            done.append(replace(cell, problem=str(error)))
        advance()
    return done


def finished_cells(folders: Sequence[Path]) -> dict[str, list[ExportCell]]:
    """Cells of artefacts that were exported before, by the name of their bundle, ordered as an export would make them.

    Raises:
        UsageError: a folder is no artefact, or two bundles have the same name.
        FacekdError: an artefact was changed since it was exported.
    """
    found: dict[str, list[ExportCell]] = {}
    hashes: dict[str, str] = {}
    for folder in folders:
        manifest = read_manifest(folder)
        verify_files(folder, manifest)
        if hashes.setdefault(manifest.name, manifest.bundle.sha256) != manifest.bundle.sha256:
            raise UsageError(
                f"{folder} is of another bundle {shown(manifest.name)} (sha256 {manifest.bundle.sha256[:12]}... beside "
                f"{hashes[manifest.name][:12]}...): tabulate them apart"
            )
        cell = ExportCell(target=manifest.target, precision=manifest.precision, folder=folder, manifest=manifest)
        found.setdefault(manifest.name, []).append(cell)
    order = list_targets()
    for cells in found.values():
        cells.sort(key=lambda cell: (order.index(cell.target), PRECISIONS.index(cell.precision)))
    return found


def failed(cells: Sequence[ExportCell]) -> list[ExportCell]:
    """Cells that were to be made and were not."""
    return [cell for cell in cells if cell.offered and cell.manifest is None]


def _finished(cell: ExportCell, options: ExportOptions, reference: Reference) -> Manifest:
    """The manifest of the artefact that an earlier run left in the cell's folder.

    Raises:
        UsageError: it is not what is asked for now; names what differs.
        FacekdError: its files were changed.
    """
    manifest = read_manifest(cell.folder)
    pairs = reference.pairs
    set_name = "" if pairs is None else pairs.fingerprint()
    batch = options.batch or (None if get_target(cell.target).dynamic_batch else 1)
    facts = {
        "bundle": (manifest.bundle.sha256, reference.bundle.card.sha256),
        "target": (manifest.target, cell.target),
        "precision": (manifest.precision, cell.precision),
        "batch": (manifest.input.batch, batch),
        "layout": (manifest.input.layout, options.layout),
        "preprocess": (manifest.input.preprocess, options.preprocess),
        "liveness": (liveness.stated(manifest), liveness.asked(reference.liveness)),
        "pairs": (manifest.accuracy.fingerprint if manifest.accuracy and set_name else "", set_name),
    }
    if manifest.quantisation is not None:
        facts["calibration"] = (manifest.quantisation.calibration, options.calibration_source)
    for name, (found, asked) in facts.items():
        if found != asked:
            raise UsageError(
                f"--resume: {cell.folder} has {name} {found or 'none'}, asked for is {asked or 'none'}: remove it, or "
                "choose another --out"
            )
    verify_files(cell.folder, manifest)
    return manifest
