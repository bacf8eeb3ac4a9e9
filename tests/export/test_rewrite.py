"""The rewrites compute what they replace: every PReLU form against torch's own, folded norms against the norms."""

import pytest
import torch
from torch import nn

from facekd.common.errors import UsageError
from facekd.export.rewrite import PRELU_FORMS, count_prelu, fold_batch_norms, rewrite_prelu


@pytest.mark.parametrize("form", PRELU_FORMS)
@pytest.mark.parametrize("slopes", [(0.25, 0.0, 0.9, -0.4), (1.7, 0.2, 1.0, -2.0)], ids=["gentle", "steeper than 1"])
def test_every_form_is_prelu(form: str, slopes: tuple[float, ...]) -> None:
    prelu = nn.PReLU(4)
    prelu.weight.data = torch.tensor(slopes)
    x = torch.cat([torch.randn(3, 4, 5, 6), torch.zeros(1, 4, 5, 6)])
    rewritten = rewrite_prelu(nn.Sequential(prelu), form)
    torch.testing.assert_close(rewritten(x), torch.where(x > 0, x, x * prelu.weight.view(1, 4, 1, 1)))


def test_only_the_copy_is_rewritten() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.PReLU(4))
    assert count_prelu(rewrite_prelu(model, "lin_relu")) == 0
    assert count_prelu(model) == 1


def test_an_unknown_form_names_the_valid_ones() -> None:
    with pytest.raises(UsageError, match="lin_relu"):
        rewrite_prelu(nn.Sequential(), "swish")


def test_folding_keeps_the_function_and_leaves_norms_that_come_first() -> None:
    model = nn.Sequential(
        nn.BatchNorm2d(3),
        nn.Conv2d(3, 6, 3, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(6 * 36, 5),
        nn.BatchNorm1d(5),
    )
    for _ in range(3):
        model(torch.randn(8, 3, 8, 8) * 2 + 1)
    model.eval()
    folded = fold_batch_norms(model)
    x = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(folded(x), model(x), rtol=1e-5, atol=1e-5)
    norms = [module for module in folded.modules() if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)]
    assert len(norms) == 1, "a norm before its convolution has nothing to be folded into"
