"""Orders of an epoch that bring images of one identity together: position -> index, a function of (seed, epoch)."""

import numpy as np

from facekd.common.errors import UsageError
from facekd.data.permutation import Permutation


class IdentityGroups:
    """An epoch as groups of `size` images of one identity, in random order.

    A batch of P x size images holds P groups: genuine pairs for the losses that compare images of one identity, which a
    batch drawn at random from thousands of identities hardly has. Every image comes at most once an epoch. What an
    identity has beyond a multiple of `size` fills groups of mixed identities (facekd's choice: leaving such images out
    would lose every identity with fewer than `size`); at most `size` - 1 images are left out, others every epoch. Which
    images meet is drawn anew every epoch. Two groups of one identity may fall into one batch.

    The order is computed, not stored: memory is 24 bytes an identity, and 8 an image where the source does not keep
    each identity's images together.
    """

    def __init__(self, labels: np.ndarray, size: int) -> None:
        """
        Args:
            labels: int [n], 0 .. number of identities - 1.
            size: images of a group, at least 2.

        Raises:
            UsageError: no identity has `size` images.
        """
        counts = np.bincount(labels)
        if size < 2 or size > counts.max(initial=0):
            raise UsageError(
                f"images_per_identity must be in 2 .. {counts.max(initial=0)}, the images of the largest identity; "
                f"got {size}"
            )
        self.size = size
        grouped = bool(np.all(labels[1:] >= labels[:-1]))
        self._by_identity = None if grouped else np.argsort(labels, kind="stable")
        self._ends = np.cumsum(counts)
        self._group_ends = np.cumsum(counts // size)
        self._rest_ends = np.cumsum(counts % size)

    def __len__(self) -> int:
        """Images of an epoch, a multiple of `size`."""
        return int(self._ends[-1]) // self.size * self.size

    def indices(self, seed: int, epoch: int, positions: np.ndarray) -> np.ndarray:
        """The images at `positions` (int64 [m], each in 0 .. len - 1) of that epoch's order, int64 [m]."""
        pure, rest = int(self._group_ends[-1]), int(self._rest_ends[-1])
        groups, places = np.divmod(np.asarray(positions, dtype=np.int64), self.size)
        groups = Permutation(len(self) // self.size, seed, epoch)[groups]
        identities, ranks = np.empty_like(groups), np.empty_like(groups)  # whose, and the how-maniest of theirs

        of_one = groups < pure
        identities[of_one], nth = _locate(self._group_ends, groups[of_one])
        ranks[of_one] = nth * self.size + places[of_one]
        if not of_one.all():
            mixed = (groups[~of_one] - pure) * self.size + places[~of_one]
            identities[~of_one], nth = _locate(self._rest_ends, Permutation(rest, seed, epoch, 1)[mixed])
            counts = np.diff(self._ends, prepend=0)[identities[~of_one]]
            ranks[~of_one] = counts // self.size * self.size + nth

        starts = np.concatenate([[0], self._ends])
        shuffled = {
            i: np.random.default_rng([seed, epoch, i]).permutation(int(starts[i + 1] - starts[i]))
            for i in np.unique(identities).tolist()
        }
        chosen = [shuffled[i][rank] for i, rank in zip(identities.tolist(), ranks.tolist(), strict=True)]
        found = starts[identities] + np.asarray(chosen, dtype=np.int64)
        return found if self._by_identity is None else self._by_identity[found]


def _locate(ends: np.ndarray, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Things counted through identity after identity -> (identity, how-maniest of that identity)."""
    identities = np.searchsorted(ends, numbers, side="right")
    return identities, numbers - np.concatenate([[0], ends])[identities]
