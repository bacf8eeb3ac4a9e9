"""`facekd quickstart`: run the full pipeline on synthetic faces, with no data and no download."""

from pathlib import Path
from typing import Annotated

import typer

from facekd.cli.output import JsonFlag
from facekd.common.errors import UsageError


def register(app: typer.Typer) -> None:
    """Adds the verb."""

    @app.command()
    def quickstart(
        out: Annotated[Path, typer.Option("--out", help="New folder for all output.")] = Path("quickstart"),
        seed: Annotated[int, typer.Option(min=0, help="Random seed of faces and training.")] = 0,
        overrides: Annotated[list[str] | None, typer.Option("--set", help="field=value for all three recipes.")] = None,
        json_output: JsonFlag = False,
    ) -> None:
        """Run the full pipeline on synthetic faces: train, distil, compare, export.

        It takes minutes on two idle cores, more on a busy machine.
        """
        import time

        from facekd.cli.output import print_json, print_table
        from facekd.common.progress import track
        from facekd.quickstart import QuickstartResult
        from facekd.quickstart import quickstart as run

        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise UsageError(f"--out {out} is not empty: give a new folder, for example --out {out}-2")
        start = time.perf_counter()
        result: QuickstartResult = run(out, seed=seed, overrides=overrides or [], track=track)
        artefacts = _export(result.distilled.bundle, out / "export")
        latency_ms = _benchmark(artefacts, out / "benchmark.jsonl")
        seconds = time.perf_counter() - start
        models = (result.teacher, result.undistilled, result.distilled)
        if json_output:
            print_json(
                {
                    "models": {
                        model.name: {
                            "bundle": model.bundle,
                            "parameters": model.parameters,
                            "macs": model.macs,
                            "accuracy": model.verification.accuracy,
                            "std": model.verification.std,
                            "auc": model.verification.auc,
                        }
                        for model in models
                    },
                    "gain": result.gain,
                    "errors_removed": result.errors_removed,
                    "faces": result.faces,
                    "artefacts": artefacts,
                    "latency_ms": latency_ms,
                    "seconds": seconds,
                }
            )
            return
        rows = [
            (
                model.name,
                f"{model.parameters / 1e6:.2f} M",
                f"{model.macs / 1e6:.0f} M",
                f"{model.verification.accuracy:.1%}",
                "" if model.verification.std is None else f"{model.verification.std:.1%}",
                f"{model.verification.auc:.4f}",
            )
            for model in models
        ]
        pairs = len(result.distilled.verification.scores)
        caption = (
            f"Verification of {pairs} pairs of people that no model was trained on.\n"
            f"Distillation: {100 * result.gain:+.1f} points, {result.errors_removed:.0%} of the errors removed.\n"
            f"faces       {result.faces}\n"
            + "".join(f"{model.name:<12}{model.bundle}\n" for model in models)
            + "".join(f"{target:<12}{path}\n" for target, path in artefacts.items())
            + "".join(
                f"latency     {value:.2f} ms per face, {target}, one thread ({out / 'benchmark.jsonl'})\n"
                for target, value in latency_ms.items()
            )
            + f"{seconds:.0f} s in total. Next: facekd info {result.distilled.bundle}"
        )
        columns = ("model", "parameters", "MACs", "accuracy", "std over folds", "AUC")
        print_table("quickstart: synthetic faces, not a benchmark", columns, rows, caption)


def _export(bundle: Path, out: Path) -> dict[str, Path]:
    """The distilled student as a verified ONNX artefact; if the extra is not installed, prints that instead."""
    import sys

    try:
        import onnxruntime  # noqa: F401

        from facekd.export.faces import synthetic_faces
        from facekd.export.options import ExportOptions
        from facekd.export.pipeline import Reference, export_artefact
    except ImportError as error:
        print(f"not exported: {error.name} is not installed, run pip install 'facekd[onnx]'", file=sys.stderr)
        return {}
    from facekd.models.bundle import load_bundle

    loaded = load_bundle(bundle)
    reference = Reference(loaded, synthetic_faces(16, loaded.card.input.size))
    target = out / "onnx-fp32"
    export_artefact(
        reference,
        "onnx",
        ExportOptions(precision="fp32", batch=None),
        target,
        say=lambda text: print(text, file=sys.stderr),
    )
    return {"onnx": target}


def _benchmark(artefacts: dict[str, Path], out: Path) -> dict[str, float]:
    """Median latency of each artefact on this machine, in ms; the records are kept in `out`."""
    if not artefacts:
        return {}
    from facekd.benchmarks.harness import Plan
    from facekd.benchmarks.run import HostRun, run_on_host
    from facekd.benchmarks.subject import find_subjects

    plan = Plan(duration_s=1.0, max_repeats=1, max_warm_up_s=1.0)
    settings = HostRun(plan=plan, profile=False, peak=False, out=out)
    records = run_on_host(find_subjects(list(artefacts.values())), settings)
    return {target: record.latency.p50_ms for target, record in zip(artefacts, records, strict=True)}
