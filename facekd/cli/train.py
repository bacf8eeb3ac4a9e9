"""`facekd train`: train a teacher, or a student without a teacher, with a margin head."""

from pathlib import Path
from typing import Annotated

import typer

from facekd.cli.output import JsonFlag

RecipeArgument = Annotated[str, typer.Argument(help="A YAML file, or the name of a shipped recipe.")]
DataOption = Annotated[
    str | None,
    typer.Option("--data", help="Training faces; overrides the recipe: .rec, folder or synthetic:identities=64."),
]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="Override a field: --set training.epochs=5. Repeatable.")
]
OutOption = Annotated[Path, typer.Option("--out", help="New folder for the bundle, checkpoints and log.")]
ResumeFlag = Annotated[bool, typer.Option("--resume", help="Resume from the newest checkpoint in --out.")]
OverwriteFlag = Annotated[bool, typer.Option("--overwrite", help="Delete the earlier run in --out first.")]


TrackerOption = Annotated[
    list[str] | None,
    typer.Option(
        "--tracker",
        help="Where figures are shown: tensorboard (default, if installed), trackio, wandb or none. Repeatable.",
    ),
]

TrustInputFlag = Annotated[
    bool,
    typer.Option(
        "--trust-input",
        help="Skip the check on the training faces that the teacher is fed the right colour order and normalisation.",
    ),
]


def register(app: typer.Typer) -> None:
    """Adds the verb."""

    @app.command()
    def train(
        recipe: RecipeArgument,
        out: OutOption,
        data: DataOption = None,
        trust_input: TrustInputFlag = False,
        overrides: SetOption = None,
        tracker: TrackerOption = None,
        resume: ResumeFlag = False,
        overwrite: OverwriteFlag = False,
        json_output: JsonFlag = False,
    ) -> None:
        """Train a teacher or an undistilled student. On N devices: torchrun --nproc-per-node N -m facekd train ..."""
        from facekd.distributed.ranks import process_group

        settings = [*(overrides or []), *([assign("data.source", data)] if data else [])]
        settings += ["teacher.trust_input=true"] if trust_input else []
        with process_group():
            run_verb(
                recipe,
                settings,
                out=out,
                trackers=tracker,
                resume=resume,
                overwrite=overwrite,
                json_output=json_output,
            )


def assign(field: str, value: str) -> str:
    """A `--set` string that gives `field` exactly this text, whatever YAML would make of it."""
    import json

    return f"{field}={json.dumps(value)}"


def run_verb(
    recipe: str,
    settings: list[str],
    *,
    out: Path,
    trackers: list[str] | None = None,
    resume: bool,
    overwrite: bool,
    json_output: bool,
) -> None:
    """What `train` and `distill` share: run the recipe, show the table."""
    from facekd.cli.output import print_json, print_table, print_text
    from facekd.distributed import collectives
    from facekd.recipe import load_recipe
    from facekd.training.finish import RunResult, to_dict
    from facekd.training.run import run_recipe
    from facekd.training.trackers import DEFAULT, TRACKERS

    chosen = list(DEFAULT) if trackers is None else [name for name in trackers if name != "none"]
    for name in chosen:
        TRACKERS.find(name, wanted_by="--tracker")  # before anything is opened or made
    loaded = load_recipe(recipe, settings)
    result: RunResult = run_recipe(
        loaded,
        out=out,
        resume=resume,
        overwrite=overwrite,
        resume_command=resume_command(),
        trackers=chosen,
    )
    if collectives.rank() > 0:  # every rank has the result, one says it
        return
    if json_output:
        print_json(to_dict(loaded, result))
        return
    rows = []
    sets = [("dev", result.dev), *(("report", one) for one in result.report.values())]
    sets.append(("dev, teacher", result.teacher))
    for role, one in sets:
        if one is not None:
            rows.append((one.name, role, one.accuracy_percent, one.protocol, f"{one.auc:.4f}"))
    budget = f"step {result.chosen_step} of {result.total_steps}, {result.images_per_second:.0f} images/s"
    caption = f"weights of {budget}\nbundle  {result.bundle}\nresult  {result.path}"
    if rows:
        print_table(loaded.name, ("pairs", "role", "accuracy, %", "by", "AUC"), rows, caption)
    else:  # the recipe names no pairs
        print_text(f"{loaded.name}\n{caption}")


def resume_command() -> str:
    """The command line of this process, with --resume and without --overwrite, under torchrun where it was so."""
    import os
    import shlex
    import sys

    from facekd.distributed.ranks import launched

    start = ["facekd"]
    if launched():
        start = ["torchrun", "--nproc-per-node", os.environ.get("LOCAL_WORLD_SIZE", "1"), "-m", "facekd"]
    words = [word for word in sys.argv[1:] if word not in ("--overwrite", "--resume")]
    return shlex.join([*start, *words, "--resume"])
