"""Strings of variable length in an HDF5 file, read without the library, which may never return from a damaged heap.

A dataset holds a reference for each: its length, the address of a heap, and its number there. The format:
https://docs.hdfgroup.org/documentation/hdf5/latest/_f_m_t3.html, "Global Heap".
"""

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arrays import make_array, read_range
from ..errors import CorruptStoreError
from ..limits import check_amount
from .files import open_input

REFERENCE = np.dtype([("length", "<u4"), ("heap", "<u8"), ("number", "<u4")])
TEXT = np.dtype("S")
HEAP, OBJECT = struct.Struct("<4sB3xQ"), struct.Struct("<HHIQ")
ALIGNMENT = 8  # of objects in a heap
HINT = "restore a copy"


@dataclass(frozen=True)
class Texts:
    """Strings of a dataset whose references begin at `place`."""

    path: Path
    name: str
    shape: tuple[int, ...]
    place: int
    dtype: np.dtype[Any] = TEXT

    def read(self, start: int) -> Iterator[NDArray[Any]]:
        """Read all strings from `start` on, one by one."""
        with open_input(self.path) as file:
            heaps = _Heaps(self.path, file.fileno())
            references = heaps.read(self.place, self.shape[0] * REFERENCE.itemsize).view(REFERENCE)
            for length, heap, number in references[start:].tolist():
                text = heaps.find(heap, number) if length else b""
                yield np.array([text[:length].split(b"\0")[0]], object)


class _Heaps:
    """The heaps of a file, each read once; all together have no more bytes than it."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path, self._descriptor = path, descriptor
        self._size = self._rest = os.fstat(descriptor).st_size
        self._heaps: dict[int, dict[int, bytes]] = {}

    def read(self, place: int, size: int) -> NDArray[np.uint8]:
        check_amount("a place of its strings", place + size, self._size, store=self._path)
        content = make_array(self._path, (size,))
        read_range(self._path, self._descriptor, place, content)
        return content

    def find(self, place: int, number: int) -> bytes:
        if place not in self._heaps:
            self._heaps[place] = self._parse(place)
        if number not in self._heaps[place]:
            raise CorruptStoreError(f"a string isn't in its heap at byte {place}", store=self._path, hint=HINT)
        return self._heaps[place][number]

    def _parse(self, place: int) -> dict[int, bytes]:
        magic, version, size = HEAP.unpack(self.read(place, HEAP.size).tobytes())
        if (magic, version) != (b"GCOL", 1) or size > self._rest:
            raise CorruptStoreError(f"there is no heap at byte {place}", store=self._path, hint=HINT)
        self._rest -= size
        content, objects, start = self.read(place, size).tobytes(), dict[int, bytes](), HEAP.size
        while start + OBJECT.size <= size:
            number, _, _, length = OBJECT.unpack_from(content, start)
            start += OBJECT.size
            if not number:  # free space
                break
            check_amount("a string", length, size - start, store=self._path)
            objects[number] = content[start : start + length]
            start += -(-length // ALIGNMENT) * ALIGNMENT
        return objects
