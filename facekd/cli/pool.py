"""Options of the verbs that work on every core or on a cluster."""

from typing import Annotated

import typer

Workers = Annotated[int | None, typer.Option(min=1, help="Processes to work in. Default: one for each core.")]
DaskAddress = Annotated[
    str | None,
    typer.Option("--dask", help="Dask scheduler, such as tcp://10.0.0.1:8786; its workers see the same files."),
]
