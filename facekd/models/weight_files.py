"""Files of weights as public code writes them: safetensors, whole or in shards, and PyTorch. Only tensors are read."""

import io
import json
import pickle
import pickletools
import re
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from facekd.common.errors import FacekdError, UsageError, first_line
from facekd.common.file_kind import HEAD_BYTES, check_not_a_stand_in, kind_of
from facekd.common.text import plain
from facekd.common.validation import shown

INDEX_SUFFIX = ".index.json"
_HOW_TO_SAVE = "save the weights alone, torch.save(model.state_dict(), ...)"

# What a pickle may name and a training checkpoint never needs: files with it are refused, not read around.
_RUNS_PROGRAMS = {"builtins", "code", "ctypes", "importlib", "nt", "os", "pickle", "posix", "pty", "runpy", "shutil"}
_RUNS_PROGRAMS |= {"socket", "subprocess", "sys"}
_HARMLESS_BUILTINS = {"bytearray", "complex", "dict", "float", "frozenset", "getattr", "int", "list", "object", "range"}
_HARMLESS_BUILTINS |= {"set", "slice", "str", "tuple"}
# Pickles that Python 2 could read name its modules; torch reads them by the new names.
_OLD_MODULES = {"__builtin__": "builtins", "copy_reg": "copyreg", "commands": "subprocess", "exceptions": "builtins"}
_DICT_LIKE = re.compile(r"(dict|CfgNode|Config|Box|Munch|Bunch)$", re.IGNORECASE)  # EasyDict, yacs, python-box, ...


def read_weight_file(path: Path) -> Any:
    """What a file of weights holds: names to tensors, or whatever dictionary PyTorch saved around them.

    Args:
        path: a safetensors file, a PyTorch file, the index of a sharded one (`model.safetensors.index.json`), or a
            folder with one of them.

    Nothing in a file is ever run: PyTorch files are read with weights_only, and whatever they hold besides tensors and
    plain Python values (an argparse.Namespace, a NumPy scalar) comes back as an empty stand-in.

    Raises:
        UsageError: there is no such file, or a folder does not hold exactly one.
        FacekdError: it is not a file of weights, or holds what must not be read.
    """
    if path.is_dir():
        path = _the_one_file_of(path)
    if not path.is_file():
        raise UsageError(f"no weights at {path}: give a .safetensors or a PyTorch state dict file")
    if path.name.endswith(INDEX_SUFFIX):
        return _read_shards(path)
    check_not_a_stand_in(path, "weights")
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    # A safetensors file begins with its header's length, eight bytes, and the header, a JSON object.
    if head[8:9] == b"{" and path.stat().st_size >= int.from_bytes(head[:8], "little") + 8:
        return _read_safetensors(path)
    if path.suffix.lower() == ".onnx":
        raise FacekdError(f"{path} is a model that runs as it is, not weights to import: name it as teacher.bundle")
    kind = kind_of(head)
    if kind is not None and "PyTorch" not in kind.name and kind.name != "a pickle":
        raise FacekdError(f"{path} is not a readable weights file: it is {kind.name}")
    if all(byte >= 32 or byte in b"\t\r\n" for byte in head):
        raise FacekdError(f"{path} is not a readable weights file: it is a text file")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    return _read_torch(path)


def _the_one_file_of(folder: Path) -> Path:
    for pattern in (f"*{INDEX_SUFFIX}", "*.safetensors", "*.pt", "*.pth", "*.ckpt", "*.bin"):
        found = sorted(folder.glob(pattern))
        if len(found) == 1:
            return found[0]
        if found:
            names = ", ".join(plain(file.name) for file in found[:3])
            raise UsageError(f"{folder} holds several files of weights ({names}): give one of them")
    raise UsageError(f"{folder} holds no weights: give a .safetensors or a PyTorch state dict file")


def _read_shards(index: Path) -> dict[str, torch.Tensor]:
    try:
        placed = json.loads(index.read_bytes())["weight_map"]
        if not isinstance(placed, dict) or not placed or not all(isinstance(name, str) for name in placed.values()):
            raise ValueError("weight_map must say in which file each tensor lies")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FacekdError(f"{index} is not the index of a sharded checkpoint ({first_line(error)})") from error
    state: dict[str, torch.Tensor] = {}
    for name in sorted(set(placed.values())):
        if Path(name).name != name or name.endswith(INDEX_SUFFIX):
            raise FacekdError(f"{index} names the shard {shown(name)}, which is not a file beside it")
        shard = index.with_name(name)
        if not shard.is_file():
            raise FacekdError(f"{index} names {plain(name)}, which is missing: get all of its files")
        state |= read_weight_file(shard)
    missing = sorted(key for key in placed if key not in state)
    if missing:
        raise FacekdError(f"{index}: {plain(missing[0])} is in none of its shards; get all of its files again")
    return state


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    shard = re.search(r"-(\d+)-of-(\d+)\.safetensors$", path.name)
    if shard and int(shard[2]) > 1 and not any(path.parent.glob(f"*{INDEX_SUFFIX}")):
        raise UsageError(f"{path} is one of {int(shard[2])} shards: give the {INDEX_SUFFIX} file that lists them")
    try:
        return load_file(path)
    except (SafetensorError, ValueError, OSError) as error:
        raise FacekdError(f"{path} is not a readable weights file ({first_line(error)})") from error


class ForeignObject:
    """Stands for an object of any class in a checkpoint: takes whatever it is given and keeps nothing."""

    def __new__(cls, *args: Any, **named: Any) -> "ForeignObject":
        return super().__new__(cls)

    def __init__(self, *args: Any, **named: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


class _ForeignDict:
    """The same for a subclass of dict, whose entries torch puts into an OrderedDict alone."""

    def __new__(cls, *args: Any, **named: Any) -> Any:
        return OrderedDict()


def _read_torch(path: Path) -> Any:
    try:
        named = sorted(set(_globals(path)))
        refused = next((name for name in named if _may_run_programs(name)), None)
        if refused:
            raise pickle.UnpicklingError(f"GLOBAL {refused}")
        stand_ins = [(_ForeignDict if _DICT_LIKE.search(name) else ForeignObject, name) for name in named]
        with torch.serialization.safe_globals(stand_ins):  # type: ignore[arg-type]
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # torch's own text advises to run what the file holds, in colours; what it names is what stands in the way.
        found = re.search(r"(?:GLOBAL|global|class) ([\w.]+)", str(error))
        what = f"it holds {found[1]} besides tensors" if found else "it holds more than tensors, or is damaged"
        raise FacekdError(
            f"{path} is not a readable weights file: {what}, and reading that could run code; {_HOW_TO_SAVE}"
        ) from error
    except FacekdError:
        raise
    except Exception as error:  # a damaged pickle may break its reader at any line
        raise FacekdError(f"{path} is not a readable weights file ({first_line(error)})") from error


def _globals(path: Path) -> Iterator[str]:
    """Every class or function that the file's pickles name, as `package.module.Name`."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if any(name.endswith("/constants.pkl") for name in names):
                raise FacekdError(f"{path} is a TorchScript program, not a file of weights; {_HOW_TO_SAVE}")
            for name in names:
                if name.endswith("data.pkl"):
                    yield from _globals_of(io.BytesIO(archive.read(name)))
        return
    # Before PyTorch 1.6: a magic number, a version, the system, then the object; each a pickle.
    with path.open("rb") as file:
        for _ in range(4):
            yield from _globals_of(file)


def _globals_of(pickled: IO[bytes]) -> Iterator[str]:
    for operation, argument, _ in pickletools.genops(pickled):
        if operation.name == "GLOBAL":
            module, name = str(argument).split(" ", 1)
            yield f"{_OLD_MODULES.get(module, module)}.{name}"


def _may_run_programs(name: str) -> bool:
    package, _, rest = name.partition(".")
    return package in _RUNS_PROGRAMS and not (package == "builtins" and rest in _HARMLESS_BUILTINS)
