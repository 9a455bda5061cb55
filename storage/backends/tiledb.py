"""TileDB: dense arrays in one group, 96 KiB of pixels or files per tile.

On disk: a TileDB group with two dense arrays, of one fragment each. ``images`` has the dimensions ``image`` and
``byte`` and one attribute ``pixels`` of type blob: a cell is a byte, a row the bytes of an image, a tile as many images
as fit into 96 KiB. ``labels`` has the dimension ``image`` and the attribute ``label``, int64. The group's metadata
``count``, ``height``, ``width``, and unless pixels are 8-bit RGB, ``channels``, 0 if images have no axis of them, and
``dtype``, NumPy's name, little-endian, are written last. Without images there is no fragment. Image files are one after
the other in ``content``, which has the dimension ``byte``; ``offsets`` has the attribute ``offset``, int64, for each
image where it starts, then where the last one ends. The metadata are ``count`` and ``bytes``, those of all files.

Why so: TileDB opens the file again for each tile of a query. With 8 to 32 images per tile, shuffled batches take about
30 microseconds per image. The ranges of a batch are sorted, and gaps between tiles aren't read (``vfs.min_batch_gap``),
as TileDB would to save requests to a cloud: that took 300. TileDB keeps no minimum and maximum of a blob, so it is
written in two thirds of the time of numbers. Four dimensions are read 20 times as slowly. Checksum filters hash whole
tiles: batches take two to three times as long with SHA-256. So there are none.

Library: TileDB-Py (https://tiledb-inc-tiledb.readthedocs-hosted.com/projects/tiledb-py/en/stable/).
"""

import ctypes
import operator
import os
import struct
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from math import prod
from pathlib import Path
from typing import Any
from weakref import WeakSet

import numpy as np
from numpy.typing import NDArray

with np.printoptions():  # tiledb sets how arrays are printed, for the whole process
    import tiledb
    from tiledb.libtiledb import LayoutType

from ..arrays import (
    BYTE,
    CHANNELS,
    NAMES,
    check_dtype,
    check_encoded,
    check_images,
    check_offsets,
    check_range,
    check_shape,
    make_all,
    make_array,
    make_result,
    refuse_out,
    view_bytes,
)
from ..contract import ANY_PIXELS, BackendInfo, Image, Images, Labels
from ..encoded import Encoded, gather, measure_offsets
from ..errors import CorruptStoreError, reading, writing
from ..filling import report_filled
from ..limits import check_memory, check_store, measure_content
from ..paths import claim_store, find_file, open_file, refuse_special_files
from ..reader import Description, Reader, fork_lock, leak

MARKER = "__tiledb_group.tdb"  # the file that makes a folder a group
TILE = 96 << 10  # bytes at most, unless one image is larger
PART = 16 << 20  # bytes read by one query
CONFIG = {
    "sm.enable_signal_handlers": "false",  # Ctrl-C is Python's
    "sm.mem.malloc_trim": "false",
    "vfs.min_batch_gap": "0",
    "vfs.min_batch_size": "1",
}
TILED = {"__group", "__meta", "__schema"}  # folders of files that are sequences of tiles
METADATA = "__fragment_metadata.tdb"
HEADER = struct.Struct("<IQQBQBI")  # of a tile: version, bytes in the file and in memory, type, ..., bytes of filters
SIZE = 8  # bytes of a number
MAX_TIME = 1 << 62  # milliseconds: the clock of the writer may be ahead of this one
ERRORS = (tiledb.TileDBError, KeyError, TypeError, ValueError)
ATTRIBUTES = {"images": "pixels", "content": "content", "offsets": "offset", "labels": "label"}  # by array
BYTES = {"images", "content"}  # the others hold numbers
INFO = BackendInfo(
    {"tiledb": tiledb.__version__, "TileDB": ".".join(map(str, tiledb.libtiledb.version()))},
    "TileDB, Inc.",
    "MIT",
    kinds=("pixels", "encoded"),
    dtypes=ANY_PIXELS,
)

_contexts: "WeakSet[Any]" = WeakSet()


def store_many(store: Path, images: Images | Encoded, labels: Labels) -> None:
    """Store an image set; see `storage.Backend`."""
    arrays: dict[str, NDArray[Any]]
    numbers: dict[str, int | str]
    if isinstance(images, Encoded):
        labels, numbers = check_encoded(images, labels), {"bytes": len(images.content)}
        arrays = {"content": images.content, "offsets": images.offsets, "labels": labels}
    else:
        images, labels = check_images(images, labels, ANY_PIXELS)
        numbers = {"height": images.shape[1], "width": images.shape[2]}
        if (images.shape[3:], images.dtype) != ((CHANNELS,), BYTE):
            numbers |= {"channels": (*images.shape, 0)[3], "dtype": NAMES[images.dtype]}
        arrays = {"images": images, "labels": labels}
    with fork_lock, writing(store, *ERRORS), _open_folder(claim_store(store)) as uri:
        context = _make_context()
        tiledb.Group.create(uri, ctx=context)
        for name, rows in arrays.items():
            _write_array(uri, name, context, rows)
        with tiledb.Group(uri, "w", ctx=context) as group:
            for name in arrays:
                group.add(name, name=name, relative=True)
            group.meta.update({"count": len(labels), **numbers})
        with TileDbReader(store) as reader:  # TileDB raises nothing if it couldn't find out the size of what it wrote
            last = range(len(labels))[-1:]
            reader.read_encoded(last) if isinstance(images, Encoded) else reader.read(last)


def read_many(store: Path, out: Images | None = None) -> tuple[Images | Encoded, Labels]:
    """Read everything, in order; see `storage.Backend`."""
    with reading(store), TileDbReader(store) as reader:
        return reader.read_all(out)


class TileDbReader(Reader):
    """Reads sorted ranges of images with one query per batch; keeps the labels after the first batch."""

    def _open(self) -> Description:
        find_file(self.store, MARKER)
        with fork_lock, ExitStack() as stack, reading(self.store, *ERRORS):
            for path in map(Path, refuse_special_files(self.store)):
                if path.name == METADATA or path.parent.name in TILED:
                    _check_tiles(path)
            uri, self._context = stack.enter_context(_open_folder(self.store)), _make_context()
            config = tiledb.Config({"sm.group.timestamp_end": str(MAX_TIME)})
            with tiledb.Group(uri, config=config, ctx=self._context) as group:
                count, shape, dtype, shapes = _read_numbers(self.store, group)
                if not all(name in group for name in shapes):
                    raise CorruptStoreError("the group has lost its arrays", store=self.store)
            self._arrays = {
                name: stack.enter_context(tiledb.open(f"{uri}/{name}", timestamp=MAX_TIME, ctx=self._context))
                for name in shapes
            }
            for name, array in self._arrays.items():
                _check_array(self.store, name, array, shapes[name])
            self._kept: Labels | None = None
            self._offsets: NDArray[np.int64] | None = None
            self._size, *_ = shapes.get("content", (0,))
            check_store(self.store, self._size)
            self._resources = stack.pop_all()
        return Description(count, shape, dtype)

    def read_all(self, out: Images | None) -> tuple[Images | Encoded, Labels]:
        """Read everything, for `read_many`."""
        if self._shape:
            images = make_all(self.store, (self._count, *self._shape), out, self._dtype)
            return self._read(np.arange(self._count), images)
        refuse_out(self.store, out)
        return self._read_encoded(np.arange(self._count))

    def _read(self, positions: NDArray[np.intp], out: Images | None) -> tuple[Images, Labels]:
        images = make_result(self.store, (len(positions), *self._shape), out, self._dtype)
        step = max(1, PART // (prod(self._shape) * self._dtype.itemsize))
        for start in range(0, len(positions), step):
            self._collect(positions[start : start + step], images[start : start + step])
            report_filled(images[start : start + step])
        return images, self._keep_labels()[positions]

    def _read_one(self, position: int) -> tuple[Image, int]:
        image, label = make_array(self.store, self._shape, self._dtype), np.empty(1, np.int64)
        self._query("images", [(position, position)], image)
        self._query("labels", [(position, position)], label)
        return image, int(label[0])

    def _read_labels(self) -> Labels:
        return self._read_numbers("labels", 0, self._count)

    def _keep_labels(self) -> Labels:
        if self._kept is None:
            self._kept = self._read_labels()
        return self._kept

    def _read_numbers(self, name: str, start: int, end: int) -> NDArray[np.int64]:
        """Read labels or offsets, from `start` to `end` - 1."""
        check_store(self.store, (end - start) * 8)
        numbers = make_array(self.store, (end - start,), np.int64)
        if end > start:
            self._query(name, [(start, end - 1)], numbers)
        return numbers

    def _read_encoded(self, positions: NDArray[np.intp]) -> tuple[Encoded, Labels]:
        if len(positions) == 1 and self._offsets is None:
            position = int(positions[0])
            starts, ends = np.split(self._read_numbers("offsets", position, position + 2), 2)
            check_range(self.store, position, int(starts[0]), int(ends[0]), self._size)
            labels = self._read_numbers("labels", position, position + 1)
        else:
            if self._offsets is None:
                self._offsets = self._read_numbers("offsets", 0, self._count + 1)
                check_offsets(self.store, self._offsets, self._size)
            starts, ends, labels = (
                self._offsets[positions],
                self._offsets[positions + 1],
                self._keep_labels()[positions],
            )
        offsets = measure_offsets(ends - starts)
        content = make_array(self.store, (int(offsets[-1]),))
        self._collect_files(positions, starts, ends, content)
        return Encoded(content, offsets), labels

    def _collect_files(
        self,
        positions: NDArray[np.intp],
        starts: NDArray[np.int64],
        ends: NDArray[np.int64],
        content: NDArray[np.uint8],
    ) -> None:
        """Read each file once, in the order of the array, then put them in the order of `positions`."""
        distinct, chosen, inverse = np.unique(positions, return_index=True, return_inverse=True)
        places = measure_offsets((ends - starts)[chosen])
        in_order = len(distinct) == len(positions) and bool((distinct == positions).all())
        files = content if in_order else make_array(self.store, (int(places[-1]),))
        done = 0
        for ranges, size in _cut_ranges(starts[chosen].tolist(), ends[chosen].tolist()):
            self._query("content", ranges, files[done : done + size])
            done += size
        if not in_order:
            gather(files.data, places[inverse], places[inverse + 1], content)

    def _collect(self, positions: NDArray[np.intp], images: Images) -> None:
        """Read each image once, in the order of the array, then put them in the order of `positions`."""
        distinct, inverse = np.unique(positions, return_inverse=True)
        in_order = len(distinct) == len(positions) and bool((distinct == positions).all())
        rows = images if in_order else make_array(self.store, (len(distinct), *self._shape), self._dtype)
        gaps = np.flatnonzero(np.diff(distinct) != 1)
        firsts, lasts = distinct[np.r_[0, gaps + 1]].tolist(), distinct[np.r_[gaps, len(distinct) - 1]].tolist()
        self._query("images", list(zip(firsts, lasts, strict=True)), rows)
        if not in_order:
            np.take(rows, inverse, axis=0, out=images, mode="clip")

    def _query(self, name: str, ranges: list[tuple[int, int]], out: NDArray[Any]) -> None:
        """Fill `out` itself; shorter ways to read copy everything once more."""
        array = self._arrays[name]
        with fork_lock, reading(self.store, *ERRORS):
            subarray = tiledb.Subarray(array, self._context)
            subarray.add_ranges([ranges, *([(0, array.shape[1] - 1)] for _ in array.shape[1:])])
            query = tiledb.Query(array, self._context)
            query.layout = LayoutType.ROW_MAJOR
            query.set_subarray(subarray)
            buffer = view_bytes(out) if name in BYTES else out
            query.set_data_buffer(ATTRIBUTES[name], buffer, buffer.size)
            query._submit()  # noqa: SLF001 - `submit` allocates another buffer
            if not query.is_complete():
                raise CorruptStoreError(f"a query of {name} ended early", store=self.store)

    def _close(self) -> None:
        with fork_lock:
            self._resources.close()
        del self._arrays, self._kept, self._offsets, self._context


open_reader = TileDbReader


def _check_tiles(path: Path) -> None:
    """Compare the sizes in one of TileDB's small files with the file: TileDB allocates what they say before it reads.

    Such a file is a sequence of tiles. In the metadata of a fragment, a footer follows, which ends with the places of
    the tiles and its own size.
    """
    with open_file(path.parent, path.name) as (file, status):
        content = os.pread(file, measure_content(file, status), 0)
    end = len(content)
    if path.name == METADATA:
        end -= SIZE + int.from_bytes(content[-SIZE:], "little")
    places, place = [], 0
    while place < end:
        places.append(place)
        _, persisted, size, _, _, _, filters = HEADER.unpack_from(content, place)
        check_memory(path, size, len(content), "a tile")
        place += HEADER.size + filters + persisted
    if place != end:
        raise CorruptStoreError("its tiles don't fill it: it is damaged", store=path)
    listed = content[-SIZE * (len(places) + 1) : -SIZE]
    if path.name == METADATA and listed != struct.pack(f"<{len(places)}Q", *places):
        raise CorruptStoreError("it doesn't list its tiles: it is damaged", store=path)


def _read_numbers(
    store: Path,
    group: Any,  # noqa: ANN401 - tiledb has no types
) -> tuple[int, tuple[int, ...], np.dtype[Any], dict[str, tuple[int, ...]]]:
    """Read the metadata of a group: how many images it has, shape and dtype of each, and the shapes of its arrays."""
    names = ("count", "bytes") if "bytes" in group.meta else ("count", "height", "width")
    count, *sizes = (operator.index(group.meta[name]) for name in names)
    if len(sizes) > 1:
        channels = operator.index(group.meta["channels"]) if "channels" in group.meta else CHANNELS
        dtype = check_dtype(store, group.meta["dtype"]) if "dtype" in group.meta else BYTE
        count, *shape = check_shape(store, count, *sizes, *([channels] if channels else []))
        return count, tuple(shape), dtype, {"images": (count, prod(shape) * dtype.itemsize), "labels": (count,)}
    if min(count, *sizes) < 0:
        raise CorruptStoreError(f"it claims to hold {count} files of {sizes[0]} bytes", store=store)
    return count, (), BYTE, {"content": (sizes[0],), "offsets": (count + 1,), "labels": (count,)}


def _check_array(store: Path, name: str, array: Any, shape: tuple[int, ...]) -> None:  # noqa: ANN401
    """Refuse an array of another layout, and one with missing cells, which TileDB would fill in."""
    schema, count, dtype = array.schema, shape[0], np.dtype("S" if name in BYTES else np.int64)
    domain = tuple((0, size - 1) for size in (max(count, 1), *shape[1:]))
    if (
        schema.sparse
        or schema.nattr != 1
        or (schema.attr(0).name, schema.attr(0).dtype, schema.attr(0).ncells) != (ATTRIBUTES[name], dtype, 1)
        or schema.attr(0).isnullable
        or tuple(schema.domain.dim(number).domain for number in range(schema.domain.ndim)) != domain
    ):
        raise CorruptStoreError(f"{name} isn't an array of {count} {dtype}: another program wrote it", store=store)
    if array.nonempty_domain() != (domain if count else None):
        raise CorruptStoreError(f"a part of {name} is missing", store=store)


def _cut_ranges(starts: Sequence[int], ends: Sequence[int]) -> Iterator[tuple[list[tuple[int, int]], int]]:
    """Cut sorted ranges of bytes into parts for one query each, with their sizes; join those that touch."""
    ranges: list[tuple[int, int]] = []
    size = 0
    for start, end in zip(starts, ends, strict=True):
        first = start
        while first < end:
            last = min(end, first + PART - size) - 1
            if ranges and ranges[-1][1] + 1 == first:
                ranges[-1] = ranges[-1][0], last
            else:
                ranges.append((first, last))
            size += last + 1 - first
            first = last + 1
            if size == PART:
                yield ranges, size
                ranges, size = [], 0
    if ranges:
        yield ranges, size


def _write_array(folder: str, name: str, context: Any, rows: NDArray[Any]) -> None:  # noqa: ANN401
    if name in BYTES:
        row = [prod(rows.shape[1:]) * rows.itemsize] if rows.ndim > 1 else []
        rows = view_bytes(rows).reshape(len(rows), *row).view("S1")
    tile = max(1, min(len(rows), TILE // (rows.strides[0] if len(rows) else 1)))
    axes = ("byte",) if name == "content" else ("image", "byte")
    domain = tiledb.Domain(
        *(
            tiledb.Dim(axis, domain=(0, max(size, 1) - 1), tile=extent, dtype=np.uint64, ctx=context)
            for axis, size, extent in zip(axes, rows.shape, (tile, *rows.shape[1:]), strict=False)
        ),
        ctx=context,
    )
    form = {"dtype": "blob", "var": False} if name in BYTES else {"dtype": np.int64}
    attributes = [tiledb.Attr(name=ATTRIBUTES[name], **form, ctx=context)]
    uri = f"{folder}/{name}"
    tiledb.Array.create(uri, tiledb.ArraySchema(domain, attributes, ctx=context), ctx=context)
    if len(rows):
        with tiledb.open(uri, "w", ctx=context) as array:
            array[:] = rows


@contextmanager
def _open_folder(folder: Path) -> Iterator[str]:
    """Open a folder, and give it a name in UTF-8, which TileDB requires."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def _make_context() -> Any:  # noqa: ANN401 - tiledb has no types
    _prepare_forks()
    fork = os.fork
    context = tiledb.Ctx(CONFIG)
    os.fork = fork  # tiledb has it warn that a child can't use the parent's context; a reader makes its own there
    _contexts.add(context)
    return context


@cache
def _prepare_forks() -> None:
    os.register_at_fork(after_in_child=_leave_parent)


def _leave_parent() -> None:  # pragma: no cover - runs in children only
    """Leak the parent's contexts, and exit without the destructors of C++: both would wait for the parent's threads."""
    for context in _contexts:
        leak(context)
    process = ctypes.CDLL(None)
    process.on_exit(process._exit, None)  # noqa: SLF001 - its name in C; Python has done its own work by then
