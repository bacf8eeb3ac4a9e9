"""The precision of a run: its checkpoint's, its recipe's, or what is fastest on this machine."""

from typing import Any

from torch import nn

from facekd.distributed import collectives
from facekd.recipe import TrainingConfig
from facekd.training import distributed
from facekd.training.data import TrainingData
from facekd.training.log import Reporter
from facekd.training.precision import Precision, candidates, choose_device, fastest_training


def choose_precision(
    settings: TrainingConfig,
    saved: dict[str, Any] | None,
    task: nn.Module,
    data: TrainingData,
    reporter: Reporter,
) -> tuple[Precision, dict[str, Any]]:
    """The precision of the checkpoint, else of the recipe, measured on the first batch where it says auto.

    Args:
        settings: the recipe's section.
        saved: the checkpoint that is gone on from.
        task: what is trained.
        data: what it is trained on.
        reporter: is told what was measured.

    Returns:
        the precision, and what was measured for the log.
    """
    device = choose_device(settings.device)
    if saved is not None:
        return Precision(**saved["precision"], device=device), {}
    if collectives.world() > 1:
        return distributed.choose_precision(settings.precision, settings.channels_last, device), {}
    options = candidates(settings.precision, settings.channels_last, device)
    if len(options) == 1:
        return options[0], {}
    batch = data.first_batch()
    order = fastest_training(options, task, batch)
    pace = {one.precision.describe(): len(batch["labels"]) / one.seconds for one in order}
    listing = ", ".join(f"{name} {images:.1f}" for name, images in pace.items())
    reporter.say(f"precision: {order[0].precision.describe()} is fastest here (images/s: {listing})")
    return order[0].precision, {"chosen": order[0].precision.describe(), "images_per_second": pace}
