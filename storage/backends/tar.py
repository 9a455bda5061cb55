"""Tar: shards of plain tar archives as webdataset reads them, and an index.

On disk: ``000000.tar`` and so on, 512 MiB each. An image is two members, ``000000000000.cls``, its label in decimal,
and ``000000000000.ppm``, its pixels as they are in memory behind a line of text (Netpbm, P6); the number is that of the
image. ``index.bin``: the letters ``ppm+cls1``; number of images, height, width and images a shard, unsigned, 64 bits;
then the labels, int64; all little-endian.

Why it is fast: every record has the same size, 5,120 bytes at 32 x 32, of which 2,048 are tar's. So NumPy writes the
headers of many members at once, and a map of a shard is an array with gaps. Blocks are allocated before they are
written, which saves a quarter of the writing. A shard holds 100,000 images of 32 x 32, as many as webdataset's
ShardWriter puts into one by default; batches out of eight shards took 1.8 times as long as out of one.

What is checked: at opening, that each shard has exactly the size that the index says, and that all that stands before
the pixels of its first and its last image is what this module writes for that number, shape and label; `read_single`
checks that for its image. No read believes a header, so damage to the others does no harm.

Library: Python's tarfile (https://docs.python.org/3/library/tarfile.html). Formats:
https://github.com/webdataset/webdataset and https://netpbm.sourceforge.net/doc/ppm.html.
"""

import math
import mmap
import os
import platform
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tarfile import BLOCKSIZE

import numpy as np
from numpy.typing import NDArray

from ..arrays import (
    check_images,
    check_index,
    check_shape,
    make_array,
    make_result,
    read_range,
    write_range,
)
from ..contract import BackendInfo, Image, Images, Labels
from ..errors import CorruptStoreError, StorageError, reading, writing
from ..paths import claim_store, stat_file
from ..reader import Reader
from ._tar_records import TEXT, Layout, fill_heads, make_head

FILE = "index.bin"
HEADER = struct.Struct("<8s4Q")
SIGNATURE = b"ppm+cls1"
LABEL = np.dtype("<i8")
SHARD = 512 << 20  # bytes
WINDOW = 10 << 20  # bytes that are mapped at once where all is read
ALIGNED = mmap.ALLOCATIONGRANULARITY // BLOCKSIZE  # a map may begin at each so many records
BATCH = 4 << 20  # bytes that are built, or gathered, at once: they stay in the processor's cache
INFO = BackendInfo({"python": platform.python_version()}, "the Python core team", "PSF-2.0")


def read_single(store: Path, index: int) -> tuple[Image, int]:
    """Read one image out of a store of any size; see `storage.Backend`."""
    label = np.empty(1, LABEL)
    with _open_index(store) as (layout, descriptor):
        position = check_index(store, index, layout.images)
        read_range(store, descriptor, HEADER.size + position * label.nbytes, label)
    number, place = divmod(position, layout.images_per_shard)
    with _open_shard(store, layout, number) as descriptor:
        _check_head(store, layout, descriptor, position, label)
        image = make_array(store, layout.shape[1:])
        read_range(store, descriptor, place * layout.record + layout.start, image)
    return image, int(label[0])


def store_many(store: Path, images: Images, labels: Labels) -> None:
    """Store an image set; see `storage.Backend`."""
    images, labels = check_images(images, labels)
    folder = claim_store(store)
    count, height, width, _ = images.shape
    layout = Layout(count, height, width, images_per_shard=1)
    layout = layout._replace(images_per_shard=max(1, SHARD // layout.record))
    with writing(store):
        _write_shards(folder, layout, images, labels)
        with (folder / FILE).open("xb", buffering=0) as file:
            write_range(file.fileno(), 0, np.frombuffer(HEADER.pack(SIGNATURE, *layout), np.uint8))
            write_range(file.fileno(), HEADER.size, labels.astype(LABEL, copy=False))


def read_many(store: Path, out: Images | None = None) -> tuple[Images, Labels]:
    """Read everything, in order; see `storage.Backend`."""
    layout, labels = _read_index(store)
    images = make_result(store, layout.shape, out)
    step = max(1, WINDOW // (layout.record * ALIGNED)) * ALIGNED
    for number in layout.shards:
        found = layout.find_images(number)
        with _open_shard(store, layout, number) as descriptor:
            _check_ends(store, layout, descriptor, found, labels)
            for start in found[::step]:
                part = images[start : min(start + step, found.stop)]
                part[...] = _map_images(layout, descriptor, start - found.start, len(part))
    return images, labels


def find_pixels(store: Path) -> dict[str, list[range]]:
    """Find the bytes of pixels and labels, and those of headers, which no read believes; see `storage.Backend`."""
    layout, labels = _read_index(store)
    return {
        FILE: [range(HEADER.size, HEADER.size + labels.nbytes)],
        **{_name_shard(number): [range(len(layout.find_images(number)) * layout.record)] for number in layout.shards},
    }


class TarReader(Reader):
    """Copies out of memory maps, one a shard."""

    def _open(self) -> tuple[int, int, int]:
        layout, labels = _read_index(self.store)
        shards = []
        for number in layout.shards:
            found = layout.find_images(number)
            with _open_shard(self.store, layout, number) as descriptor:
                _check_ends(self.store, layout, descriptor, found, labels)
                shards.append(_map_images(layout, descriptor, 0, len(found)))
        self._layout, self._labels, self._shards = layout, labels, shards
        return layout.images, layout.height, layout.width

    def _read(self, positions: NDArray[np.intp], out: Images | None) -> tuple[Images, Labels]:
        if out is None and len(self._shards) == 1:
            with suppress(MemoryError):  # make_result says it better
                return self._shards[0][positions], self._labels[positions]
        images = make_result(self.store, (len(positions), *self._shape), out)
        step = max(1, BATCH // math.prod(self._shape))
        for start in range(0, len(positions), step):  # what NumPy gathers before it is in `images` stays small
            part = slice(start, start + step)
            self._gather(positions[part], images[part])
        return images, self._labels[positions]

    def _gather(self, positions: NDArray[np.intp], images: Images) -> None:
        if len(self._shards) == 1:
            images[...] = self._shards[0][positions]
            return
        numbers, places = np.divmod(positions, self._layout.images_per_shard)
        for number in np.unique(numbers).tolist():
            chosen = np.flatnonzero(numbers == number)
            images[chosen] = self._shards[number][places[chosen]]

    def _read_one(self, position: int) -> tuple[Image, int]:
        number, place = divmod(position, self._layout.images_per_shard)
        return self._shards[number][place].copy(), int(self._labels[position])

    def _read_labels(self) -> Labels:
        return self._labels.copy()

    def view(self) -> Images:
        """View all images where they are in the archive, without a copy.

        Returns
        -------
        ndarray of uint8, shape (N, H, W, 3)
            Read-only, and not contiguous. It keeps the map of the file open, after the reader is closed too.

        Raises
        ------
        StorageError
            There is more than one shard.
        """
        self._be_ready()
        if len(self._shards) > 1:
            raise StorageError(f"{self.store} has {len(self._shards)} shards, which are no one array: use read")
        return self._shards[0] if self._shards else make_array(self.store, self._layout.shape)

    def _close(self) -> None:
        del self._layout, self._labels, self._shards


open_reader = TarReader


def _name_shard(number: int) -> str:
    return f"{number:06}.tar"


def _write_shards(folder: Path, layout: Layout, images: Images, labels: Labels) -> None:
    distinct, kinds = np.unique(labels, return_inverse=True)
    texts = distinct.astype(TEXT)
    batch = min(max(1, BATCH // layout.record), layout.images_per_shard, layout.images)
    records = np.zeros((batch, layout.record), np.uint8)
    records[:, : layout.start] = np.frombuffer(make_head(layout), np.uint8)
    for number in layout.shards:
        found = layout.find_images(number)
        with (folder / _name_shard(number)).open("xb", buffering=0) as file:
            os.posix_fallocate(file.fileno(), 0, layout.measure_shard(number))  # with the zeros that end an archive
            for start in found[::batch]:
                part = slice(start, min(start + batch, found.stop))
                filled = records[: part.stop - start]
                fill_heads(layout, filled, start, texts[kinds[part]])
                filled[:, layout.start : layout.end] = images[part].reshape(len(filled), -1)
                write_range(file.fileno(), (start - found.start) * layout.record, filled)


@contextmanager
def _open_index(store: Path) -> Iterator[tuple[Layout, int]]:
    """Open the index; yield what its header says, and its descriptor."""
    path, status = stat_file(store, FILE)
    with reading(store), open(path, "rb", buffering=0) as file:  # noqa: PTH123 - as `stat_file` gives it
        header = file.read(HEADER.size)
        if len(header) < HEADER.size or not header.startswith(SIGNATURE):
            raise CorruptStoreError(f"{store}: {FILE} has no header of ours: another program wrote it")
        layout = Layout(*HEADER.unpack(header)[1:])
        check_shape(store, layout.images, layout.height, layout.width)
        size = HEADER.size + layout.images * LABEL.itemsize
        if status.st_size != size or not layout.images_per_shard:
            raise CorruptStoreError(
                f"{store}: {FILE} has {status.st_size} bytes, not {size}, or no shards: it is damaged"
            )
        yield layout, file.fileno()


def _read_index(store: Path) -> tuple[Layout, Labels]:
    """Read the index, and hold it against the sizes of the shards: what else is believed comes from it."""
    with _open_index(store) as (layout, descriptor):
        labels = make_array(store, (layout.images,), LABEL)
        read_range(store, descriptor, HEADER.size, labels)
    for number in layout.shards:
        _find_shard(store, layout, number)
    return layout, labels.astype(np.int64, copy=False)


def _find_shard(store: Path, layout: Layout, number: int) -> bytes:
    name, size = _name_shard(number), layout.measure_shard(number)
    path, status = stat_file(store, name)
    if status.st_size != size:
        raise CorruptStoreError(
            f"{store}: {name} has {status.st_size} bytes, not {size}: it was cut short, or another program wrote it"
        )
    return path


@contextmanager
def _open_shard(store: Path, layout: Layout, number: int) -> Iterator[int]:
    path = _find_shard(store, layout, number)
    with reading(store, ValueError), open(path, "rb", buffering=0) as file:  # noqa: PTH123 - likewise
        yield file.fileno()


def _map_images(layout: Layout, descriptor: int, place: int, count: int) -> Images:
    """View images of a shard in a map of its records; as many records before them as `place` says are not mapped."""
    content = mmap.mmap(descriptor, count * layout.record, prot=mmap.PROT_READ, offset=place * layout.record)
    _, height, width, channels = layout.shape
    strides = layout.record, width * channels, channels, 1
    return np.ndarray((count, height, width, channels), np.uint8, content, layout.start, strides)


def _check_ends(store: Path, layout: Layout, descriptor: int, found: range, labels: Labels) -> None:
    """Refuse a shard whose first or last record is not what this module writes."""
    for index in (found[0], found[-1]):
        _check_head(store, layout, descriptor, index, labels[index : index + 1])


def _check_head(store: Path, layout: Layout, descriptor: int, index: int, label: Labels) -> None:
    """Refuse a record that does not begin as this module writes it."""
    expected = np.frombuffer(make_head(layout), np.uint8).reshape(1, -1).copy()
    fill_heads(layout, expected, index, label.astype(TEXT))
    found = np.empty_like(expected)
    read_range(store, descriptor, index % layout.images_per_shard * layout.record, found)
    if not np.array_equal(found, expected):
        raise CorruptStoreError(
            f"{store}: the headers of image {index} are not ours, or are those of another one: "
            f"{_name_shard(index // layout.images_per_shard)} or {FILE} is damaged, or another program wrote it"
        )
