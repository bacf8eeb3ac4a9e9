"""Trains a small net with sharded centres on 2 and 4 ranks, and beside it the plain softmax on the whole batch.

Prints one JSON object: for each head and number of ranks the largest difference of losses, weights and centres.
"""

import json
import sys
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

sys.path.insert(0, str(Path(__file__).parents[1]))
import forked_ranks

from facekd.distributed import collectives
from facekd.heads import HEADS, create_head
from facekd.heads.partial_fc import identity_loss, shard, shard_bounds

IDENTITIES, STEPS = 11, 4
SIZES = {2: [7, 5], 4: [2, 4, 3, 3]}  # broken images leave the ranks unequal batches


def batch(step: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(step)
    images = torch.randn(12, 6, generator=generator, dtype=torch.double)
    return images, torch.randint(0, IDENTITIES, (12,), generator=generator)


def made(name: str) -> tuple[nn.Linear, nn.Module]:
    torch.manual_seed(1)
    head = create_head(name, embedding_width=8, num_identities=IDENTITIES, scale=16.0)
    return nn.Linear(6, 8).double(), head.double()


def sgd(*modules: nn.Module) -> torch.optim.Optimizer:
    parameters = [parameter for module in modules for parameter in module.parameters()]
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=5e-4)


def compare(name: str) -> dict[str, float]:
    world, rank = collectives.world(), collectives.rank()
    net, head = made(name)
    plain_net, plain_head = made(name)
    shard(head, rank, world)
    model = DistributedDataParallel(net)
    optimiser, plain_optimiser = sgd(net, head), sgd(plain_net, plain_head)
    difference = {"loss": 0.0}
    for step in range(STEPS):
        images, labels = batch(step)
        mine = SIZES[world][rank]
        loss = identity_loss(head, model(images.split(SIZES[world])[rank]), labels.split(SIZES[world])[rank])
        optimiser.zero_grad()
        (loss * world * mine / len(labels)).backward()
        optimiser.step()
        total = collectives.sum_((loss.detach() * mine / len(labels)).clone())

        plain = functional.cross_entropy(plain_head(plain_net(images), labels), labels)
        plain_optimiser.zero_grad()
        plain.backward()
        plain_optimiser.step()
        difference["loss"] = max(difference["loss"], abs(float(total - plain.detach())))
    first, last = shard_bounds(IDENTITIES, rank, world)
    difference["weights"] = float((net.weight - plain_net.weight).abs().max())
    difference["centres"] = float((head.centres - plain_head.centres[first:last]).abs().max())
    for key, value in head.named_buffers():
        difference[key] = float((value - plain_head.get_buffer(key)).abs())
    everyone = collectives.gather_objects(difference)
    return {key: max(one[key] for one in everyone) for key in difference}


def work() -> None:
    result = {name: compare(name) for name in HEADS}
    if collectives.rank() == 0:
        print(json.dumps({collectives.world(): result}))


if __name__ == "__main__":
    sys.exit(max(status for ranks in SIZES for status in forked_ranks.run(work, ranks)))
