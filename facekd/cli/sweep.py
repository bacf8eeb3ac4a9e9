"""`facekd sweep`: compare methods, students and seeds under the same conditions."""

from pathlib import Path
from typing import Annotated

import typer

from facekd.cli.output import JsonFlag
from facekd.cli.train import SetOption
from facekd.common.errors import FacekdError, UsageError


def register(app: typer.Typer) -> None:
    """Adds the verb."""

    @app.command()
    def sweep(
        grid: Annotated[str, typer.Argument(help="A YAML file, or the name of a shipped grid.")],
        out: Annotated[
            Path | None, typer.Option("--out", help="Folder of the sweep; an unfinished sweep is resumed.")
        ] = None,
        teacher: Annotated[
            str | None, typer.Option("--teacher", help="Teacher bundle or model file; overrides the grid.")
        ] = None,
        overrides: SetOption = None,
        reuse: Annotated[
            list[Path] | None,
            typer.Option("--reuse", help="Reuse finished cells of another sweep's folder. Repeatable."),
        ] = None,
        plan: Annotated[bool, typer.Option("--plan", help="Only list the cells and their recipe hashes.")] = False,
        json_output: JsonFlag = False,
    ) -> None:
        """Run and compare the methods, students and seeds of a grid. The same command resumes an interrupted sweep."""
        if plan:
            _show_plan(grid, overrides or [], teacher, json_output=json_output)
            return
        if out is None:
            raise UsageError("give --out DIR for the sweep, or --plan to only list its cells")
        import shlex
        import sys

        from facekd.cli.output import print_json, print_table
        from facekd.sweep.report import picture_names, table_rows
        from facekd.sweep.sweep import run_sweep

        done = run_sweep(
            grid,
            out=out,
            overrides=overrides or [],
            teacher=teacher,
            reuse=reuse or [],
            resume_command=shlex.join(["facekd", *sys.argv[1:]]),
        )
        if json_output:
            print_json({**done.to_dict(), "out": out})
        else:
            for on in done.sets:
                columns, rows = _narrow(*table_rows(done, on))
                files = f"report {out / 'compare.md'}\ncells  {out / 'compare.csv'}"
                for name in picture_names(done):
                    files += f"\nplot   {out / name}"
                print_table(f"{done.grid.name} on {on}, {done.grid.budget.describe()} per run", columns, rows, files)
        if done.failures:
            first = done.failures[0]
            raise FacekdError(
                f"{len(done.failures)} of {len(done.cells)} cells failed, the first ({first.cell}): {first.reason}. "
                "Run the same command to retry them"
            )

    @app.command(
        "compare",
        hidden=True,
        add_help_option=False,
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    )
    def renamed(context: typer.Context) -> None:
        raise UsageError("`facekd compare` is called `facekd sweep` now, with the same arguments and options")


def _narrow(columns: list[str], rows: list[list[str]]) -> tuple[list[str], list[list[str]]]:
    """The report's table for a terminal of 80 columns: each std beside its mean, no student column if there is one."""
    spreads = [index for index, name in enumerate(columns) if name == "std"]
    left_out = {*spreads, columns.index("images")}
    student = columns.index("student")
    if len({row[student] for row in rows if row[student]}) < 2:
        left_out.add(student)
    narrow = []
    for row in rows:
        cells = list(row)
        for index in spreads:
            cells[index - 1] += f" ± {row[index]}" if row[index] else ""
        narrow.append([cell for index, cell in enumerate(cells) if index not in left_out])
    return [name for index, name in enumerate(columns) if index not in left_out], narrow


def _show_plan(grid: str, overrides: list[str], teacher: str | None, *, json_output: bool) -> None:
    from facekd.cli.output import print_json, print_table
    from facekd.sweep.sweep import planned_cells

    cells, budget = planned_cells(grid, overrides=overrides, teacher=teacher)
    if json_output:
        print_json(
            {
                "budget": budget,
                "cells": [
                    {
                        "method": cell.method,
                        "student": cell.student,
                        "seed": cell.seed,
                        "recipe_hash": None if budget.endswith("minutes") else cell.recipe.hash(),
                        "recipe": cell.recipe,
                    }
                    for cell in cells
                ],
            }
        )
        return
    rows = []
    for cell in cells:
        terms = ", ".join(next(iter(term)) for term in cell.recipe.distillation)
        # Steps that are still to be measured will be part of the recipe.
        digest = "" if budget.endswith("minutes") else cell.recipe.hash()[:12]
        rows.append((cell.method, cell.student, cell.seed, terms, digest))
    print_table(f"{len(cells)} cells, {budget} each", ("method", "student", "seed", "terms", "recipe"), rows)
