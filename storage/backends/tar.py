"""Tar: shards of plain tar archives, as webdataset reads them, and an index.

On disk: ``000000.tar`` and so on, 512 MiB each. An image is two members: ``000000000000.cls``, its label in decimal,
and ``000000000000.ppm``, a line of text (Netpbm, P6) and its pixels as they are in memory; the number is the image's
index. ``index.bin`` holds the letters ``ppm+cls1``; number of images, height, width and images per shard, unsigned, 64
bits; then the labels, int64; all little-endian. Pixels other than 8-bit RGB are members ``000000000000.npy``, as
numpy.save writes them; then the index holds ``npy+cls1``, and before the labels, the number of channels, 0 if images
have no axis of them, and NumPy's name of the dtype, padded with zeros to 8 bytes. An image file is the member
``000000000000.jpg``, or with the extension of another format, ``bin`` if it's none that is known. Then the index holds
``any+cls1``, the numbers of images and of shards, the first image of each shard, then N; the labels; the bytes of each
image; and where its record would begin if the shards were one file, then the end: all int64 but the letters.

Why it is fast: every record has the same size, 5,120 bytes at 32 x 32, of which 2,048 are tar's. So NumPy writes the
headers of many members at once, and a map of a shard is an array with gaps. Blocks are allocated before they are
written, which saves a quarter of the writing; image files are written with their headers from where they are, many with
one call, and copied out of a map. A shard holds 100,000 images of 32 x 32, as many as webdataset's
ShardWriter puts into one by default; batches out of eight shards took 1.8 times as long as out of one.

What is checked: when a store is opened, that each shard has the size that follows from the index, and that its first
and last records begin with exactly what this module writes for their number, label, and shape or size; `read_single`
checks its own record. Positions and sizes are never taken from a tar header, so damage to others does no harm.

Library: Python's tarfile (https://docs.python.org/3/library/tarfile.html). Formats:
https://github.com/webdataset/webdataset and https://netpbm.sourceforge.net/doc/ppm.html.
"""

import math
import mmap
import os
import platform
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from tarfile import BLOCKSIZE
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.format import write_array_header_1_0
from numpy.typing import NDArray

from ..arrays import (
    BYTE,
    CHANNELS,
    NAMES,
    check_dtype,
    check_encoded,
    check_images,
    check_index,
    check_range,
    check_shape,
    cut_rows,
    make_all,
    make_array,
    make_result,
    read_range,
    refuse_out,
    view_bytes,
    write_range,
)
from ..contract import ANY_PIXELS, BackendInfo, Image, Images, Labels, Records
from ..encoded import Encoded, gather_pieces, measure_offsets
from ..errors import CorruptStoreError, StorageError, reading, writing
from ..filling import report_filled
from ..limits import check_store
from ..paths import claim_store, open_file, stat_file
from ..reader import Description, Reader
from ._tar import (
    FILE,
    FILES_SIGNATURE,
    LABEL,
    START,
    TEXT,
    FileIndex,
    check_file_head,
    check_files,
    compare_heads,
    fill_heads,
    make_head,
    measure_shard,
    name_shard,
    round_up,
    write_files,
)

HEADER = struct.Struct("<8s4Q")
FORM = struct.Struct("<Q8s")  # channels and dtype of pixels that aren't 8-bit RGB
SIGNATURE, FORM_SIGNATURE = b"ppm+cls1", b"npy+cls1"
SHARD = 512 << 20  # bytes
WINDOW = 10 << 20  # bytes that are mapped at once when everything is read
ALIGNED = mmap.ALLOCATIONGRANULARITY // BLOCKSIZE  # a map can begin at every so many records
BATCH = 4 << 20  # bytes that are built or gathered at once, so that they stay in the processor's cache
INFO = BackendInfo(
    {"python": platform.python_version()},
    "the Python core team",
    "PSF-2.0",
    kinds=("pixels", "encoded"),
    dtypes=ANY_PIXELS,
)


class Layout(NamedTuple):
    """The numbers in the header of the index, and the positions in bytes that follow from them."""

    images: int
    height: int
    width: int
    images_per_shard: int
    channels: int = CHANNELS  # 0 if images have no axis of them
    dtype: np.dtype[Any] = BYTE

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of all images."""
        shape = self.images, self.height, self.width
        return (*shape, self.channels) if self.channels else shape

    @property
    def is_rgb(self) -> bool:
        """Whether pixels are 8-bit RGB."""
        return (self.channels, self.dtype) == (CHANNELS, BYTE)

    @property
    def start_of_labels(self) -> int:
        """Where the labels begin in the index."""
        return HEADER.size if self.is_rgb else HEADER.size + FORM.size

    @property
    def text(self) -> bytes:
        """The bytes before the pixels in a picture: a line, or the header of a .npy file."""
        if self.is_rgb:
            return b"P6\n%d %d\n255\n" % (self.width, self.height)
        return _make_header(self.shape[1:], self.dtype)

    @property
    def head(self) -> bytes:
        """The bytes before the pixels of image 0 in its record, with an empty label."""
        return make_head(self.end - self.start + len(self.text), "ppm" if self.is_rgb else "npy") + self.text

    def pack(self) -> bytes:
        """Write the header of the index."""
        numbers = self.images, self.height, self.width, self.images_per_shard
        if self.is_rgb:
            return HEADER.pack(SIGNATURE, *numbers)
        return HEADER.pack(FORM_SIGNATURE, *numbers) + FORM.pack(self.channels, NAMES[self.dtype].encode())

    @property
    def start(self) -> int:
        """Where the pixels begin in a record."""
        return START + len(self.text)

    @property
    def end(self) -> int:
        """Where the pixels end in a record."""
        return self.start + math.prod(self.shape[1:]) * self.dtype.itemsize

    @property
    def record(self) -> int:
        """Size of a record: an image, its label and their headers."""
        return round_up(self.end, BLOCKSIZE)

    @property
    def shards(self) -> range:
        """Numbers of the shards."""
        return range(-(-self.images // self.images_per_shard))

    def find_images(self, shard: int) -> range:
        """Find the images of a shard."""
        first = shard * self.images_per_shard
        return range(first, min(first + self.images_per_shard, self.images))

    def measure_records(self, shard: int) -> int:
        """Compute the size of all records of a shard."""
        return len(self.find_images(shard)) * self.record


def read_single(store: Path, index: int) -> tuple[Image | bytes, int]:
    """Read one image out of a store of any size; see `storage.Backend`."""
    with _open_index(store) as (layout, descriptor):
        if isinstance(layout, FileIndex):
            return _read_file(store, layout, index)
        label = np.empty(1, LABEL)
        position = check_index(store, index, layout.images)
        read_range(store, descriptor, layout.start_of_labels + position * label.nbytes, label)
    number, place = divmod(position, layout.images_per_shard)
    with _open_shard(store, layout, number) as descriptor:
        _check_head(store, layout, descriptor, position, label)
        image = make_array(store, layout.shape[1:], layout.dtype)
        read_range(store, descriptor, place * layout.record + layout.start, image)
    return image, int(label[0])


def store_many(store: Path, images: Images | Encoded, labels: Labels) -> None:
    """Store an image set; see `storage.Backend`."""
    if isinstance(images, Encoded):
        labels = check_encoded(images, labels)
        check_files(images)
        folder = claim_store(store)
        with writing(store):
            write_files(folder, images, labels, SHARD)
        return
    images, labels = check_images(images, labels, ANY_PIXELS)
    folder = claim_store(store)
    count, height, width, channels = (*images.shape, 0)[:4]
    layout = Layout(count, height, width, 1, channels, images.dtype)
    layout = layout._replace(images_per_shard=max(1, SHARD // layout.record))
    with writing(store):
        _write_shards(folder, layout, images, labels)
        with (folder / FILE).open("xb", buffering=0) as file:
            write_range(file.fileno(), 0, np.frombuffer(layout.pack(), np.uint8))
            write_range(file.fileno(), layout.start_of_labels, labels.astype(LABEL, copy=False))


def read_many(store: Path, out: Images | None = None) -> tuple[Images | Encoded, Labels]:
    """Read everything, in order; see `storage.Backend`."""
    layout, labels = _read_index(store)
    if isinstance(layout, FileIndex):
        with reading(store):
            return _read_files(store, layout, labels, out)
    images = make_all(store, layout.shape, out, layout.dtype)
    step = max(1, WINDOW // (layout.record * ALIGNED)) * ALIGNED
    for number in layout.shards:
        found = layout.find_images(number)
        with _open_shard(store, layout, number) as descriptor:
            _check_ends(store, layout, descriptor, found, labels)
            for start in found[::step]:
                part = images[start : min(start + step, found.stop)]
                mapped = _map_images(layout, descriptor, start - found.start, len(part))
                for piece in cut_rows(part):
                    part[piece] = mapped[piece]
                    report_filled(part[piece])
    return images, labels


def find_pixels(store: Path) -> dict[str, list[range]]:
    """Find the bytes of pixels, labels and tar headers: no read relies on any of them; see `storage.Backend`."""
    layout, labels = _read_index(store)
    start = layout.start_of_labels
    with reading(store):
        records = {name_shard(number): [range(layout.measure_records(number))] for number in layout.shards}
    return {FILE: [range(start, start + labels.nbytes)], **records}


def find_records(store: Path) -> list[Records]:
    """Find the bytes of each image, its label and their headers; see `storage.Backend`."""
    layout, _ = _read_index(store)
    with reading(store):
        if isinstance(layout, FileIndex):
            return [Records(name_shard(shard), layout.find_starts(shard)) for shard in layout.shards]
        return [
            Records(name_shard(shard), range(0, layout.measure_records(shard) + 1, layout.record))
            for shard in layout.shards
        ]


class TarReader(Reader):
    """Copies out of memory maps, one for each shard."""

    def _open(self) -> Description:
        layout, self._labels = _read_index(self.store)
        self._shards: list[Images] = []
        if isinstance(layout, FileIndex):
            return self._open_files(layout)
        for number in layout.shards:
            found = layout.find_images(number)
            with _open_shard(self.store, layout, number) as descriptor:
                _check_ends(self.store, layout, descriptor, found, self._labels)
                self._shards.append(_map_images(layout, descriptor, 0, len(found)))
        self._layout = layout
        return Description(layout.images, layout.shape[1:], layout.dtype)

    def _open_files(self, index: FileIndex) -> Description:
        views: list[memoryview] = []
        for number in index.shards:
            with _open_shard(self.store, index, number) as descriptor:
                for position in (index.firsts[number], index.firsts[number + 1] - 1):
                    check_file_head(self.store, index, descriptor, int(position))
                views.append(memoryview(mmap.mmap(descriptor, 0, prot=mmap.PROT_READ)))
        self._files = MappedFiles(self.store, index, views)
        return Description(index.images)

    def _read_encoded(self, positions: NDArray[np.intp]) -> tuple[Encoded, Labels]:
        return self._files.collect(positions), self._labels[positions]

    def _read(self, positions: NDArray[np.intp], out: Images | None) -> tuple[Images, Labels]:
        if out is None and len(self._shards) == 1:
            with suppress(MemoryError):  # make_result has the better message
                return self._shards[0][positions], self._labels[positions]
        images = make_result(self.store, (len(positions), *self._shape), out, self._dtype)
        step = max(1, BATCH // (math.prod(self._shape) * self._dtype.itemsize))
        for start in range(0, len(positions), step):  # NumPy gathers each part in memory of its own first
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

    def view(self) -> Images | Sequence[Image] | Sequence[memoryview]:
        """View all images in the map of the only shard, as an array with gaps, or all files; see `storage.Reader`."""
        self._be_ready()
        if self.kind == "encoded":
            return self._files
        if len(self._shards) > 1:
            raise StorageError(
                f"its {len(self._shards)} shards can't be viewed as one array", store=self.store, hint="use read"
            )
        return self._shards[0] if self._shards else make_array(self.store, self._layout.shape, self._dtype)

    def _close(self) -> None:
        del self._labels, self._shards
        vars(self).pop("_files", None)


open_reader = TarReader


class MappedFiles(Sequence[memoryview]):
    """The files of a store in the maps of its shards: read-only, not copied.

    A map stays open as long as this object, or a file taken from it, is in use.
    """

    def __init__(self, store: Path, index: FileIndex, views: list[memoryview]) -> None:
        self._store, self._views, self._find_shards = store, views, index.find_shards
        self._starts, self._lengths = index.find_contents(), index.lengths.astype(np.int64)

    def __len__(self) -> int:
        """Return the number of files."""
        return len(self._lengths)

    def __getitem__(self, index: int) -> memoryview:  # type: ignore[override] # as of the other views, no slices
        """View one file; negative indices count from the end."""
        position = check_index(self._store, index, len(self))
        start, number = int(self._starts[position]), int(self._find_shards(np.array([position]))[0])
        return self._views[number][start : start + int(self._lengths[position])]

    def collect(self, positions: NDArray[np.intp]) -> Encoded:
        """Copy files in the order of `positions`, which are in range."""
        starts, lengths = self._starts[positions], self._lengths[positions]
        check_store(self._store, int(lengths.max(initial=0)))
        offsets = measure_offsets(lengths)
        content = make_array(self._store, (int(offsets[-1]),))
        views = map(self._views.__getitem__, self._find_shards(positions).tolist())
        gather_pieces(zip(views, starts.tolist(), (starts + lengths).tolist(), strict=True), content)
        return Encoded(content, offsets)


@lru_cache(maxsize=8)
def _make_header(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bytes:
    """Make the header of a .npy file."""
    header = BytesIO()
    write_array_header_1_0(header, {"descr": dtype.newbyteorder("<").str, "fortran_order": False, "shape": shape})
    return header.getvalue()


def _read_file(store: Path, index: FileIndex, number: int) -> tuple[bytes, int]:
    position = check_index(store, number, index.images)
    shard, start = index.find_record(position)
    with _open_shard(store, index, shard) as descriptor:
        end = start + START + int(index.lengths[position])
        check_range(store, position, start, end, index.measure_records(shard))
        check_file_head(store, index, descriptor, position)
        check_store(store, end - start - START)
        content = make_array(store, (end - start - START,))
        read_range(store, descriptor, start + START, content)
    return content.tobytes(), int(index.labels[position])


def _read_files(store: Path, index: FileIndex, labels: Labels, out: Images | None) -> tuple[Encoded, Labels]:
    refuse_out(store, out)
    offsets, starts = measure_offsets(index.lengths), index.find_contents()
    check_store(store, int(offsets[-1]))
    content = make_array(store, (int(offsets[-1]),))
    for number in index.shards:
        with _open_shard(store, index, number) as descriptor:
            for position in (index.firsts[number], index.firsts[number + 1] - 1):
                check_file_head(store, index, descriptor, int(position))
            for position in range(index.firsts[number], index.firsts[number + 1]):
                read_range(store, descriptor, int(starts[position]), content[offsets[position] : offsets[position + 1]])
    return Encoded(content, offsets), labels


def _write_shards(folder: Path, layout: Layout, images: Images, labels: Labels) -> None:
    distinct, kinds = np.unique(labels, return_inverse=True)
    texts = distinct.astype(TEXT)
    batch = min(max(1, BATCH // layout.record), layout.images_per_shard, layout.images)
    records = np.zeros((batch, layout.record), np.uint8)
    head = layout.head
    records[:, : layout.start] = np.frombuffer(head, np.uint8)
    for number in layout.shards:
        found = layout.find_images(number)
        with (folder / name_shard(number)).open("xb", buffering=0) as file:
            os.posix_fallocate(file.fileno(), 0, measure_shard(layout, number))
            for start in found[::batch]:
                part = slice(start, min(start + batch, found.stop))
                filled = records[: part.stop - start]
                fill_heads(head, filled, start, texts[kinds[part]])
                filled[:, layout.start : layout.end] = view_bytes(images[part]).reshape(len(filled), -1)
                write_range(file.fileno(), (start - found.start) * layout.record, filled)


@contextmanager
def _open_index(store: Path) -> Iterator[tuple[Layout | FileIndex, int]]:
    """Open the index; yield the layout in its header, and its descriptor."""
    with open_file(store, FILE) as (descriptor, status):
        header = os.pread(descriptor, HEADER.size, 0)
        if header.startswith(FILES_SIGNATURE) and len(header) == HEADER.size:
            yield FileIndex(store, descriptor, status.st_size), descriptor
            return
        if header.startswith(FORM_SIGNATURE):
            header += os.pread(descriptor, FORM.size, HEADER.size)
        layout = _parse_header(store, header)
        size = layout.start_of_labels + layout.images * LABEL.itemsize
        if status.st_size != size or not layout.images_per_shard:
            raise CorruptStoreError(
                f"{FILE} is damaged: it has {status.st_size} bytes, not {size}, or no images in a shard",
                store=store,
                hint="store the images again",
            )
        check_store(store, size)
        yield layout, descriptor


def _parse_header(store: Path, content: bytes) -> Layout:
    has_form = content.startswith(FORM_SIGNATURE)
    if len(content) < HEADER.size + FORM.size * has_form or not (has_form or content.startswith(SIGNATURE)):
        raise CorruptStoreError(f"{FILE} has another header: another program wrote it", store=store)
    layout = Layout(*HEADER.unpack_from(content)[1:])
    if has_form:
        channels, dtype = FORM.unpack_from(content, HEADER.size)
        found = check_dtype(store, dtype.rstrip(b"\0").decode("latin-1"))
        layout = layout._replace(channels=channels, dtype=found)
        if layout.is_rgb:
            raise CorruptStoreError(f"{FILE} is damaged: 8-bit RGB has another header", store=store)
    check_shape(store, *layout.shape)
    return layout


def _read_index(store: Path) -> tuple[Layout | FileIndex, Labels]:
    """Read the index, and compare it with the sizes of the shards before anything is allocated or mapped for them."""
    with _open_index(store) as (layout, descriptor):
        labels = make_array(store, (layout.images,), LABEL)
        if isinstance(layout, FileIndex):
            layout.check_lengths()
            labels[:] = layout.labels
        else:
            read_range(store, descriptor, layout.start_of_labels, labels)
        for number in layout.shards:
            _check_shard(store, layout, number, stat_file(store, name_shard(number))[1])
        return layout, labels.astype(np.int64, copy=False)


def _check_shard(store: Path, layout: Layout | FileIndex, number: int, status: os.stat_result) -> None:
    name, size = name_shard(number), measure_shard(layout, number)
    if status.st_size != size:
        raise CorruptStoreError(
            f"{name} has {status.st_size} bytes, not {size}: it was cut short, or another program wrote it",
            store=store,
        )


@contextmanager
def _open_shard(store: Path, layout: Layout | FileIndex, number: int) -> Iterator[int]:
    with open_file(store, name_shard(number)) as (descriptor, status):
        _check_shard(store, layout, number, status)
        yield descriptor


def _map_images(layout: Layout, descriptor: int, place: int, count: int) -> Images:
    """View `count` images of a shard, from its record `place` on, which is a multiple of `ALIGNED`."""
    content = mmap.mmap(descriptor, count * layout.record, prot=mmap.PROT_READ, offset=place * layout.record)
    image = np.ndarray(layout.shape[1:], layout.dtype, content, layout.start)
    return np.ndarray((count, *image.shape), image.dtype, content, layout.start, (layout.record, *image.strides))


def _check_ends(store: Path, layout: Layout, descriptor: int, found: range, labels: Labels) -> None:
    for index in (found[0], found[-1]):
        _check_head(store, layout, descriptor, index, labels[index : index + 1])


def _check_head(store: Path, layout: Layout, descriptor: int, index: int, label: Labels) -> None:
    """Refuse a record that doesn't begin exactly as this module writes it."""
    head = layout.head
    expected = np.frombuffer(head, np.uint8).reshape(1, -1).copy()
    fill_heads(head, expected, index, label.astype(TEXT))
    found = np.empty_like(expected)
    read_range(store, descriptor, index % layout.images_per_shard * layout.record, found)
    compare_heads(store, index, index // layout.images_per_shard, found, expected)
