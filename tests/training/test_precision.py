"""Choosing the number format and layout by measuring, without a trace on the training."""

import pytest
import torch
from torch import nn

from facekd.common.errors import UsageError
from facekd.training.precision import Precision, candidates, choose_device, fastest

CPU = torch.device("cpu")


def test_candidates_are_what_the_recipe_leaves_open() -> None:
    def names(*arguments: object) -> list[str]:
        return [one.describe() for one in candidates(*arguments, CPU)]  # type: ignore[arg-type]

    assert names("auto", "auto") == ["fp32 NCHW", "fp32 NHWC", "bf16 NCHW", "bf16 NHWC"]
    assert names("auto", True) == ["fp32 NHWC", "bf16 NHWC"]
    assert names("fp16", "auto") == ["fp16 NCHW", "fp16 NHWC"]
    assert names("bf16", False) == ["bf16 NCHW"]


def test_the_fastest_wins_and_measuring_leaves_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5))
    before = {name: value.clone() for name, value in module.state_dict().items()}
    random = torch.get_rng_state()
    passes: dict[str, int] = {}
    now = [0.0]
    monkeypatch.setattr("facekd.training.precision.time.perf_counter", lambda: now[0])
    seconds = {"fp32 NCHW": 0.004, "fp32 NHWC": 0.002, "bf16 NCHW": 0.05, "bf16 NHWC": 0.006}

    def work(option: Precision) -> None:
        passes[option.describe()] = passes.get(option.describe(), 0) + 1
        weight = module[0].weight
        assert weight.is_contiguous(memory_format=torch.channels_last) == option.channels_last  # type: ignore[operator]
        with option.autocast():
            output = module(option.images(torch.randint(0, 255, (2, 3, 5, 5), dtype=torch.uint8)).float())
        assert output.dtype == {"fp32": torch.float32, "bf16": torch.bfloat16}[option.name]
        output.sum().backward()
        now[0] += 0.05 + 10 * seconds[option.describe()]

    order = fastest(candidates("auto", "auto", CPU), module, work)
    assert order[0].precision.describe() == "fp32 NHWC"
    assert passes["bf16 NCHW"] == 1  # hopeless after its first pass
    assert passes["fp32 NHWC"] == 4
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert all(parameter.grad is None for parameter in module.parameters())


def test_only_fp16_scales() -> None:
    assert [Precision(name=n, channels_last=False, device=CPU).scaler() for n in ("fp32", "bf16")] == [None, None]
    assert Precision(name="fp16", channels_last=False, device=CPU).scaler() is not None


def test_a_missing_device_is_said() -> None:
    if torch.cuda.is_available():
        assert choose_device("auto").type == "cuda"
    else:
        assert choose_device("auto").type == "cpu"
        with pytest.raises(UsageError, match="no CUDA device"):
            choose_device("cuda")
