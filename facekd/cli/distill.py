"""`facekd distill`: distil a student from a teacher."""

from typing import Annotated

import typer

from facekd.cli.output import JsonFlag
from facekd.cli.train import (
    DataOption,
    OutOption,
    OverwriteFlag,
    RecipeArgument,
    ResumeFlag,
    SetOption,
    TrackerOption,
    TrustInputFlag,
    assign,
    run_verb,
)
from facekd.common.errors import UsageError


def register(app: typer.Typer) -> None:
    """Adds the verb."""

    @app.command()
    def distill(
        recipe: RecipeArgument,
        out: OutOption,
        teacher: Annotated[
            str | None, typer.Option("--teacher", help="Teacher bundle or model file; overrides the recipe.")
        ] = None,
        data: DataOption = None,
        trust_input: TrustInputFlag = False,
        overrides: SetOption = None,
        tracker: TrackerOption = None,
        resume: ResumeFlag = False,
        overwrite: OverwriteFlag = False,
        json_output: JsonFlag = False,
    ) -> None:
        """Distil a student from a teacher. On N devices: torchrun --nproc-per-node N -m facekd distill ..."""
        from facekd.distributed.ranks import process_group
        from facekd.recipe import load_recipe

        settings = [*(overrides or [])]
        settings += [assign("teacher.bundle", teacher)] if teacher else []
        settings += [assign("data.source", data)] if data else []
        settings += ["teacher.trust_input=true"] if trust_input else []
        with process_group():
            loaded = load_recipe(recipe, settings)
            if not loaded.distillation and loaded.head.init != "teacher":  # ProxylessKD inherits the classifier alone
                raise UsageError(
                    f"recipe {recipe} names no distillation method: add one (--set distillation.urfm={{}}), "
                    "or use `facekd train`"
                )
            run_verb(
                recipe,
                settings,
                out=out,
                trackers=tracker,
                resume=resume,
                overwrite=overwrite,
                json_output=json_output,
            )
