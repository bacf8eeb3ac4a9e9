"""`facekd benchmark`: measure models on this machine or a phone, report records, compare two models."""

import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from facekd.cli.default_command import DefaultCommandGroup
from facekd.cli.evaluate import Colour, Layout, Mean, Std, TrustInput
from facekd.cli.output import JsonFlag, print_json, print_table, print_text
from facekd.cli.parsing import (
    parse_cores,
    parse_counts,
    parse_duration,
    parse_input_spec,
    parse_layout,
    parse_serials,
    split_list,
)
from facekd.cli.record_output import show_records
from facekd.common.errors import UsageError
from facekd.common.text import plain

Models = Annotated[
    list[Path], typer.Argument(help="Artefact folders, folders of artefacts, bundles, .onnx and .tflite files.")
]
Runtime = Annotated[
    str | None,
    typer.Option(
        "--runtime",
        help="Only these, comma-separated: onnxruntime, litert, executorch, torch, coreml or package.module:Class.",
    ),
]
Pin = Annotated[str | None, typer.Option("--pin", help="Pin the measuring process to these cores, such as 0,1.")]

Output = Annotated[
    str | None, typer.Option("--output", help="Model file without manifest: name of the output that is the embedding.")
]


class _BenchmarkGroup(DefaultCommandGroup):
    default_command = "run"


def register(app: typer.Typer) -> None:
    """Adds the verb to `app`."""
    benchmark = typer.Typer(
        cls=_BenchmarkGroup,
        help="Measure models (facekd benchmark MODEL ... --threads 1,2), report records, compare two models.",
        no_args_is_help=True,
        rich_markup_mode=None,
    )
    benchmark.command("run", help="Measure models. The word run is optional.")(run)
    benchmark.command("peers", help="Same as run: measure your models next to others' .onnx and .tflite files.")(run)
    benchmark.command("report")(report)
    benchmark.command("compare")(compare)
    benchmark.command("schema")(schema)
    app.add_typer(benchmark, name="benchmark")


def run(
    models: Models,
    runtime: Runtime = None,
    threads: Annotated[str, typer.Option("--threads", help="Thread counts, comma-separated.")] = "1",
    batch: Annotated[str, typer.Option("--batch", help="Batch sizes, comma-separated.")] = "1",
    duration: Annotated[str, typer.Option("--duration", help="Minimum duration of a repeat: 500ms, 10s, 2m.")] = "10s",
    runs: Annotated[int, typer.Option("--runs", min=2, help="Minimum timed inferences per repeat.")] = 64,
    interval: Annotated[
        float,
        typer.Option("--interval", help="Repeat until the 95 % interval is narrower than this fraction of the median."),
    ] = 0.05,
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="Maximum number of repeats.")] = 4,
    pairs: Annotated[
        str | None, typer.Option("--pairs", help="Verification set, to measure accuracy: a .bin file or synthetic:...")
    ] = None,
    cache: Annotated[Path | None, typer.Option("--cache", help="Cache folder for measured accuracies.")] = None,
    profile: Annotated[
        bool, typer.Option("--profile/--no-profile", help="Measure the time of each operator type.")
    ] = True,
    peak: Annotated[
        bool, typer.Option("--peak/--no-peak", help="Measure this machine's fastest matrix product as the limit.")
    ] = True,
    pin: Pin = None,
    compute_units: Annotated[
        str | None, typer.Option("--compute-units", help="Core ML: cpu, gpu, ane, all (comma-separated).")
    ] = None,
    mean: Mean = None,
    std: Std = None,
    colour: Colour = None,
    layout: Layout = None,
    output: Output = None,
    trust_input: TrustInput = False,
    device: Annotated[
        str, typer.Option("--device", help="host, or phones: adb:SERIAL (comma-separated; `adb devices` lists them).")
    ] = "host",
    provider: Annotated[
        str, typer.Option("--provider", help="Phone: cpu, xnnpack or nnapi; with --binary also gpu.")
    ] = "cpu",
    binary: Annotated[
        Path | None,
        typer.Option("--binary", help="Phone: LiteRT's benchmark_model for .tflite, instead of the demo app."),
    ] = None,
    warm_up: Annotated[int, typer.Option("--warm-up", min=0, help="Phone: warm-up inferences.")] = 30,
    cool_down: Annotated[str, typer.Option("--cool-down", help="Phone: pause between measurements.")] = "10s",
    commit: Annotated[str | None, typer.Option("--commit", help="Commit shown in the history. Default: git's.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="JSON Lines file to append the records to.")] = None,
    json_output: JsonFlag = False,
) -> None:
    """Measure latency, load time, memory, operators and accuracy; each model in its own process."""
    if binary is not None and device == "host":
        raise UsageError("--binary is for phones: give --device adb:SERIAL with it")
    plan = _plan(duration, runs, interval, repeats)
    thread_numbers, batches = parse_counts("--threads", threads), parse_counts("--batch", batch)
    cores, units = parse_cores(pin), _units(compute_units)
    from facekd.benchmarks.accuracy import default_cache
    from facekd.benchmarks.run import HostRun, run_on_host
    from facekd.benchmarks.subject import find_subjects
    from facekd.schemas.record import require_appendable

    if out is not None:
        require_appendable(out)

    subjects = find_subjects(
        models,
        runtimes=split_list(runtime),
        input_spec=parse_input_spec(mean, std, colour),
        layout=parse_layout(layout),
        output=output,
    )
    if device != "host":
        serials = parse_serials(device)
        if pairs is not None or batches != [1]:
            raise UsageError("--pairs and --batch are for --device host: the phone times one image at a time")
        records = _run_on_phones(
            serials,
            subjects,
            threads=thread_numbers,
            provider=provider,
            binary=binary,
            profile=profile,
            runs=runs,
            warm_up=warm_up,
            interval=interval,
            cool_down_s=parse_duration("--cool-down", cool_down),
            out=out,
            commit=commit,
        )
        show_records(records, out, json_output)
        return
    settings = HostRun(
        threads=thread_numbers,
        batches=batches,
        plan=plan,
        cores=cores,
        compute_units=units,
        profile=profile,
        peak=peak,
        pairs=_pairs(pairs),
        cache=cache or default_cache(),
        trust_input=trust_input,
        out=out,
        commit=commit,
    )
    show_records(run_on_host(subjects, settings, progress=sys.stderr.isatty(), tell=_on_stderr), out, json_output)


def _on_stderr(text: str) -> None:
    print(plain(text), file=sys.stderr, flush=True)


def _run_on_phones(serials: list[str], subjects: Any, **settings: Any) -> list[Any]:
    from facekd.benchmarks.phone import Phone
    from facekd.benchmarks.phone_run import PhoneRun, run_on_phones
    from facekd.benchmarks.phone_server import server_left_as_found
    from facekd.common.progress import progress_bar

    phones = [Phone(serial) for serial in serials]
    cells = len(phones) * len(subjects) * len(settings["threads"])
    with server_left_as_found(), progress_bar(f"{cells} measurements") as bar:
        return run_on_phones(phones, subjects, PhoneRun(**settings), tell=bar.describe)


def report(
    records: Annotated[list[Path], typer.Argument(help="Record files, written by facekd benchmark --out.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for index.html, report.md and the plots.")],
    comparisons: Annotated[
        list[Path] | None, typer.Option("--comparisons", help="File written by compare --out. Repeatable.")
    ] = None,
    results: Annotated[
        Path | None, typer.Option("--results", help="Markdown file: write the table into its section as well.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing report.")] = False,
    json_output: JsonFlag = False,
) -> None:
    """Write a self-contained HTML page, Markdown and PNG plots from records."""
    from facekd.benchmarks.compare import read_comparisons
    from facekd.benchmarks.report import build_report
    from facekd.benchmarks.report.markdown import results_section
    from facekd.common.markdown import replace_section
    from facekd.schemas.record import read_records

    found = [record for path in records for record in read_records(path)]
    compared = [comparison for path in comparisons or () for comparison in read_comparisons(path)]
    written = build_report(found, out, comparisons=compared, overwrite=overwrite)
    if results is not None:
        command = shlex.join(["facekd", *sys.argv[1:]])
        replace_section(results, "facekd benchmark", results_section(found, compared, command=command))
        written.append(results)
    if json_output:
        print_json({"records": len(found), "files": [str(path) for path in written]})
        return
    print_text(f"{len(found)} records: {', '.join(str(path) for path in written)}")


def compare(
    a: Annotated[Path, typer.Argument(help="First model: artefact, bundle, .onnx or .tflite.")],
    b: Annotated[Path, typer.Argument(help="Second model.")],
    threads: Annotated[int, typer.Option("--threads", min=1, help="Threads, for both models.")] = 1,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Batch size, for both models.")] = 1,
    interval: Annotated[
        float, typer.Option("--interval", help="Stop when the interval of the ratio is narrower than this fraction.")
    ] = 0.03,
    duration: Annotated[str, typer.Option("--duration", help="Maximum duration: 500ms, 60s, 2m.")] = "60s",
    rounds: Annotated[int, typer.Option("--rounds", min=2, help="Minimum number of rounds.")] = 12,
    pin: Pin = None,
    mean: Mean = None,
    std: Std = None,
    colour: Colour = None,
    layout: Layout = None,
    output: Output = None,
    out: Annotated[Path | None, typer.Option("--out", help="JSON Lines file to append the result to.")] = None,
    json_output: JsonFlag = False,
) -> None:
    """Run two models interleaved (A B A B) and report the speed ratio with a confidence interval."""
    seconds = parse_duration("--duration", duration)
    cores = parse_cores(pin)
    from facekd.benchmarks.compare import ComparePlan
    from facekd.benchmarks.compare import compare as compare_subjects
    from facekd.benchmarks.subject import find_subjects
    from facekd.schemas.record import append_record, require_appendable

    spec, its_layout = parse_input_spec(mean, std, colour), parse_layout(layout)
    both = []
    for path in (a, b):
        found = find_subjects([path], input_spec=spec, layout=its_layout, output=output)
        if len(found) != 1:
            raise UsageError(f"{path} holds {len(found)} models: compare takes one on each side")
        both.append(found[0])
    plan = ComparePlan(interval=interval, duration_s=seconds, min_rounds=rounds, max_rounds=max(200, rounds))
    if out is not None:
        require_appendable(out)
    with _rounds_bar(plan.interval) as tell:
        result = compare_subjects(both[0], both[1], threads=threads, batch=batch, cores=cores, plan=plan, progress=tell)
    if out is not None:
        append_record(out, result)
    if json_output:
        print_json(result.model_dump(mode="json"))
        return
    rows = [
        [f"A  {result.a.name}", result.a_runtime, f"{result.a_ms:.3f}", f"{result.a_cpu_ms:.3f}"],
        [f"B  {result.b.name}", result.b_runtime, f"{result.b_ms:.3f}", f"{result.b_cpu_ms:.3f}"],
        ["B / A", "", f"{result.wall.ratio:.3f}", f"{result.cpu.ratio:.3f}"],
        ["95 % interval", "", *(f"{r.low:.3f} to {r.high:.3f}" for r in (result.wall, result.cpu))],
    ]
    title = f"{result.rounds} rounds A B, threads {threads}, batch {batch}"
    print_table(title, ["model", "runtime", "ms", "processor ms"], rows, result.verdict)
    if not result.reached:
        print_text(f"the interval is wider than the {100 * interval:g} % asked for: give a longer --duration")


@contextmanager
def _rounds_bar(wanted: float) -> Iterator[Callable[[int, float], None]]:
    """A progress line on stderr: rounds, the current interval and the wanted one."""
    from facekd.common.progress import progress_bar

    with progress_bar("warm-up") as bar:
        yield lambda rounds, width: bar.describe(
            f"round {rounds}, interval {100 * width:.1f} %, until {100 * wanted:g} %"
        )


def schema() -> None:
    """Print the JSON Schema of a record."""
    from facekd.schemas.record import json_schema

    print_json(json_schema())


def _plan(duration: str, runs: int, interval: float, repeats: int) -> Any:
    seconds = parse_duration("--duration", duration)
    if interval <= 0:
        raise UsageError(f"--interval {interval}: give a share above 0, such as 0.05")
    from facekd.benchmarks.harness import Plan

    return Plan(duration_s=seconds, min_runs=runs, interval=interval, max_repeats=repeats)


def _pairs(text: str | None) -> Any:
    if text is None:
        return None
    from facekd.data.opening import load_verification_set

    return load_verification_set(text)


def _units(text: str | None) -> list[str]:
    from facekd.runtimes.coreml_package import UNITS

    units = split_list(text)
    if wrong := [name for name in units if name not in UNITS]:
        raise UsageError(f"--compute-units {wrong[0]}: valid are {', '.join(UNITS)}")
    return units
