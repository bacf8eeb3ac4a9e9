"""`facekd evaluate`: a bundle, an exported artefact or a foreign model file, by the published protocols."""

import functools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from facekd.cli.output import JsonFlag, print_json, print_table, print_text
from facekd.cli.parsing import parse_folds, parse_input_spec, parse_layout
from facekd.common.errors import UsageError

if TYPE_CHECKING:
    from facekd.evaluation.evaluate import Evaluation
    from facekd.runtimes.embedder import Embedder

Mean = Annotated[
    str | None, typer.Option(help="Model file without manifest: pixel mean, one number or R,G,B. Default: 127.5.")
]
Std = Annotated[
    str | None, typer.Option(help="Model file without manifest: pixel standard deviation, one number or R,G,B.")
]
Colour = Annotated[str | None, typer.Option(help="Model file without manifest: channel order, RGB (default) or BGR.")]
Layout = Annotated[
    str | None, typer.Option(help="Model file without manifest: NCHW or NHWC, if its shape is ambiguous.")
]
Output = Annotated[
    str | None, typer.Option("--output", help="Model file without manifest: name of the output that is the embedding.")
]
RuntimeName = Annotated[
    str | None,
    typer.Option("--runtime", help="Runtime by name, or package.module:Class. Default: from the file suffix."),
]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads. Default: all.")]
TrustInput = Annotated[
    bool,
    typer.Option(
        "--trust-input", help="Skip the check that no other colour order or normalisation separates people better."
    ),
]
BatchSize = Annotated[int, typer.Option(min=1, help="Batch size.")]


def register(app: typer.Typer) -> None:
    """Attaches the verb."""
    app.command("evaluate")(evaluate)


def evaluate(
    model: Annotated[Path, typer.Argument(help="Bundle or artefact folder, or any .onnx or .tflite file.")],
    pairs: Annotated[
        list[str] | None, typer.Option(help="Pairs: a .bin file, a list (with --images) or synthetic:...; repeatable.")
    ] = None,
    benchmark: Annotated[
        str | None,
        typer.Option(
            help="Instead of --pairs: ijbb, ijbc, megaface, tinyface, rfw or package.module:Class; needs --data."
        ),
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of the benchmark, in its published layout.")] = None,
    features: Annotated[
        Path | None, typer.Option(help="Cache folder for the benchmark's features. Default: ~/.cache/facekd/features.")
    ] = None,
    keep_norm: Annotated[bool, typer.Option(help="IJB: weight each image by its feature norm.")] = True,
    detector_score: Annotated[bool, typer.Option(help="IJB: weight each image by its detector score.")] = True,
    images: Annotated[Path | None, typer.Option(help="Folder of the images that a list of pairs names.")] = None,
    folds: Annotated[
        str, typer.Option(help="all, or some of the ten folds such as 1,2 (results are then not comparable).")
    ] = "all",
    gallery: Annotated[
        str | None,
        typer.Option(
            help="Instead of --pairs: people enrolled, such as 10,100: how often is a stranger named? Needs --faces."
        ),
    ] = None,
    faces: Annotated[
        str | None, typer.Option(help="With --gallery: aligned faces with identities (a .rec, a folder a person, ...).")
    ] = None,
    fpir: Annotated[
        str, typer.Option(help="With --gallery: shares of the strangers' searches that may name somebody.")
    ] = "1e-1,1e-2,1e-3",
    mean: Mean = None,
    std: Std = None,
    colour: Colour = None,
    layout: Layout = None,
    output: Output = None,
    runtime: RuntimeName = None,
    trust_input: TrustInput = False,
    detector: Annotated[
        Path | None, typer.Option(help="YuNet or SCRFD .onnx file: detect and align the faces of --images.")
    ] = None,
    missing: Annotated[str, typer.Option(help="If no face is found: refuse, or centre (crop the centre).")] = "refuse",
    out: Annotated[
        Path | None, typer.Option(help="Folder for evaluation.png (ROC, DET, scores) and evaluation.json.")
    ] = None,
    scores: Annotated[Path | None, typer.Option(help="CSV file to write: the score of every pair.")] = None,
    save_thresholds: Annotated[
        bool, typer.Option("--save-thresholds", help="Store the thresholds in the bundle, for `facekd verify`.")
    ] = False,
    batch_size: BatchSize = 64,
    threads: Threads = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")] = False,
    json_output: JsonFlag = False,
) -> None:
    """Evaluate 1:1 verification with the 10-fold protocol, a published benchmark, or strangers before a gallery."""
    if sum(asked is not None for asked in (pairs, benchmark, gallery)) != 1:
        raise UsageError("give one of --pairs SET, --benchmark NAME --data FOLDER and --gallery SIZES --faces SOURCE")
    if (gallery is None) != (faces is None):
        raise UsageError("--gallery SIZES and --faces SOURCE belong together")
    if pairs is None:
        # What belongs to pairs would be ignored elsewhere: refused, so that nobody waits hours for a file.
        given = {
            "--images": images, "--detector": detector, "--scores": scores,
            "--save-thresholds": save_thresholds or None, "--folds": None if folds == "all" else folds,
            "--missing": None if missing == "refuse" else missing,
        }  # fmt: skip
        if unused := [option for option, value in given.items() if value is not None]:
            asked = f"--benchmark {benchmark}" if benchmark is not None else f"--gallery {gallery}"
            raise UsageError(f"{unused[0]} belongs to --pairs: leave it out with {asked}")
    if gallery is not None and faces is not None:
        if unused := [name for name, value in (("--data", data), ("--out", out), ("--features", features)) if value]:
            raise UsageError(f"{unused[0]} has no meaning with --gallery: leave it out")
        from facekd.cli.gallery import evaluate_galleries

        embedder = open_model(
            model, mean=mean, std=std, colour=colour, layout=layout, output=output, threads=threads, runtime=runtime
        )
        evaluate_galleries(
            model, embedder, faces, sizes=gallery, promises=fpir, batch_size=batch_size, json_output=json_output
        )
        return
    if benchmark is not None:
        _evaluate_benchmark(
            model,
            functools.partial(
                open_model,
                model,
                mean=mean,
                std=std,
                colour=colour,
                layout=layout,
                output=output,
                threads=threads,
                runtime=runtime,
            ),
            benchmark,
            data,
            out=out,
            overwrite=overwrite,
            json_output=json_output,
            cache=features,
            keep_norm=keep_norm,
            detector_score=detector_score,
            batch_size=batch_size,
        )
        return
    if data is not None or features is not None:
        raise UsageError("--data and --features belong to --benchmark: leave them out with --pairs")
    assert pairs is not None
    from facekd.evaluation.evaluate import evaluate_model

    if missing not in ("refuse", "centre"):
        raise UsageError(f"--missing {missing}: valid are refuse and centre")
    outputs = [scores] + ([out / "evaluation.json", out / "evaluation.png"] if out else [])
    if there := [path for path in outputs if path is not None and path.exists() and not overwrite]:
        raise UsageError(f"{there[0]} exists: choose another place, or overwrite it (--overwrite)")
    if save_thresholds and not (model / "card.json").is_file():
        raise UsageError(f"--save-thresholds writes into a bundle's card.json: {model} is not a bundle")
    evaluation = evaluate_model(
        model,
        open_model(
            model, mean=mean, std=std, colour=colour, layout=layout, output=output, threads=threads, runtime=runtime
        ),
        pairs,
        images=images,
        folds=parse_folds(folds),
        detector=detector,
        missing=missing,  # type: ignore[arg-type]
        out=out,
        scores=scores,
        save_thresholds=save_thresholds,
        trust_input=trust_input,
        overwrite=overwrite,
        batch_size=batch_size,
        progress=sys.stderr.isatty(),
    )
    if json_output:
        print_json(evaluation.to_dict())
    else:
        _print(evaluation)


def _evaluate_benchmark(
    model: Path,
    open_it: Callable[[], "Embedder"],
    benchmark: str,
    data: Path | None,
    *,
    out: Path | None,
    overwrite: bool,
    json_output: bool,
    **options: Any,
) -> None:
    from facekd.common.trust import names_code
    from facekd.common.writing import atomic_file
    from facekd.evaluation.protocols import PROTOCOLS, ProtocolOptions, run_protocol

    if not names_code(benchmark) and benchmark not in PROTOCOLS.names():
        raise UsageError(f"--benchmark {benchmark}: valid are {', '.join(PROTOCOLS.names())}")
    protocol = PROTOCOLS.find(benchmark, wanted_by="--benchmark")
    if data is None:
        raise UsageError(f"--benchmark {benchmark} needs --data: the folder of the benchmark as it is published")
    file = None if out is None else out / f"{benchmark.replace(':', '.')}.json"
    if file is not None and file.exists() and not overwrite:
        raise UsageError(f"{file} exists: choose another place, or overwrite it (--overwrite)")
    report = run_protocol(benchmark, data, model, open_it(), ProtocolOptions(progress=sys.stderr.isatty(), **options))
    result = {"model": str(model), **report.to_dict()}
    if file is not None:
        with atomic_file(file, overwrite=overwrite) as stream:
            stream.write((json.dumps(result, indent=2) + "\n").encode())
    if json_output:
        print_json(result)
    else:
        for table in protocol().tables(report.figures):
            table.print()
        print_text(report.protocol)
        for name, used in report.features.items():
            print_text(f"features of {name}: {used['images']:,}, {used['computed_now']:,} computed now: {used['path']}")


def open_model(
    path: Path,
    *,
    mean: str | None,
    std: str | None,
    colour: str | None,
    layout: str | None,
    threads: int | None,
    output: str | None = None,
    runtime: str | None = None,
) -> "Embedder":
    """Opens what the options of a verb describe."""
    from facekd.runtimes.opening import open_model as open_it

    return open_it(
        path,
        input_spec=parse_input_spec(mean, std, colour),
        layout=parse_layout(layout),
        output=output,
        threads=threads,
        runtime=runtime,
    )


def _print(evaluation: "Evaluation") -> None:
    from facekd.evaluation.verification import far_name

    results = [report.result for report in evaluation.sets]
    print_table(
        f"{evaluation.model}: verification",
        ["set", "pairs", "accuracy, %", "by", "EER, %", "AUC", "images", "seconds"],
        [
            [
                result.name,
                f"{result.pairs:,}",
                result.accuracy_percent,
                result.protocol,
                f"{100 * result.eer:.2f}",
                f"{result.auc:.5f}",
                f"{result.images_embedded:,}",
                f"{result.seconds:.1f}",
            ]
            for result in results
        ],
    )
    rows = [
        [result.name, far_name(far), f"{100 * tar:.2f}", f"{result.threshold_cos[far]:.4f}", f"{limit:.4f}"]
        for result in results
        for (far, tar), limit in zip(result.tar_at_far.items(), result.threshold_distance.values(), strict=True)
    ]
    if rows:
        print_table(
            "at a false accept rate",
            ["set", "FAR", "TAR, %", "threshold, cosine >", "threshold, squared L2 <"],
            rows,
        )
    for result in results:
        for note in result.notes():
            print_text(f"{result.name}: {note}")
    for report in evaluation.sets:
        if report.not_found:
            print_text(f"{report.result.name}: no face found, centre cropped: {', '.join(report.not_found)}")
    for what, path in evaluation.files.items():
        print_text(f"{what}: {path}")
