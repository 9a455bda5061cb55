"""Records of many images: found in LMDB's map, viewed there, and kept from vanishing while they are viewed."""

import struct
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import lmdb
import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from ..arrays import CHANNELS, check_index, make_array, make_result
from ..contract import Image, Images
from ..errors import CorruptStoreError
from ._lmdb import count_records, pack_key, read_layout

LAYOUT = struct.Struct("<4Q")  # number of images, height, width, images a record


class Layout(NamedTuple):
    """What the record ``layout`` says."""

    images: int
    height: int
    width: int
    images_per_record: int

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape of all images."""
        return self.images, self.height, self.width, CHANNELS

    @property
    def records(self) -> range:
        """Numbers of the records that hold pixels."""
        return range(-(-self.images // self.images_per_record))


class Lease(ExitStack):
    """Keeps an environment open as long as anything refers to its map."""

    def __del__(self) -> None:
        """Close it: nothing refers to the map any more."""
        self.close()


class _Leased:
    """What NumPy makes an array of that keeps a lease."""

    def __init__(self, array: NDArray[np.uint8], lease: Lease) -> None:
        self.__array_interface__ = array.__array_interface__
        self._lease = lease


class Records(Sequence[Image]):
    """The images of a store where they lie in LMDB's map: read-only, not copied, looked up once a record.

    The map stays open as long as this object, or an image taken from it, is in use.
    """

    def __init__(self, store: Path, transaction: lmdb.Transaction, layout: Layout, lease: Lease) -> None:
        self._store, self._transaction, self._layout, self._lease = store, transaction, layout, lease
        self._views: dict[int, Images] = {}
        self._addresses = np.zeros(layout.images, np.int64)  # of the images in memory, 0 where not yet known
        self._first = make_array(store, layout.shape[1:])  # the image at the least of them
        self._places = np.arange(min(layout.images_per_record, layout.images)) * self._first.nbytes
        self._start = self._end = 0  # the least of them, and the end of the last image
        self._windows = 0, self._first[np.newaxis][:0]  # the least of them, and an image at each address from there on
        self._looking_up = Lock()

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape of all images."""
        return self._layout.shape

    def __len__(self) -> int:
        """Return how many images there are."""
        return self._layout.images

    def __getitem__(self, index: int) -> Image:  # type: ignore[override] # no slices: they would need a copy
        """View one image, shape (H, W, 3); negative indices count from the end."""
        number, place = divmod(check_index(self._store, index, self._layout.images), self._layout.images_per_record)
        image: Image = self._find_record(number)[place]
        return image

    def __array__(self, dtype: Any = None, copy: Any = None) -> NDArray[Any]:  # noqa: ANN401 - as NumPy calls it
        """Copy all images into one array."""
        if copy is False:
            raise ValueError("records do not lie side by side: one array of them is a copy")
        images = self.collect(np.arange(len(self)))
        return images if dtype is None else images.astype(dtype)

    def collect(self, positions: NDArray[np.intp], out: Images | None = None) -> Images:
        """Copy images into `out` or a fresh array, in the order of `positions`, which are in range."""
        at_once = self._layout.images_per_record  # as many stay in the processor's cache until they are in `out`
        if out is None and at_once > 1 and positions.size:
            with suppress(MemoryError):  # make_result says it better
                return self._gather(positions)
        images = make_result(self._store, (len(positions), *self.shape[1:]), out)
        for start in range(0, len(positions), at_once):
            part = slice(start, start + at_once)
            images[part] = self._gather(positions[part]) if at_once > 1 else self[int(positions[start])]
        return images

    def _gather(self, positions: NDArray[np.intp]) -> Images:
        addresses = self._addresses[positions]
        if not addresses.all():
            with self._looking_up:
                self._look_up(np.unique(positions[addresses == 0] // self._layout.images_per_record))
            addresses = self._addresses[positions]
        start, images = self._windows  # taken after the addresses: another thread may have stretched them
        return images[addresses - start]

    def _look_up(self, numbers: NDArray[np.intp]) -> None:
        """Stretch the windows over these records: all lie in one map, so their distances in memory are fixed."""
        records = [self._find_record(number) for number in numbers.tolist()]
        addresses = [_find_address(record) for record in records]
        lowest = min(addresses)
        if not self._end or lowest < self._start:
            self._start, self._first = lowest, records[addresses.index(lowest)][0]
        ends = [
            address + int(self._places[len(record) - 1]) for address, record in zip(addresses, records, strict=True)
        ]
        self._end = max(self._end, *ends)
        shape = self._end - self._start + 1, *self._first.shape
        self._windows = self._start, as_strided(self._first, shape, (1, *self._first.strides), writeable=False)
        # Only now: a thread that finds an address does not look whether the windows reach it.
        for number, address, record in zip(numbers.tolist(), addresses, records, strict=True):
            first = number * self._layout.images_per_record
            self._addresses[first : first + len(record)] = self._places[: len(record)] + address

    def _find_record(self, number: int) -> Images:
        view = self._views.get(number)
        if view is None:
            record = view_record(self._store, self._transaction, self._layout, number)
            view = self._views[number] = np.asarray(_Leased(record, self._lease))
        return view


def _find_address(array: NDArray[np.uint8]) -> int:
    address: int = array.__array_interface__["data"][0]
    return address


def read_packed_layout(store: Path, transaction: lmdb.Transaction) -> Layout:
    """Read the layout of a packed store, and hold it against the records."""
    layout = Layout(*read_layout(store, transaction, LAYOUT))
    first = min(layout.images, layout.images_per_record) * layout.height * layout.width * CHANNELS  # bytes
    if (
        not layout.images_per_record
        or count_records(transaction) != len(layout.records)
        or len(transaction.get(pack_key(0), b"")) != first
    ):
        raise CorruptStoreError(f"{store}: {layout.images} images do not fit the records: store the images again")
    return layout


def view_record(store: Path, transaction: lmdb.Transaction, layout: Layout, number: int) -> Images:
    """View one record in the map, shape (n, H, W, 3)."""
    start = number * layout.images_per_record
    count = min(layout.images_per_record, layout.images - start)
    try:
        value = transaction.get(pack_key(number))
        return np.frombuffer(value, np.uint8).reshape(count, *layout.shape[1:])  # type: ignore[arg-type] # None: no record
    except (TypeError, ValueError, lmdb.Error) as error:
        raise CorruptStoreError(f"{store}: record {number} is missing or damaged: store the images again") from error
