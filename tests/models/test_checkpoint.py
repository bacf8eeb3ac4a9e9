"""Foreign checkpoints opened: every usual wrapping gives the same weights, and nothing in a file is run."""

import argparse
import collections
import datetime
import io
import json
import os
import pathlib
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.optim.swa_utils import AveragedModel

from facekd.common.errors import FacekdError, UsageError
from facekd.models.checkpoint import read_checkpoint

State = dict[str, torch.Tensor]


class AttrDict(dict):
    """A training script's own dictionary, pickled with the weights."""


def state() -> State:
    return {"conv.weight": torch.randn(4, 3, 2, 2), "norm.bias": torch.randn(4), "steps": torch.tensor(7)}


def prefixed(prefix: str, weights: State) -> State:
    return {prefix + name: value for name, value in weights.items()}


WRAPPINGS: dict[str, Callable[[State], Any]] = {
    "bare": lambda s: s,
    "ordered": collections.OrderedDict,
    "ddp": lambda s: prefixed("module.", s),
    "compiled": lambda s: prefixed("_orig_mod.", s),
    "compiled ddp": lambda s: prefixed("_orig_mod.module.", s),
    "ddp of a compiled one": lambda s: prefixed("module._orig_mod.", s),
    "lightning": lambda s: {
        "state_dict": prefixed("model.", s) | {"head.kernel": torch.zeros(4, 10), "head.t": torch.zeros(1)},
        "callbacks": {"ModelCheckpoint": {"best_model_path": pathlib.PosixPath("/x"), "best": torch.tensor(0.5)}},
        "hyper_parameters": argparse.Namespace(lr=0.1),
        "optimizer_states": [{"state": {0: {"exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 0.1}]}],
        "epoch": 3,
    },
    "compiled inside lightning": lambda s: {"state_dict": prefixed("model._orig_mod.", s)},
    "cvlface": lambda s: prefixed("model.net.", s),
    "backbone": lambda s: prefixed("backbone.", s) | {"neck_of_another.weight": torch.zeros(2)},
    "arcface_torch": lambda s: {
        "state_dict_backbone": s,
        "state_dict_softmax_fc": {"weight": torch.zeros(10, 4)},
        "state_optimizer": {"state": {}, "param_groups": []},
    },
    "timm": lambda s: {"state_dict": s, "arch": "vit", "args": argparse.Namespace(lr=1), "metric": np.float64(81.5)},
    "objects of all kinds": lambda s: {
        "model": s,
        "scores": np.arange(3.0),
        "when": datetime.datetime(2024, 1, 2),
        "config": AttrDict(lr=0.1),
        "names": collections.defaultdict(list, a=[1]),
        "numpy": np.float32(2),
    },
    "nested": lambda s: {"model": {"state_dict": s, "config": 1}, "epoch": 2},
    "averaged by torch": lambda s: {"n_averaged": torch.tensor(4)} | prefixed("module.", s),
}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_every_wrapping_gives_the_same_weights(tmp_path: Path, wrapping: str, zipped: bool) -> None:
    weights = state()
    content = WRAPPINGS[wrapping](weights)
    torch.save(content, tmp_path / "w.pt", _use_new_zipfile_serialization=zipped)
    found = read_checkpoint(tmp_path / "w.pt")
    assert found.tensors.keys() == weights.keys()
    assert all(torch.equal(found.tensors[name], value) for name, value in weights.items())
    # The first reading is what stands in the file, and none loses a tensor.
    readings = found.readings
    assert readings[0].prefix == ""
    assert {len(one.tensors) + len(one.beside) for one in readings} == {len(readings[0].tensors | readings[0].beside)}
    assert set(readings[-1].beside) == set(prefixed(found.prefix, {})) | set(found.beside)


def test_what_stands_beside_the_network_is_kept(tmp_path: Path) -> None:
    torch.save(WRAPPINGS["lightning"](state()), tmp_path / "w.ckpt")
    found = read_checkpoint(tmp_path / "w.ckpt")
    assert (found.key, found.prefix) == ("state_dict", "model.")
    assert found.beside["head.kernel"].shape == (4, 10)
    torch.save(WRAPPINGS["arcface_torch"](state()), tmp_path / "w.pt")
    assert read_checkpoint(tmp_path / "w.pt").parts["state_dict_softmax_fc"]["weight"].shape == (10, 4)


def test_an_averaged_model_of_torch_is_read(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    torch.save(AveragedModel(network).state_dict(), tmp_path / "w.pt")
    found = read_checkpoint(tmp_path / "w.pt")
    network.load_state_dict(found.tensors)
    assert set(found.beside) == {"n_averaged"}


@pytest.mark.parametrize("averaged", ["state_dict_ema", "model_ema"])
def test_averaged_weights_are_taken_and_it_is_said(tmp_path: Path, averaged: str) -> None:
    plain, mean = state(), state()
    torch.save({"state_dict": plain, averaged: mean}, tmp_path / "w.pt")
    found = read_checkpoint(tmp_path / "w.pt")
    assert torch.equal(found.tensors["norm.bias"], mean["norm.bias"])
    assert found.notes == (f"took {averaged}; the file also holds state_dict (--key chooses)",)
    chosen = read_checkpoint(tmp_path / "w.pt", "state_dict")
    assert torch.equal(chosen.tensors["norm.bias"], plain["norm.bias"])
    assert not chosen.notes
    with pytest.raises(UsageError, match=f"no weights under the key 'ema'; valid: state_dict, {averaged}"):
        read_checkpoint(tmp_path / "w.pt", "ema")


def test_several_networks_need_a_key(tmp_path: Path) -> None:
    student, teacher = state(), state()
    torch.save({"student": student, "teacher": teacher}, tmp_path / "w.pt")
    with pytest.raises(UsageError, match=r"several sets of weights: choose one with --key \(student, teacher\)"):
        read_checkpoint(tmp_path / "w.pt")
    assert torch.equal(read_checkpoint(tmp_path / "w.pt", "teacher").tensors["steps"], teacher["steps"])
    torch.save(prefixed("student.", student) | prefixed("teacher.", teacher), tmp_path / "w.pt")
    found = read_checkpoint(tmp_path / "w.pt", "teacher.")
    assert torch.equal(found.tensors["norm.bias"], teacher["norm.bias"])
    for key in ("ema.", "ema"):
        with pytest.raises(UsageError, match="'ema"):
            read_checkpoint(tmp_path / "w.pt", key)


def sharded(folder: Path, weights: State) -> Path:
    names = list(weights)
    placed = {}
    for part, chosen in enumerate((names[:1], names[1:])):
        file = f"model-{part + 1:05d}-of-00002.safetensors"
        save_file({name: weights[name] for name in chosen}, folder / file)
        placed |= dict.fromkeys(chosen, file)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": placed}))
    return index


def test_safetensors_whole_and_in_shards(tmp_path: Path) -> None:
    weights = prefixed("model.", state())
    save_file({name: value.half() for name, value in weights.items()}, tmp_path / "half.safetensors")
    assert read_checkpoint(tmp_path / "half.safetensors").tensors["norm.bias"].dtype == torch.float16
    (tmp_path / "half.safetensors").rename(tmp_path / "half.bin")  # by its content, not its name
    assert read_checkpoint(tmp_path / "half.bin").prefix == "model."
    (tmp_path / "hub").mkdir()
    index = sharded(tmp_path / "hub", weights)
    for path in (index, tmp_path / "hub"):
        found = read_checkpoint(path)
        assert all(torch.equal(found.tensors[name.removeprefix("model.")], value) for name, value in weights.items())


def test_shards_that_do_not_fit_their_index(tmp_path: Path) -> None:
    index = sharded(tmp_path, state())
    content = json.loads(index.read_text())
    second = tmp_path / "model-00002-of-00002.safetensors"
    second.rename(tmp_path / "elsewhere")
    with pytest.raises(FacekdError, match=r"model-00002-of-00002\.safetensors, which is missing"):
        read_checkpoint(index)
    save_file({"norm.bias": torch.zeros(4)}, second)
    with pytest.raises(FacekdError, match="steps is in none of its shards"):
        read_checkpoint(index)
    for name in ("../model-00001-of-00002.safetensors", str(second), "model.safetensors.index.json"):
        index.write_text(json.dumps({"weight_map": content["weight_map"] | {"steps": name}}))
        with pytest.raises(FacekdError, match="not a file beside it"):
            read_checkpoint(index)
    for text in ("{", "[]", '{"weight_map": {}}', '{"weight_map": {"a": 1}}'):
        index.write_text(text)
        with pytest.raises(FacekdError, match="is not the index of a sharded checkpoint"):
            read_checkpoint(index)
    index.unlink()
    with pytest.raises(UsageError, match=r"one of 2 shards: give the \.index\.json"):
        read_checkpoint(second)
    with pytest.raises(UsageError, match="holds several files of weights"):
        read_checkpoint(tmp_path)
    with pytest.raises(UsageError, match="holds no weights"):
        (tmp_path / "none").mkdir()
        read_checkpoint(tmp_path / "none")


class Runs:
    """Runs something when an unrestricted loader reads it."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple:
        return self.call


@pytest.mark.parametrize("function", [os.mkdir, subprocess.call, exec, __import__, eval])
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_code_in_a_checkpoint_is_refused_and_not_run(tmp_path: Path, function: Any, zipped: bool) -> None:
    argument = str(tmp_path / "ran") if function is os.mkdir else "print('ran')"
    content = {"state_dict": state(), "extra": Runs(function, argument)}
    torch.save(content, tmp_path / "w.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(FacekdError, match=r"besides tensors, and reading that could run code; save the weights alone"):
        read_checkpoint(tmp_path / "w.pt")
    assert not (tmp_path / "ran").exists()


def touch(path: str) -> None:
    Path(path).touch()


def test_a_function_of_a_stranger_is_not_called(tmp_path: Path) -> None:
    torch.save({"state_dict": state(), "extra": Runs(touch, str(tmp_path / "ran"))}, tmp_path / "w.pt")
    assert "conv.weight" in read_checkpoint(tmp_path / "w.pt").tensors
    assert not (tmp_path / "ran").exists()


def test_what_is_no_checkpoint_is_called_what_it_is(tmp_path: Path) -> None:
    torch.jit.script(nn.Linear(2, 2)).save(tmp_path / "script.pt")
    buffer = io.BytesIO()
    torch.save(state(), buffer)
    (tmp_path / "half.pt").write_bytes(buffer.getvalue()[: len(buffer.getvalue()) // 2])
    (tmp_path / "text.pt").write_text("epoch 1: loss 0.3\n")
    (tmp_path / "model.onnx").write_bytes(b"\x08\x07")
    torch.save([torch.zeros(2)], tmp_path / "list.pt")
    torch.save({"epoch": 3, "loss": 0.1}, tmp_path / "numbers.pt")
    torch.save({}, tmp_path / "nothing.pt")
    torch.save({"a.scale": torch.tensor(1.0), "a._packed_params._packed_params": (1,)}, tmp_path / "q.pt")
    for name, says in {
        "script.pt": "is a TorchScript program",
        "half.pt": "is not a readable weights file",
        "text.pt": "it is a text file",
        "model.onnx": "name it as teacher.bundle",
        "list.pt": "does not hold a state dict .* but list",
        "numbers.pt": "does not hold a state dict .* with the keys epoch, loss",
        "nothing.pt": "an empty dict",
        "q.pt": "holds a quantised network",
    }.items():
        with pytest.raises(FacekdError, match=says) as error:
            read_checkpoint(tmp_path / name)
        assert "\n" not in str(error.value) and "\x1b" not in str(error.value)
