"""The class centres of a run on several ranks, in its checkpoints: each rank writes its rows, any number reads them.

torch.distributed.checkpoint does both, in its layout of safetensors files: the one that it takes by default holds a
pickle, which can run code.
"""

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from facekd.common.errors import FacekdError
from facekd.common.hashing import file_sha256
from facekd.distributed import collectives
from facekd.heads import MarginHead
from facekd.training.checkpoint import CheckpointStore
from facekd.training.optimisation import Optimisers

State = dict[str, Any]
_CENTRES = "head.centres"


class Shards:
    """What of a checkpoint's state has one row per class: the centres, and what the optimiser keeps of each.

    Args:
        head: the head whose centres may be sharded; None if the task has none.
        optimisers: which hold state of the centres.
    """

    def __init__(self, head: MarginHead | None, optimisers: Optimisers) -> None:
        self.head = head
        self._optimisers = optimisers

    @property
    def sharded(self) -> bool:
        """Whether this process holds some of the rows only."""
        return self.head is not None and self.head.owned is not None

    def split(self, task: State, optimisers: State) -> tuple[State, State, dict[str, torch.Tensor]]:
        """The two states with no rows in their matrices, and this rank's rows by name; whole centres are left there."""
        if not self.sharded:
            return task, optimisers, {}
        rows: dict[str, torch.Tensor] = {}

        def take(name: str, matrix: torch.Tensor) -> torch.Tensor:
            rows[name] = matrix.detach().cpu().contiguous()
            return matrix.new_empty(0, matrix.shape[1])

        return *self._changed(task, optimisers, take), rows

    def join(self, task: State, optimisers: State, folder: Path | None) -> tuple[State, State]:
        """The two states with the rows that this process owns.

        Args:
            task: of a checkpoint: all rows (one file, from one process), or none (a folder).
            optimisers: likewise; may be empty, if the centres alone are wanted.
            folder: where the ranks' files are; None for one file.
        """
        if folder is None:
            if self.head is None or self.head.owned is None:
                return task, optimisers
            first, last = self.head.owned
            return self._changed(task, optimisers, lambda name, rows: rows[first:last].clone())
        names: list[str] = []
        self._changed(task, optimisers, lambda name, rows: names.append(name))
        rows = self._read(names, folder)
        return self._changed(task, optimisers, lambda name, _: rows[name])

    def write(self, rows: Mapping[str, torch.Tensor], store: CheckpointStore, step: int) -> dict[str, str]:
        """Writes every rank's rows into rank 0's `store.temporary`; the sha256 of each file by its name.

        Raises:
            FacekdError: on all ranks, if the disk of one is full or fails.
        """
        from torch.distributed import checkpoint as dcp  # a second that one process need not wait

        folder = Path(collectives.from_first(str(store.temporary)))
        with store.whole_or_nothing(step):
            try:
                writer = dcp.HuggingFaceStorageWriter(str(folder), save_distributed=True)
                dcp.save(self._distributed(rows), storage_writer=writer)
            except dcp.CheckpointException as error:
                raise _first_cause(error) from error
            mine = sorted(folder.glob("*.safetensors"))[collectives.rank()]  # named by rank, one each
            return dict(collectives.gather_objects((mine.name, file_sha256(mine))))

    def make_whole(self) -> None:
        """Gives this process's head room for all centres again; their values come from a checkpoint."""
        if self.head is not None and self.head.owned is not None:
            centres = self.head.centres
            whole = centres.new_zeros(self.head.num_identities, self.head.embedding_width)
            self.head.centres = nn.Parameter(whole, requires_grad=centres.requires_grad)
            self.head.owned = None

    def _changed(
        self, task: State, optimisers: State, change: Callable[[str, torch.Tensor], Any]
    ) -> tuple[State, State]:
        """Copies of the two states with `change(name, matrix)` for each matrix of rows."""
        if self.head is None:
            return task, optimisers
        task = {**task, _CENTRES: change(f"task/{_CENTRES}", task[_CENTRES])}
        changed = {}
        for kind, state in optimisers.items():
            parameters = [one for group in self._optimisers.torch[kind].param_groups for one in group["params"]]
            entries = dict(state["state"])
            for place in [place for place, one in enumerate(parameters) if one is self.head.centres]:
                entry = entries.get(place, {})  # empty before the first step
                entries[place] = {
                    name: change(f"optimisers/{kind}/{place}/{name}", value)
                    if isinstance(value, torch.Tensor) and value.ndim == 2
                    else value
                    for name, value in entry.items()
                }
            changed[kind] = {**state, "state": entries}
        return task, changed

    def _read(self, names: list[str], folder: Path) -> dict[str, torch.Tensor]:
        """The named matrices out of the ranks' files: the own rows, or all where this process's head is whole."""
        from torch.distributed import checkpoint as dcp

        assert self.head is not None
        first, last = self.head.owned or (0, self.head.num_identities)
        try:
            reader = dcp.HuggingFaceStorageReader(str(folder))
            kept = reader.read_metadata().state_dict_metadata
            matrices = {name: one for name, one in kept.items() if isinstance(one, dcp.TensorStorageMetadata)}
            shape = (last - first, self.head.embedding_width)
            rows = {name: torch.empty(shape, dtype=matrices[name].properties.dtype) for name in names}
            wanted = self._distributed(rows) if self.sharded else rows
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "torch.distributed is disabled")  # one process, as is meant
                dcp.load(wanted, storage_reader=reader, no_dist=not self.sharded)
        except (dcp.CheckpointException, SafetensorError, LookupError, ValueError, TypeError, AttributeError) as error:
            raise FacekdError(f"checkpoint {folder} does not hold the class centres of this run") from error
        return rows

    def _distributed(self, rows: Mapping[str, torch.Tensor]) -> dict[str, Any]:
        """This rank's rows of each matrix as a part of the whole; they share memory."""
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.tensor import DTensor, Shard

        assert self.head is not None
        shape = torch.Size((self.head.num_identities, self.head.embedding_width))
        layout: dict[str, Any] = {"shape": shape, "stride": (shape[1], 1), "run_check": False}
        mesh = init_device_mesh("cpu", (collectives.world(),))
        return {name: DTensor.from_local(matrix, mesh, [Shard(0)], **layout) for name, matrix in rows.items()}


def _first_cause(error: Any) -> BaseException:
    """What went wrong on one rank, as it was there; the others' errors are the same or follow from it."""
    cause: BaseException = next(iter(error.failures.values()))[0]
    return cause
