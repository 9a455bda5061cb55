"""Zarr: sharded arrays of checksummed chunks in one group.

On disk: a group of Zarr format 3. ``images`` is of shape (N, H, W) or (N, H, W, C), ``labels`` int64 of shape (N,),
both little-endian. A file ``c.0...`` is a shard, of 64 MiB or a 200th of everything: chunks of up to 384 KiB, each
followed by the crc32c of its bytes, then the offset and length of each, and a crc32c of these. Chunks hold whole
images, aren't compressed, and are written even if they are black. Image files are one after the other in ``content``,
uint8 of shape (total,), in chunks of 384 KiB; ``offsets``, int64 of shape (N + 1,), says where each starts, then where
the last one ends. The group's own ``zarr.json`` is written last.

Why so: zarr takes 0.25 ms per chunk, so 16 images per chunk take four times as long to write as 128; larger chunks make
a single image cost more on a cold disk. zarr takes 3 ms to read one image and 400 microseconds per image in batches,
and returns zeros for what is missing. So this module reads shards by itself: a reader maps them, verifies each chunk
when it is first touched, and copies images out of the map, or files in pieces. Other layouts are refused. zarr encodes
shards into memory, and they are written from there, so what zarr's thread still does after Ctrl-C writes nothing.

Library: zarr (https://zarr.readthedocs.io/en/stable/user-guide/performance/, "Sharding"); the shards:
https://zarr-specs.readthedocs.io/en/latest/v3/codecs/sharding-indexed/index.html.
"""

import json
import mmap
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from math import prod
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import Crc32cCodec
from zarr.storage import MemoryStore

from ..arrays import (
    BYTE,
    DTYPES,
    check_encoded,
    check_images,
    check_index,
    check_offsets,
    check_range,
    check_shape,
    make_all,
    make_array,
    make_result,
    read_range,
    refuse_out,
    view_bytes,
)
from ..contract import ANY_PIXELS, BackendInfo, Image, Images, Labels
from ..encoded import Encoded, gather_pieces, measure_offsets
from ..errors import CorruptStoreError, reading, writing
from ..filling import report_filled
from ..limits import check_store
from ..paths import claim_store, find_file, open_regular, read_small
from ..reader import Description, Reader

DOCUMENT = "zarr.json"
PIXELS, FILES = ("images", "labels"), ("content", "labels", "offsets")  # the arrays of each kind of image set
NUMBER = np.dtype("<i8")
ACCEPTED: dict[str, dict[str, np.dtype[Any]]] = {  # dtypes by the name that Zarr has for them
    "images": DTYPES,
    "content": {BYTE.name: BYTE},
    "labels": {NUMBER.name: NUMBER},
    "offsets": {NUMBER.name: NUMBER},
}
CHUNK = 384 << 10  # bytes at most, unless one image is larger
SHARD = 64 << 20
MAX_SHARDS = 200  # they become larger instead: a reader has all of them open
CHECKSUM = np.dtype("<u4")
MAX_DOCUMENT = 1 << 20  # bytes
INFO = BackendInfo(
    {name: version(name) for name in ("zarr", "google-crc32c")},
    "the Zarr developers",
    "MIT",
    kinds=("pixels", "encoded"),
    dtypes=ANY_PIXELS,
)


def read_single(store: Path, index: int) -> tuple[Image | bytes, int]:
    """Read one image out of a store of any size; see `storage.Backend`."""
    with _open_arrays(store) as (images, labels, *offsets):
        position = check_index(store, index, labels.shape[0])
        label = int(labels.read_rows(position, position + 1)[0])
        if not offsets:
            return np.array(images.read_rows(position, position + 1)[0]), label
        start, end = offsets[0].read_rows(position, position + 2).tolist()
        check_range(store, position, start, end, images.shape[0])
        return images.read_rows(start, end).tobytes(), label


def store_many(store: Path, images: Images | Encoded, labels: Labels) -> None:
    """Store an image set; see `storage.Backend`."""
    arrays: dict[str, NDArray[Any]]
    if isinstance(images, Encoded):
        arrays = {"labels": check_encoded(images, labels), "content": images.content, "offsets": images.offsets}
    else:
        arrays = dict(zip(PIXELS, check_images(images, labels, ANY_PIXELS), strict=True))
    folder = claim_store(store)
    encoded: dict[str, Any] = {}
    with writing(store, MemoryError, RuntimeError):
        for name, array in arrays.items():
            _write_array(folder / name, array.astype(array.dtype.newbyteorder("<"), copy=False))
        zarr.create_group(MemoryStore(encoded))
        _write_files(folder, encoded)


def read_many(store: Path, out: Images | None = None) -> tuple[Images | Encoded, Labels]:
    """Read everything, in order; see `storage.Backend`."""
    with _open_arrays(store) as (images, labels, *others):
        if others:
            refuse_out(store, out)
            offsets = _read_offsets(store, images, *others)
            content = images.read(make_array(store, images.shape))
            return Encoded(content, offsets), labels.read(make_array(store, labels.shape, np.int64))
        result = make_all(store, images.shape, out, images.dtype), make_array(store, labels.shape, np.int64)
        return images.read(result[0]), labels.read(result[1])


def find_pixels(store: Path) -> dict[str, list[range]]:
    """Find everything but the indices of the shards, and the offsets of files; see `storage.Backend`."""
    with _open_arrays(store) as arrays:
        return {
            f"{array.name}/{_name_shard(array.shape, number)}": [range(array.ends[number])]
            for array in arrays[:2]
            for number in range(len(array.ends))
        }


class ZarrReader(Reader):
    """Copies out of memory maps of the shards; the labels are in memory."""

    def _open(self) -> Description:
        with _open_arrays(self.store) as (images, labels, *offsets):
            check_store(self.store, 8 * labels.shape[0])
            self._labels = labels.read(make_array(self.store, labels.shape, np.int64))
            if offsets:
                self._offsets = _read_offsets(self.store, images, *offsets)
                self._places = images.offsets.tolist()
            self._shards = [mmap.mmap(shard, 0, prot=mmap.PROT_READ) for shard in images.descriptors]
            self._views = [memoryview(shard) for shard in self._shards]
            self._images, self._verified = images, np.zeros(len(images.offsets), np.bool_)
        return Description(labels.shape[0], images.shape[1:], images.dtype)

    def _read(self, positions: NDArray[np.intp], out: Images | None) -> tuple[Images, Labels]:
        images = make_result(self.store, (len(positions), *self._shape), out, self._dtype)
        numbers, places = np.divmod(positions, self._images.rows_per_chunk)
        if not self._verified[numbers].all():
            self._verify(np.unique(numbers))
        size, pixels = self._images.row_size, view_bytes(images).data
        shards = (numbers // self._images.chunks_per_shard).tolist()
        starts = (self._images.offsets[numbers] + places * size).tolist()
        for place, (shard, start) in enumerate(zip(shards, starts, strict=True)):
            pixels[place * size : place * size + size] = self._views[shard][start : start + size]
        return images, self._labels[positions]

    def _read_encoded(self, positions: NDArray[np.intp]) -> tuple[Encoded, Labels]:
        starts, ends = self._offsets[positions], self._offsets[positions + 1]
        rows, changes = self._images.rows_per_chunk, np.zeros(len(self._verified) + 1, np.int64)
        np.add.at(changes, starts // rows, 1)
        np.subtract.at(changes, (ends - 1) // rows + 1, 1)  # for an empty file at the start of a chunk, nothing is left
        self._verify(np.flatnonzero(np.cumsum(changes)))
        offsets = measure_offsets(ends - starts)
        content = make_array(self.store, (int(offsets[-1]),))
        gather_pieces(self._find_pieces(starts.tolist(), ends.tolist()), content)
        return Encoded(content, offsets), self._labels[positions]

    def _find_pieces(self, starts: Sequence[int], ends: Sequence[int]) -> Iterator[tuple[memoryview, int, int]]:
        """Find the pieces of files in their chunks."""
        rows, chunks = self._images.rows_per_chunk, self._images.chunks_per_shard
        for start, end in zip(starts, ends, strict=True):
            done = start
            while done < end:
                number, place = divmod(done, rows)
                size = min(rows - place, end - done)
                begin = self._places[number] + place
                yield self._views[number // chunks], begin, begin + size
                done += size

    def _verify(self, numbers: NDArray[np.intp]) -> None:
        for number in numbers[~self._verified[numbers]].tolist():
            shard = np.frombuffer(self._shards[number // self._images.chunks_per_shard], np.uint8)
            start = int(self._images.offsets[number])
            content, checksum = np.split(shard[start : start + self._images.chunk_size], [-CHECKSUM.itemsize])
            self._images.verify(number, google_crc32c.value(content), checksum)
            self._verified[number] = True

    def _read_labels(self) -> Labels:
        return self._labels.copy()

    def _close(self) -> None:
        del self._images, self._labels, self._verified, self._views, self._shards  # the last reference closes a map


open_reader = ZarrReader


class ShardedArray:
    """An array of a store with its shards open: none is cut short, and no chunk is missing."""

    def __init__(self, store: Path, name: str, stack: ExitStack) -> None:
        if (Path(store) / name).is_symlink():
            raise CorruptStoreError("it is a link: another program made it", store=Path(store) / name)
        metadata = json.loads(read_small(store, _find_file(store, f"{name}/{DOCUMENT}"), MAX_DOCUMENT))
        self.store, self.name = store, name
        self.dtype = ACCEPTED[name].get(metadata["data_type"], NUMBER)  # another one isn't as described
        self.shape: tuple[int, ...] = tuple(metadata["shape"])
        shard_rows: int = metadata["chunk_grid"]["configuration"]["chunk_shape"][0]
        self.rows_per_chunk: int = metadata["codecs"][0]["configuration"]["chunk_shape"][0]
        self.chunks_per_shard = shard_rows // self.rows_per_chunk
        if min(self.rows_per_chunk, self.chunks_per_shard) < 1 or not metadata.items() >= self._describe().items():
            raise CorruptStoreError(f"{name} have another layout than here", store=store, hint="read them with zarr")
        self.row_size = prod(self.shape[1:]) * self.dtype.itemsize  # bytes
        self.chunk_size = self.rows_per_chunk * self.row_size + CHECKSUM.itemsize
        numbers = range(-(-self.shape[0] // shard_rows))
        self.paths = [_find_file(store, f"{name}/{_name_shard(self.shape, number)}") for number in numbers]
        self.descriptors = []
        for path in self.paths:
            self.descriptors.append(open_regular(path)[0])
            stack.callback(os.close, self.descriptors[-1])
        check_store(store, 8 * self.shape[0] // self.rows_per_chunk)
        self.offsets = np.empty(-(-self.shape[0] // self.rows_per_chunk), np.int64)  # of each chunk in its shard
        self.ends = [self._read_index(number) for number in range(len(self.descriptors))]  # of the chunks

    def _describe(self) -> dict[str, Any]:
        """Describe an array of this layout as its metadata do, as far as it matters to a reader."""
        count, *row = self.shape
        number = {"name": "bytes", "configuration": {"endian": "little"}}
        sharding = {
            "chunk_shape": [self.rows_per_chunk, *row],
            "codecs": [{"name": "bytes"} if self.dtype == BYTE else number, {"name": "crc32c"}],
            "index_codecs": [number, {"name": "crc32c"}],
            "index_location": "end",
        }
        shard = [self.rows_per_chunk * self.chunks_per_shard, *row]
        return {
            "zarr_format": 3,
            "node_type": "array",
            "data_type": self.dtype.name,
            "shape": [count, *row],
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": shard}},
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "."}},
            "codecs": [{"name": "sharding_indexed", "configuration": sharding}],
        }

    def _read_index(self, number: int) -> int:
        path, descriptor = self.paths[number], self.descriptors[number]
        index = 2 * self.chunks_per_shard * np.dtype("<u8").itemsize
        end: int = os.fstat(descriptor).st_size - index - CHECKSUM.itemsize
        offsets = self.offsets[number * self.chunks_per_shard :][: self.chunks_per_shard]
        if end < 0:
            raise CorruptStoreError("this shard was cut short", store=path)
        content = np.empty(index + CHECKSUM.itemsize, np.uint8)
        read_range(path, descriptor, end, content)
        if google_crc32c.value(content[:index]) != content[index:].view(CHECKSUM)[0]:
            raise CorruptStoreError("the index of this shard is damaged", store=path)
        entries = content[:index].view("<u8").reshape(-1, 2)[: len(offsets)]
        if not ((entries[:, 1] == self.chunk_size) & (entries[:, 0] <= max(end - self.chunk_size, -1))).all():
            raise CorruptStoreError(f"chunks of {self.name} are missing", store=path)
        offsets[:] = entries[:, 0]
        return end

    def verify(self, number: int, found: int, checksum: NDArray[np.uint8]) -> None:
        """Refuse the chunk `number` if `found` isn't its checksum."""
        if found != checksum.view(CHECKSUM)[0]:
            first = number * self.rows_per_chunk
            last = min(first + self.rows_per_chunk, self.shape[0]) - 1
            path = self.paths[number // self.chunks_per_shard]
            raise CorruptStoreError(f"at least one of {self.name} {first} to {last} is damaged", store=path)

    def read(self, out: NDArray[Any]) -> NDArray[Any]:
        """Read everything into `out`."""
        for number in range(len(self.offsets)):
            first = number * self.rows_per_chunk
            rows = out[first : first + self.rows_per_chunk]
            self._read_chunk(number, rows)
            report_filled(rows)
        return out

    def read_rows(self, start: int, end: int) -> NDArray[Any]:
        """Read the chunks with the rows from `start` to `end` - 1, and view these."""
        first, last = start // self.rows_per_chunk, -(-end // self.rows_per_chunk)
        skipped = first * self.rows_per_chunk
        count = min(last * self.rows_per_chunk, self.shape[0]) - skipped
        rows = make_array(self.store, (count, *self.shape[1:]), self.dtype)
        for number in range(first, last):
            place = number * self.rows_per_chunk - skipped
            self._read_chunk(number, rows[place : place + self.rows_per_chunk])
        return rows[start - skipped : end - skipped]

    def _read_chunk(self, number: int, rows: NDArray[Any]) -> None:
        """Read the rows of a chunk; in the last one, padding follows them."""
        shard, start = number // self.chunks_per_shard, int(self.offsets[number])
        path, descriptor = self.paths[shard], self.descriptors[shard]
        rest = np.empty(self.chunk_size - rows.nbytes, np.uint8)
        read_range(path, descriptor, start, rows)
        read_range(path, descriptor, start + rows.nbytes, rest)
        padding, checksum = np.split(rest, [-CHECKSUM.itemsize])
        self.verify(number, google_crc32c.extend(google_crc32c.value(rows), padding), checksum)


@contextmanager
def _open_arrays(store: Path) -> Iterator[list[ShardedArray]]:
    find_file(store, DOCUMENT)
    with ExitStack() as stack, reading(store, AttributeError, TypeError):
        names = FILES if os.path.lexists(Path(store) / "content") else PIXELS
        images, labels, *offsets = arrays = [ShardedArray(store, name, stack) for name in names]
        shapes = [array.shape for array in arrays]
        if offsets and shapes != [(images.shape[0],), (labels.shape[0],), (labels.shape[0] + 1,)]:
            raise CorruptStoreError(f"it has content, labels and offsets of shapes {shapes}", store=store)
        if not offsets:
            if len(images.shape) not in {3, 4} or labels.shape != images.shape[:1]:
                raise CorruptStoreError(f"it has images {images.shape} and labels {labels.shape}", store=store)
            check_shape(store, *images.shape)
        yield arrays


def _read_offsets(store: Path, content: ShardedArray, array: ShardedArray) -> NDArray[np.int64]:
    """Read the offsets of files, and check them and the size of the content."""
    check_store(store, content.shape[0] + 2 * array.shape[0] * NUMBER.itemsize)
    offsets = array.read(make_array(store, array.shape, np.int64))
    check_offsets(store, offsets, content.shape[0])
    return offsets


def _find_file(store: Path, name: str) -> Path:
    path = Path(store) / name
    if not os.path.lexists(path):
        raise CorruptStoreError(f"it has no {name}: it isn't complete, or another backend wrote it", store=store)
    return path


def _name_shard(shape: Sequence[int], number: int) -> str:
    return f"c.{number}" + ".0" * (len(shape) - 1)


def _write_array(folder: Path, array: NDArray[Any]) -> None:
    count, *row = array.shape
    size = prod(row) * array.itemsize
    rows = max(1, min(count, CHUNK // size))
    chunks = max(1, -(-count // rows))
    shard = rows * min(chunks, max(1, SHARD // (rows * size), -(-chunks // MAX_SHARDS)))
    encoded: dict[str, Any] = {}
    target = zarr.create_array(
        MemoryStore(encoded),
        shape=array.shape,
        dtype=array.dtype,
        chunks=(rows, *row),
        shards=(shard, *row),
        filters=None,
        compressors=Crc32cCodec(),
        fill_value=0,
        chunk_key_encoding={"name": "default", "separator": "."},
        config={"write_empty_chunks": True},
    )
    document = {DOCUMENT: encoded.pop(DOCUMENT)}
    folder.mkdir()
    for start in range(0, count, shard):
        target[start : start + shard] = array[start : start + shard]
        _write_files(folder, encoded)
    _write_files(folder, document)


def _write_files(folder: Path, encoded: dict[str, Any]) -> None:
    while encoded:
        name, content = encoded.popitem()
        with (folder / name).open("xb") as file:
            file.write(content.as_buffer_like())
