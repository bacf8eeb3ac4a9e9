"""`facekd teacher`: a teacher's outputs, computed once."""

import math
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from facekd.cli.output import JsonFlag, print_json, print_table, print_text
from facekd.cli.train import DataOption, RecipeArgument, SetOption, TrustInputFlag, assign
from facekd.common.errors import UsageError

_SHOWN = 20


def register(app: typer.Typer) -> None:
    """Adds the group."""
    group = typer.Typer(no_args_is_help=True)
    group.command("cache")(cache)
    app.add_typer(group, name="teacher", help="Run a teacher once and store its outputs.")


def cache(
    recipe: RecipeArgument,
    out: Annotated[Path, typer.Option("--out", help="Folder for the outputs; the same command goes on in it.")],
    teacher: Annotated[
        str | None, typer.Option("--teacher", help="Teacher bundle or model file; overrides the recipe.")
    ] = None,
    data: DataOption = None,
    views: Annotated[
        int | None,
        typer.Option(
            "--views", help="Augmented views of each image. Default: the recipe's epochs, at most 4.", min=1, max=4096
        ),
    ] = None,
    tokens: Annotated[
        Literal["auto", "none", "float16", "int8"],
        typer.Option("--tokens", help="How to keep the teacher's tokens; auto: float16 if a loss reads them."),
    ] = "auto",
    part: Annotated[
        str, typer.Option("--part", help="K/N: compute every N-th file, from the K-th on, as one of N machines.")
    ] = "1/1",
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", help="Images the teacher sees at once. Default: measured.", min=1)
    ] = None,
    trust_input: TrustInputFlag = False,
    overrides: SetOption = None,
    json_output: JsonFlag = False,
) -> None:
    """Store what a frozen teacher gives for the training faces, so that distillation need not run it.

    Train with --set teacher.cache=OUT. A kill costs at most the file at hand; run the same command again.
    """
    from facekd.distillation.check_teacher import teacher_problem
    from facekd.distillation.fill_cache import fill_cache, frozen_teacher
    from facekd.recipe import load_recipe
    from facekd.training.run import check_teacher_is_there, open_recipe_source
    from facekd.training.stream import epochs_of

    settings = [*(overrides or [])]
    settings += [assign("teacher.bundle", teacher)] if teacher else []
    settings += [assign("data.source", data)] if data else []
    numbers = part.split("/")
    if len(numbers) != 2 or not all(number.isdecimal() for number in numbers):
        raise UsageError(f"--part {part[:80]!r}: give K/N, such as 2/4 for the second of four machines")
    loaded = load_recipe(recipe, settings)
    check_teacher_is_there(loaded)
    source = open_recipe_source(loaded.data)
    network = frozen_teacher(loaded)
    shown = sys.stderr.isatty()
    if loaded.teacher is not None and not trust_input:
        problem = teacher_problem(network, loaded.teacher, source, progress=shown)
        if problem is not None:
            raise UsageError(problem)
    filled = fill_cache(
        loaded,
        source,
        out,
        teacher=network,
        views=views or min(4, math.ceil(epochs_of(loaded, source))),
        tokens=tokens,
        part=(int(numbers[0]), int(numbers[1])),
        batch_size=batch_size,
        progress=shown,
    )
    card, missing = filled.cache.card, filled.cache.missing()
    if json_output:
        print_json(
            {
                "out": str(out),
                "teacher": card.teacher.name,
                "images": card.faces.images,
                "views": card.views,
                "tokens": card.tokens,
                "bytes": card.bytes,
                "computed": filled.computed,
                "computed_before": filled.before,
                "images_per_second": filled.images_per_second,
                "batch_size": filled.batch_size,
                "files_missing": len(missing),
                "unread": dict(filled.broken),
            }
        )
        return
    if filled.broken:
        more = len(filled.broken) - _SHOWN
        caption = f"and {more:,} more: --json lists all" if more > 0 else None
        print_table(f"unread: {len(filled.broken):,}", ["image", "reason"], filled.broken[:_SHOWN], caption=caption)
    kept = "embeddings" if card.tokens == "none" else f"embeddings and tokens ({card.tokens})"
    shown_views = f"{card.views} x {card.faces.images:,} views"
    print_text(f"{out}: {kept} of {card.teacher.name} for {shown_views}, {card.bytes / 1e6:,.0f} MB")
    if filled.computed:
        print_text(
            f"computed {filled.computed:,} at {filled.images_per_second:,.0f} images/s in batches of "
            f"{filled.batch_size}; {filled.before:,} were there"
        )
    if missing:
        print_text(f"{len(missing)} of {card.shards} files are missing: they are other machines' parts")
        return
    print_text(f"train with it:  --set teacher.cache={out}")
