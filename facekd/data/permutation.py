"""A shuffled order that is computed, not stored: position -> index, for sets too large to keep a permutation of."""

import numpy as np

_ROUNDS = 6


class Permutation:
    """A pseudo-random permutation of 0 .. n - 1 in constant memory.

    A Feistel network over the next power of four, and "cycle walking": a value that falls outside is mapped again until
    it falls inside (Black and Rogaway 2002, "Ciphers with arbitrary finite domains"). Not for cryptography: the round
    function is a multiplicative hash, chosen to be fast in NumPy.

    Args:
        n: how many, at least 1.
        key: numbers that choose the permutation, such as (seed, epoch).
    """

    def __init__(self, n: int, *key: int) -> None:
        self.n = n
        bits = max(1, int(n - 1).bit_length())
        self._half = np.uint64((bits + 1) // 2)
        self._mask = np.uint64((1 << ((bits + 1) // 2)) - 1)
        self._keys = np.random.default_rng(list(key)).integers(0, 1 << 62, _ROUNDS, dtype=np.uint64)

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, positions: int | np.ndarray) -> np.ndarray:
        """The indices at `positions` (int64 [m] or one, each in 0 .. n - 1), int64 [m] or one."""
        values = np.atleast_1d(np.asarray(positions, dtype=np.uint64))
        values = self._encrypt(values)
        while (outside := np.flatnonzero(values >= self.n)).size:  # at most three of four at first
            values[outside] = self._encrypt(values[outside])
        indices = values.astype(np.int64)
        return indices if np.ndim(positions) else indices[0]

    def _encrypt(self, values: np.ndarray) -> np.ndarray:
        left, right = values >> self._half, values & self._mask
        for key in self._keys:
            mixed = (right + key) * np.uint64(0x9E3779B97F4A7C15)  # wraps at 2^64, as it should
            mixed ^= mixed >> np.uint64(29)
            mixed *= np.uint64(0xBF58476D1CE4E5B9)
            left, right = right, left ^ ((mixed >> np.uint64(32)) & self._mask)
        return (left << self._half) | right
