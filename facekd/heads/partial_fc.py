"""Partial FC: class centres sharded over ranks, and a softmax over a sample of the negative ones."""

import math
from typing import Any

import torch
from torch.nn import functional as F

from facekd.common.errors import UsageError
from facekd.distributed import collectives
from facekd.heads.margin import MarginHead, angles


def identity_loss(head: MarginHead, embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Cross entropy of a margin head: raw embeddings [b, e], labels int64 [b] -> scalar, the mean over this rank's b.

    Whole centres and sample rate 1 are the plain softmax; else it is Partial FC. An error is UsageError, as in
    `MarginHead.forward`.
    """
    if head.owned is None and head.sample_rate == 1:
        return F.cross_entropy(head(embeddings, labels), labels)
    output: torch.Tensor = (_partial_fc if head.owned is None else _among_ranks)(head, embeddings, labels)
    return output


def shard_bounds(n: int, rank: int, world: int) -> tuple[int, int]:
    """The classes [first, last) of one of `world` ranks: torch.chunk's, which are DTensor's; the last has fewer."""
    share = -(-n // world)
    return min(n, share * rank), min(n, share * (rank + 1))


def shard(head: MarginHead, rank: int, world: int) -> None:
    """Leaves a head only its rank's rows of the centres; before the optimiser is made.

    Raises:
        UsageError: there are so few classes that a rank would have none.
    """
    n = head.num_identities
    if shard_bounds(n, world - 1, world)[0] >= n:
        fit = max(ranks for ranks in range(1, world) if shard_bounds(n, ranks - 1, ranks)[0] < n)
        raise UsageError(f"{n} identities cannot be sharded over {world} ranks: start at most {fit}")
    first, last = shard_bounds(n, rank, world)
    trained = head.centres.requires_grad
    head.centres = torch.nn.Parameter(head.centres.detach()[first:last].clone(), requires_grad=trained)
    head.owned = (first, last)


def _partial_fc(head: MarginHead, embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Every rank classifies the images of all ranks among its own centres (arXiv 2203.15565, section 3.2).

    The softmax's denominator is that of all ranks. At sample rate 1 loss and gradients are exact. Below, each rank
    takes the classes that occur in the batch and fills up to `sample_rate` of its own with others drawn at random; a
    centre that is not drawn has gradient 0 and is moved by momentum and weight decay alone (facekd's choice: plain SGD
    on a sampled objective, where InsightFace leaves such a row as it is).

    Gradients follow DistributedDataParallel's convention, which divides sums over ranks by their number: what reaches
    the embeddings is that of the sum of all ranks' losses, and the centres' is divided here, as no wrapper does it.
    """
    head.check(embeddings, labels)
    first, last = head.owned or (0, head.num_identities)
    sharded = head.owned is not None
    sizes = [size for (size,) in collectives.gather_numbers(len(labels))] if sharded else [len(labels)]
    rank = collectives.rank() if sharded else 0
    with torch.autocast(device_type=embeddings.device.type, enabled=False):
        dtype = torch.promote_types(head.centres.dtype, torch.float32)
        raw = embeddings.to(dtype)
        if sharded:
            raw, labels = collectives.concatenate(raw, sizes), collectives.concatenate(labels, sizes)
        # Every row is kept, also where its class is another rank's: picking rows out would make the host wait for a
        # count of the device.
        mine = (labels >= first) & (labels < last)
        centres, columns = _sample(head, torch.where(mine, labels - first, 0), mine)
        if sharded and centres.requires_grad:
            centres.register_hook(lambda gradient: gradient / collectives.world())
        units, centres = F.normalize(raw), F.normalize(centres.to(dtype))
        logits = F.linear(units * head.scale, centres)
        # Angles and targets as MarginHead's, with angle 0 where the class is another rank's.
        theta = torch.where(mine, angles(units, centres[columns]), 0)
        norms = torch.linalg.vector_norm(raw.detach(), dim=1)
        change = head.scale * (head.target_cosine(theta, norms) - torch.cos(theta))
        rows = torch.arange(len(raw), device=raw.device)
        logits = logits.index_put_((rows, columns), torch.where(mine, change, 0), accumulate=True)
        losses: torch.Tensor = _CrossEntropy.apply(logits, columns, mine, sharded)
    output: torch.Tensor = losses.split(sizes)[rank].mean()
    return output


_among_ranks = torch.compiler.disable(_partial_fc)  # gradients' hooks and collectives are not for a graph


def _sample(head: MarginHead, classes: torch.Tensor, mine: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The centres of this step [s, e], and where among them each of `classes` (local indices) [B] is.

    Of a row that is not `mine` both are without meaning. s is the sample rate's share, or B where that is more, as if
    all images were of different classes: how many there are is known to the device alone.
    """
    count = len(head.centres)
    if head.sample_rate == 1:
        return head.centres.view_as(head.centres), classes  # a view, since the caller may hang a hook on it
    wanted = min(count, max(len(classes), math.ceil(head.sample_rate * count)))
    chance = torch.rand(count, device=head.centres.device)
    # Above every draw: they are taken first.
    chance.scatter_reduce_(0, classes, torch.where(mine, 2.0, -1.0).to(chance.dtype), "amax")
    chosen = torch.topk(chance, wanted, sorted=False).indices.sort().values
    return head.centres[chosen], torch.searchsorted(chosen, classes).clamp_max(wanted - 1)


class _CrossEntropy(torch.autograd.Function):
    """log sum exp over the logits of all ranks minus the target's, by sample: [B, s] on each rank -> [B] on all.

    Beside the logits it keeps one tensor of their size; the backward works in it.
    """

    @staticmethod
    def forward(
        ctx: Any, logits: torch.Tensor, columns: torch.Tensor, mine: torch.Tensor, sharded: bool
    ) -> torch.Tensor:
        top = logits.amax(dim=1)
        if sharded:
            collectives.max_(top)
        shares = (logits - top[:, None]).exp_()
        own = logits.gather(1, columns[:, None]).squeeze(1)
        target = torch.where(mine, own - top, 0)
        sums = torch.stack([shares.sum(dim=1), target])
        if sharded:
            collectives.sum_(sums)
        ctx.save_for_backward(shares, sums[0], columns, mine)
        ctx.sharded = sharded
        return sums[0].log() - sums[1]

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        shares, total, columns, mine = ctx.saved_tensors
        gradient = gradients[0].clone()  # each rank's own images only: together they are all
        if ctx.sharded:
            collectives.sum_(gradient)
        shares.mul_((gradient / total)[:, None])
        shares.scatter_add_(1, columns[:, None], torch.where(mine, -gradient, 0)[:, None])
        return shares, None, None, None
