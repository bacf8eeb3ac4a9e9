"""What a training on many devices needs, before it is started: memory, communication, pace.

Weights, optimisers and class centres are counted; the activations of a small batch are recorded and extrapolated.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from facekd.common.errors import UsageError
from facekd.planning.measured import OPTIMISER_SLOTS, Network, batch_of_device, measure_network, planned_precision
from facekd.recipe import Recipe

USABLE = 0.9
"""Share of a device's memory that a plan fills: the rest is the CUDA context, NCCL's buffers and fragmentation."""

_FLOAT = 4  # bytes: weights, gradients, optimisers and logits are float32


@dataclass(frozen=True)
class Memory:
    """Bytes on one device at the fullest moment of a step.

    Attributes:
        weights: everything in the task but the centres, the frozen teacher and buffers too.
        optimiser: momenta of what is trained but the centres, and the moving average.
        activations: what the forward keeps for the backward.
        buckets: DistributedDataParallel's copies of the network's gradients.
        gradients: of the network and the centres.
        centres: this rank's class centres.
        centres_optimiser: their momenta.
        head: logits, the normalised centres of the step and their gradients.
        total: of all, at the fullest moment. That is the end of the head's backward, which makes the centres' gradients
            (with accumulation all gradients are there as well), or the optimiser's step, when two more tensors of the
            gradients' size are there but no activations any more.
    """

    weights: int
    optimiser: int
    activations: int
    buckets: int
    gradients: int
    centres: int
    centres_optimiser: int
    head: int
    total: int


@dataclass(frozen=True)
class Plan:
    """A training by `recipe` on `gpus` devices; bytes and images are of one device unless said otherwise.

    Attributes:
        batch: images of one forward.
        precision: of the activations; `auto` is planned as on CUDA, unless the recipe's device is the CPU.
        steps_per_epoch: optimiser steps.
        memory: at the recipe's own sample rate.
        communication: bytes that a device sends in a step, by what for.
        images_per_second: of all devices, if they never wait for each other: an upper bound. None where no figure of
            one device was given or measured.
        link_bytes_per_second: what a device then sends.
        teacher_cache: bytes that the teacher's outputs of one view of all images take, by what is kept of them.
        recalled_images_per_second: of all devices with the teacher's outputs stored; None where it was not measured.
        sample_rates: GB of memory -> the largest `head.sample_rate` that fits; None if not even the batch's own
            identities do.
    """

    gpus: int
    identities: int
    images: int
    batch: int
    precision: str
    steps_per_epoch: int
    memory: Memory
    communication: dict[str, int]
    images_per_second: float | None
    link_bytes_per_second: float | None
    sample_rates: dict[int, float | None]
    teacher_cache: dict[str, int]
    recalled_images_per_second: float | None = None


def plan(
    recipe: Recipe,
    *,
    gpus: int,
    identities: int,
    images: int,
    gpu_memory: Sequence[int] = (24, 40, 80, 141),
    images_per_second: float | None = None,
    recalled_images_per_second: float | None = None,
) -> Plan:
    """Plans a run.

    Args:
        recipe: its batch is that of all devices; its data are not opened, a teacher's bundle is.
        gpus: devices, one rank each.
        identities, images: of the training data.
        gpu_memory: GB (1e9 bytes) of the devices to find sample rates for.
        images_per_second: of one device with its share of the batch and of the centres.
        recalled_images_per_second: the same with the teacher's outputs stored.

    Classes that a method holds whole on every device (the teacher's, `ofa`'s, `adadistill`'s) are not counted.

    Raises:
        UsageError: a count that is too small, a batch that does not divide, or what `build_task` finds wrong in the
            recipe.
    """
    batch = batch_of_device(recipe, gpus)
    size = recipe.training.batch_size
    if images < size or min(gpu_memory) < 1 or identities < max(2, gpus):
        raise UsageError(
            f"--images {images}, --identities {identities}, --gpu-memory {min(gpu_memory)}: give a batch of {size} "
            f"images or more, at least {max(2, gpus)} identities and 1 GB"
        )
    network = measure_network(recipe)

    def memory(rate: float) -> Memory:
        return memory_of(recipe, network, gpus=gpus, identities=identities, batch=batch, sample_rate=rate)

    steps = -(-(images // size) // recipe.training.accumulation)
    communication = _communication(recipe, network, gpus=gpus, batch=batch)
    pace = None if images_per_second is None else gpus * images_per_second
    steps_per_second = None if pace is None else pace / (size * recipe.training.accumulation)
    return Plan(
        gpus=gpus,
        identities=identities,
        images=images,
        batch=batch,
        precision=planned_precision(recipe).name,
        steps_per_epoch=steps,
        memory=memory(recipe.head.sample_rate),
        communication=communication,
        images_per_second=pace,
        link_bytes_per_second=None if steps_per_second is None else sum(communication.values()) * steps_per_second,
        sample_rates={gb: _largest_rate(memory, gb) for gb in gpu_memory},
        teacher_cache={name: images * size for name, size in network.stored_bytes.items()},
        recalled_images_per_second=None if recalled_images_per_second is None else gpus * recalled_images_per_second,
    )


def memory_of(
    recipe: Recipe, network: Network, *, gpus: int, identities: int, batch: int, sample_rate: float
) -> Memory:
    """The memory of one device; `batch` is its own images."""
    rows = -(-identities // gpus) if network.embedding_width else 0
    everyone = batch * gpus
    seen = min(rows, max(math.ceil(rows * sample_rate), min(rows, everyone)))
    logits = everyone * seen * _FLOAT
    centres = seen * network.embedding_width * _FLOAT
    whole = rows * network.embedding_width * _FLOAT
    # Copies that are alive at once, forward and backward: of the logits, and of the step's centres (normalised, their
    # gradient, what normalising saves). The plain softmax keeps one more of the logits; a sample is a copy of its own.
    if gpus == 1 and sample_rate == 1:
        head = max(3 * logits + centres, 5 * centres)
    elif sample_rate == 1:
        head = max(2 * logits + centres, 5 * centres)
    else:
        head = max(2 * (logits + centres), 6 * centres, whole + centres)
    if gpus > 1:
        head += 2 * everyone * network.embedding_width * _FLOAT  # all ranks' embeddings, raw and normalised
    learnt = whole if network.trained_centres else 0
    static = {
        "weights": network.trained * _FLOAT + network.frozen_bytes,
        "buckets": network.trained * _FLOAT if gpus > 1 else 0,
        "optimiser": (network.momenta + network.averaged) * _FLOAT,
        "centres": whole,
        "centres_optimiser": learnt * OPTIMISER_SLOTS[recipe.optimisation.optimiser],
    }
    activations = network.fixed_bytes + network.bytes_per_image * batch
    gradients = network.trained * _FLOAT + learnt
    kept = gradients if recipe.training.accumulation > 1 else 0
    total = sum(static.values()) + max(kept + activations + head, 3 * gradients)
    return Memory(**static, activations=activations, gradients=gradients, head=head, total=total)


def _communication(recipe: Recipe, network: Network, *, gpus: int, batch: int) -> dict[str, int]:
    """Bytes sent by one device in an optimiser step; a ring all-reduce of n bytes sends 2 (g - 1) / g n."""
    if gpus == 1:
        return {}
    forwards = recipe.training.accumulation
    embeddings = gpus * batch * network.embedding_width * _FLOAT
    return {
        "gradients": 2 * network.trained * _FLOAT * (gpus - 1) // gpus,
        "embeddings": forwards * embeddings * (gpus - 1) // gpus,
        "embedding_gradients": forwards * 2 * embeddings * (gpus - 1) // gpus,
        # maximum, sum of exponentials and target, gradient: one number an image each
        "softmax": forwards * 2 * 4 * gpus * batch * _FLOAT * (gpus - 1) // gpus,
    }


def _largest_rate(memory: Callable[[float], Memory], gigabytes: int) -> float | None:
    """To three digits downwards, by bisection: memory only grows with the rate."""
    room = USABLE * gigabytes * 1e9
    if memory(1.0).total <= room:
        return 1.0
    low, high = 0, 1000
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if memory(middle / 1000).total <= room else (low, middle)
    return low / 1000 if low else None
