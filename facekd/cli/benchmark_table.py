"""The figures of a big benchmark as tables."""

from typing import TYPE_CHECKING, Any

from facekd.cli.output import print_table

if TYPE_CHECKING:
    from facekd.evaluation.benchmarks import BenchmarkReport


def print_benchmark(report: "BenchmarkReport") -> None:
    """Prints one report."""
    figures = report.figures
    if report.benchmark in ("ijbb", "ijbc"):
        _print_ijb(report.benchmark, figures)
    elif report.benchmark == "megaface":
        print_table(
            f"megaface: {figures['probes']:,} probes, {figures['distractors']:,} distractors",
            ["figure", "%"],
            [["rank 1", _percent(figures["rank1"])], *_rates("TAR at FAR", figures["tar_at_far"])],
        )
        if figures["unsupported_fars"]:
            print(f"{figures['impostor']:,} impostor pairs cannot show a FAR of {figures['unsupported_fars'][0]}")
        if left_out := figures["noisy_probes_left_out"] + figures["noisy_distractors_left_out"]:
            print(f"{left_out:,} images left out as the noise lists say")
    elif report.benchmark == "tinyface":
        title = f"tinyface: {figures['probes']:,} probes, {figures['gallery']:,} in the gallery"
        print_table(title, ["figure", "%"], _rates("rank", figures["rank"]))
    else:
        _print_rfw(figures)
    print(report.protocol)
    for name, used in report.features.items():
        print(f"features of {name}: {used['images']:,}, {used['computed_now']:,} computed now: {used['path']}")


def _print_ijb(name: str, figures: dict[str, Any]) -> None:
    if "1:1" in figures:
        one = figures["1:1"]
        print_table(
            f"{name} 1:1, {one['pairs']:,} pairs of {figures['templates']:,} templates",
            ["FAR", "measured at", "TAR, %", "threshold, cosine >"],
            [
                [far, f"{one['measured_far'][far]:.2e}", _percent(tar), f"{one['threshold_cos'][far]:.4f}"]
                for far, tar in one["tar_at_far"].items()
            ],
        )
    if "1:N" in figures:
        many = figures["1:N"]
        rows = [
            [
                key,
                *(_percent(rate) for rate in result["rank"].values()),
                *(_percent(result["tpir_at_fpir"].get(fpir)) for fpir in ("1e-2", "1e-1")),
            ]
            for key, result in many.items()
        ]
        ranks = [f"rank {rank} %" for rank in many["mean"]["rank"]]
        print_table(f"{name} 1:N, TPIR by FPIR", ["gallery", *ranks, "TPIR % at 1e-2", "at 1e-1"], rows)


def _print_rfw(figures: dict[str, Any]) -> None:
    shared = figures["one_threshold_for_all"]
    columns = ["group", "accuracy, %"]
    for rates in shared:
        columns += [f"FMR % at {rates['far']}", "FNMR %"]
    rows = []
    for group, accuracy in figures["accuracy"].items():
        row = [group, _percent(accuracy)]
        for rates in shared:
            row += [f"{100 * rates['false_match'][group]:.3f}", _percent(rates["false_non_match"][group])]
        rows.append(row)
    ratio = figures["skewed_error_ratio"]
    print_table(
        "rfw",
        columns,
        rows,
        f"mean {_percent(figures['mean'])} %, std {100 * figures['std_n_minus_1']:.2f}, skewed error ratio "
        f"{'none: a group has no error' if ratio is None else f'{ratio:.2f}'}; "
        "false match rate (FMR) and false non-match rate (FNMR) at one threshold for all groups",
    )


def _rates(what: str, rates: dict[str, float]) -> list[list[str]]:
    return [[f"{what} {key}", _percent(rate)] for key, rate in rates.items()]


def _percent(rate: float | None) -> str:
    return "" if rate is None else f"{100 * rate:.2f}"
