"""A manifest in words, for `facekd export inspect`."""

from facekd.schemas.manifest import Manifest

Rows = list[tuple[str, str]]


def describe(manifest: Manifest) -> list[tuple[str, Rows]]:
    """Titled tables of (what, value): the artefact, its verification, its quantisation if there is one, its files."""
    spec = manifest.input
    batch = "any" if spec.batch is None else str(spec.batch)
    mean, std = _values(spec.spec.mean), _values(spec.spec.std)
    where = "in the file" if spec.preprocess == "in" else "by the caller"
    general: Rows = [
        ("bundle", f"{manifest.bundle.name} ({manifest.bundle.architecture}, sha256 {manifest.bundle.sha256[:12]}...)"),
        ("target", f"{manifest.target}, {manifest.precision}, {manifest.format_version}"),
        ("model", f"{manifest.model}, {manifest.size_bytes / 1e6:.2f} MB"),
        (
            "input",
            f"{spec.name}: {spec.dtype}, {spec.layout}, batch {batch}, {spec.spec.size[0]}x{spec.spec.size[1]}",
        ),
        ("normalisation", f"{where}: {spec.spec.colour}, (pixel - {mean}) / {std}"),
        ("output", f"{manifest.output.name}: raw embedding of {manifest.output.width}; L2-normalise it"),
        ("operators", f"{manifest.num_operators}: " + ", ".join(f"{n} {op}" for op, n in manifest.operators.items())),
    ]
    if manifest.partitions is not None:
        general.append(("XNNPACK partitions", str(manifest.partitions)))
    if manifest.prelu_form is not None:
        general.append(("PReLU written as", manifest.prelu_form))
    for provider, verdict in manifest.usability.items():
        nodes = f"{verdict['supported']} of {verdict['nodes']} nodes, partitions: {verdict['partitions']}"
        general.append((f"mobile usability, {provider}", f"{verdict['verdict']}: {nodes}"))
    general += [(key.replace("_", " "), str(value)) for key, value in manifest.details.items()]
    general += [(f"threshold at FAR {t['far']:g}", f"cos {t['threshold_cos']:.4f}") for t in manifest.thresholds]
    if manifest.liveness is not None:
        for net in manifest.liveness.models:
            size = "x".join(map(str, net.input.size))
            crop = f"{net.crop_scale:g} times the face box, {size}, {net.input.colour}"
            general.append((f"liveness {net.file}", f"{crop}; class {net.real_class} of {net.classes} is real"))
        general.append(("live above", f"mean probability {manifest.liveness.threshold:g}"))
    tables = [("Artefact", general), ("Verified", _verified(manifest))]
    if manifest.quantisation is not None:
        tables.append(("Quantisation", _quantised(manifest)))
    files = [(name, digest[:16] + "...") for name, digest in manifest.files.items()]
    versions = ", ".join(f"{name} {version}" for name, version in manifest.versions.items())
    tables.append(("Files (sha256)", [*files, ("made with", versions)]))
    return tables


def _verified(manifest: Manifest) -> Rows:
    parity = manifest.parity
    rows: Rows = [
        ("runtime", parity.runtime),
        ("faces", f"{parity.faces} ({parity.source}), batches {', '.join(map(str, parity.batches))}"),
        ("max abs difference", f"{parity.max_abs_difference:.2e} (scale of the embedding {parity.scale:.2f})"),
        ("max abs difference, normalised", f"{parity.max_abs_difference_unit:.2e}"),
        ("cosine min, mean", f"{parity.cosine_min:.6f}, {parity.cosine_mean:.6f}"),
        ("bounds", ", ".join(f"{name.replace('_', ' ')} {bound:g}" for name, bound in parity.bounds.items())),
    ]
    if manifest.accuracy is not None:
        accuracy = manifest.accuracy
        rows.append(
            (
                f"accuracy on {accuracy.dataset}",
                f"{100 * accuracy.float_accuracy:.2f} % float, {100 * accuracy.accuracy:.2f} % exported; "
                f"{accuracy.changed} of {accuracy.pairs} decisions changed",
            )
        )
    if manifest.latency is not None:
        latency = manifest.latency
        before = f", {latency.float_ms:.2f} before quantisation" if latency.float_ms is not None else ""
        rows.append(("median ms of one image, one thread", f"{latency.ms:.2f}{before} ({latency.machine})"))
    rows.append(("golden crop's smallest cosine", f"{manifest.golden.min_cosine:g}"))
    return rows


def _quantised(manifest: Manifest) -> Rows:
    quantisation = manifest.quantisation
    assert quantisation is not None
    rows: Rows = [
        ("method", quantisation.method),
        ("calibration", quantisation.calibration),
        ("kept in float", ", ".join(quantisation.keep_float) or "none"),
    ]
    return rows + [
        (f"loss of {layer.name} alone", f"{layer.loss:.2e}{' (float)' if layer.kept_float else ''}")
        for layer in quantisation.layers[:10]
    ]


def _values(channels: tuple[float, ...]) -> str:
    """One number where all channels have the same, else one for each."""
    return "/".join(f"{value:g}" for value in (channels if len(set(channels)) > 1 else channels[:1]))
