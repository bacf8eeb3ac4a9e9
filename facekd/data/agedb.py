"""AgeDB's pairs as they are published: a MATLAB file of ten folds.

Moschoglou et al., "AgeDB: the first manually collected, in-the-wild age database", CVPRW 2017. The file holds `splits`,
a cell a fold: a struct whose first field is a cell array [2, 600] of structs, the first field of each the name of a
photograph without its suffix, and whose second field is the truths [1, 600], 1 and -1.
"""

from pathlib import Path
from typing import Any

import numpy as np

from facekd.common.errors import FacekdError, first_line, require_modules


def is_matlab_file(path: Path) -> bool:
    """By its suffix."""
    return path.suffix.lower() == ".mat"


def read_agedb(path: Path) -> tuple[list[tuple[str, str]], list[bool], list[int]]:
    """(names of the two photographs of each pair, truths, pairs in each fold).

    Raises:
        UsageError: SciPy is not installed.
        FacekdError: it is no such file; says what it holds.
    """
    require_modules(f"{path.name} (MATLAB)", ["scipy"], extra="evaluation")
    from scipy import io

    try:
        content = io.loadmat(path)
    except NotImplementedError:
        raise FacekdError(f"{path} is MATLAB 7.3 (HDF5), which is not read: save it with -v7") from None
    except Exception as error:  # SciPy raises whatever a damaged file leads to
        raise FacekdError(f"{path} cannot be read as a MATLAB file: {first_line(error)}") from None
    named = [name for name in content if not name.startswith("__")]
    if "splits" not in content:
        raise FacekdError(f"{path} holds {', '.join(named[:5]) or 'nothing'}, and no splits: AgeDB's pairs are needed")
    pairs: list[tuple[str, str]] = []
    truths: list[bool] = []
    sizes = []
    for number, cell in enumerate(np.ravel(content["splits"]), 1):
        try:
            names, labels = _fold(cell)
        except (ValueError, TypeError, IndexError, KeyError, AttributeError) as error:
            raise FacekdError(f"{path}, fold {number}: not AgeDB's layout ({first_line(error)})") from None
        pairs += names
        truths += [label == 1 for label in labels]
        sizes.append(len(names))
    if not pairs:
        raise FacekdError(f"{path} holds no pair")
    return pairs, truths, sizes


def _fold(cell: Any) -> tuple[list[tuple[str, str]], list[int]]:
    fields = _fields(cell)
    if len(fields) < 2:
        raise ValueError(f"{len(fields)} fields, not pairs and truths")
    pairs, labels = np.asarray(fields[0], dtype=object), np.ravel(fields[1])
    if pairs.ndim != 2 or pairs.shape[0] != 2 or pairs.shape[1] != len(labels):
        raise ValueError(f"pairs of shape {pairs.shape} for {len(labels)} truths")
    if strange := set(labels.tolist()) - {1, 0, -1}:
        raise ValueError(f"a truth of {next(iter(strange))}")
    first, second = ([_name(one) for one in row] for row in pairs)
    return list(zip(first, second, strict=True)), [int(label) for label in labels]


def _name(value: Any) -> str:
    while not isinstance(value, str):
        if getattr(value, "dtype", None) is not None and value.dtype.names:
            value = _fields(value)[0]
        elif isinstance(value, np.ndarray) and value.size == 1:
            value = value.ravel()[0]
        else:
            raise TypeError("a photograph without a name")
    return value.removesuffix(".jpg")


def _fields(value: Any) -> list[Any]:
    """The fields of a struct, in order, within however many cells of one."""
    while isinstance(value, np.ndarray) and value.size == 1:
        value = value.ravel()[0]
    if not isinstance(value, np.void) or not value.dtype.names:
        raise ValueError("no struct")
    return [value[name] for name in value.dtype.names]
