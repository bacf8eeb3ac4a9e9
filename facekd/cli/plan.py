"""`facekd plan`: what training on several devices needs, before you start it."""

from typing import Annotated

import typer

from facekd.cli.output import JsonFlag, print_json, print_table
from facekd.cli.parsing import parse_integers
from facekd.cli.train import RecipeArgument, SetOption


def register(app: typer.Typer) -> None:
    """Adds the verb to `app`."""
    app.command("plan")(plan)


def plan(
    recipe: RecipeArgument,
    gpus: Annotated[int, typer.Option("--gpus", help="Number of devices, one process each.")],
    identities: Annotated[int, typer.Option("--identities", help="Number of identities in the training data.")],
    images: Annotated[int, typer.Option("--images", help="Number of images in the training data.")],
    gpu_memory: Annotated[
        str, typer.Option("--gpu-memory", help="Device memory sizes in GB (comma-separated) to find sample rates for.")
    ] = "24,40,80,141",
    images_per_second: Annotated[
        float | None,
        typer.Option(
            "--images-per-second", help="Speed of one device with its share of the batch and class centres.", min=0
        ),
    ] = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="Measure the speed on this machine's device instead.")
    ] = False,
    overrides: SetOption = None,
    json_output: JsonFlag = False,
) -> None:
    """Estimate memory, communication and sample rate of training on several devices."""
    from facekd.common.errors import UsageError
    from facekd.common.progress import progress_bar
    from facekd.distillation.teacher_cache import can_be_stored
    from facekd.planning.measured import measure_pace
    from facekd.planning.plan import plan as make_plan
    from facekd.recipe import load_recipe

    sizes = parse_integers(gpu_memory)
    if not sizes:
        raise UsageError(f"--gpu-memory {gpu_memory[:80]!r}: give comma-separated whole GB, such as 24,80")
    if measure and images_per_second is not None:
        raise UsageError("--measure and --images-per-second contradict each other: give one")
    loaded = load_recipe(recipe, overrides or [])
    recalled = None
    if measure:
        with progress_bar("measuring the speed"):
            images_per_second = measure_pace(loaded, gpus=gpus, identities=identities)
            if can_be_stored(loaded):
                recalled = measure_pace(loaded, gpus=gpus, identities=identities, recalled=True)
    with progress_bar("measuring the network's memory, up to some minutes"):
        made = make_plan(
            loaded,
            gpus=gpus,
            identities=identities,
            images=images,
            gpu_memory=sizes,
            images_per_second=images_per_second,
            recalled_images_per_second=recalled,
        )
    if json_output:
        print_json({**vars(made), "memory": vars(made.memory)})
        return
    memory = {name.replace("_", " "): f"{value / 1e9:.2f} GB" for name, value in vars(made.memory).items()}
    sent = {f"sent per step: {name}": f"{value / 1e6:.1f} MB" for name, value in made.communication.items()}
    rates = {f"sample rate for {gb} GB": rate or "none fits" for gb, rate in made.sample_rates.items()}
    stored = {f"teacher cache, a view: {name}": f"{size / 1e9:.2f} GB" for name, size in made.teacher_cache.items()}
    rows = [
        *memory.items(),
        *((name.replace("_", " "), value) for name, value in sent.items()),
        *stored.items(),
        *((name, value if isinstance(value, str) else f"{value:g}") for name, value in rates.items()),
    ]
    title = f"{loaded.name} on {gpus} x {made.batch} images, {made.precision}, {identities} identities, {images} images"
    caption = f"total: peak within a step. {made.steps_per_epoch} steps an epoch."
    if made.images_per_second is not None:
        hours = images / made.images_per_second / 3600
        caption += f"\nAll devices: {made.images_per_second:.0f} images/s, {hours:.1f} h an epoch, an upper bound "
        caption += (
            f"without waiting for communication; each device sends {(made.link_bytes_per_second or 0) / 1e6:.0f} MB/s."
        )
    if made.recalled_images_per_second is not None and made.images_per_second is not None:
        factor = made.recalled_images_per_second / made.images_per_second
        saved = images * (1 / made.images_per_second - 1 / made.recalled_images_per_second) / 3600
        caption += (
            f"\nWith the teacher's outputs stored (facekd teacher cache): {made.recalled_images_per_second:.0f} "
            f"images/s, {factor:.1f} times as fast; each epoch after the first of a view saves {saved:.1f} h."
        )
    print_table(title, ("of one device", ""), rows, caption)
