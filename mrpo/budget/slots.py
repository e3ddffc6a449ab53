"""Ids to consecutive slot numbers: an open-addressing hash table in numpy, whole batches at a time."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mrpo.budget.ids import IdArray

SlotArray = npt.NDArray[np.int64]

_MIX = np.uint64(0x9E3779B97F4A7C15)


class SlotTable:
    """Slot i belongs to the i-th id ever added. Cost of a call: O(batch), amortised over the table's growth."""

    def __init__(self) -> None:
        self._ids = np.empty(0, dtype=np.uint64)
        self._table = np.full(16, -1, dtype=np.int32)
        self._size = 0

    def __len__(self) -> int:
        return self._size

    @property
    def ids(self) -> IdArray:
        """All ids, in the order of their slots."""
        return self._ids[: self._size]

    @property
    def nbytes(self) -> int:
        return self._ids.nbytes + self._table.nbytes

    def find(self, ids: IdArray) -> SlotArray:
        """The slot of every id, -1 where there is none."""
        place = self._home(ids)
        slots = self._table[place].astype(np.int64)
        wrong = np.flatnonzero(slots >= 0)
        wrong = wrong[self._ids[slots[wrong]] != ids[wrong]]
        while len(wrong):
            place[wrong] = self._next(place[wrong])
            slots[wrong] = self._table[place[wrong]]
            wrong = wrong[slots[wrong] >= 0]
            wrong = wrong[self._ids[slots[wrong]] != ids[wrong]]
        return slots

    def add(self, ids: IdArray) -> SlotArray:
        """The slot of every id (which must be distinct), new ones appended in their order."""
        slots = self.find(ids)
        new = np.flatnonzero(slots < 0)
        slots[new] = self._size + np.arange(len(new))
        self.reserve(self._size + len(new))
        self._ids[slots[new]] = ids[new]
        self._size += len(new)
        self._enter(slots[new])
        return slots

    def reserve(self, size: int) -> None:
        """Make room for ``size`` ids in all."""
        if size > len(self._ids):
            self._ids = grown(self._ids, size)
        if 5 * size > 4 * len(self._table):
            self._table = np.full(1 << (5 * size // 4).bit_length(), -1, dtype=np.int32)
            self._enter(np.arange(self._size))

    def _enter(self, slots: SlotArray) -> None:
        place = self._home(self._ids[slots])
        while len(slots):
            free = self._table[place] < 0
            self._table[place[free]] = slots[free]
            lost = self._table[place] != slots
            slots, place = slots[lost], self._next(place[lost])

    def _home(self, ids: IdArray) -> SlotArray:
        shift = np.uint64(64 - (len(self._table).bit_length() - 1))
        return ((ids * _MIX) >> shift).astype(np.int64)

    def _next(self, place: SlotArray) -> SlotArray:
        return (place + 1) & (len(self._table) - 1)


def grown(array: np.ndarray, size: int) -> np.ndarray:
    """A copy with room for ``size`` rows and a little more, so that growing costs O(1) a row; new rows are 0."""
    bigger = np.zeros((size + size // 32 + 16, *array.shape[1:]), dtype=array.dtype)
    bigger[: len(array)] = array
    return bigger
