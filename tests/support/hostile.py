"""Reads of a hostile store in a child that is limited, and stores whose numbers are absurd."""

import json
import os
import re
import resource
import sqlite3
import struct
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext, suppress
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import storage
from storage import BACKENDS, Backend, Encoded
from storage.contract import Kind
from tests.faults.children import run_cases, run_child
from tests.support.image_sets import make_set
from tests.support.memory import Peak, limit_addresses, measure_files

COUNT, HEIGHT, WIDTH = 20, 32, 32
SIZE = HEIGHT * WIDTH * 3  # bytes of an image, or of an image file
START, END = (COUNT - 1) * SIZE, COUNT * SIZE  # of the last file
SECONDS = 5  # of the processor

SetNumbers = Callable[[Path, int, int, int], object]
SetForm = Callable[[Path, int, str], object]


def make_store(backend: str, store: Path, kind: Kind = "pixels") -> Backend:
    """Store twenty images, or twenty files of as many bytes; skip a test of a kind that the backend doesn't accept."""
    module = BACKENDS[backend]
    if kind not in module.INFO.kinds:
        pytest.skip(f"{backend} stores no {kind} images")
    images, labels = make_set(COUNT, HEIGHT, WIDTH)
    files = Encoded(images.reshape(-1), np.arange(0, END + 1, SIZE))
    module.store_many(store, files if kind == "encoded" else images, labels)
    return module


def make_gray_store(backend: str, store: Path) -> Backend:
    """Store twenty images of 16 bits without an axis of channels: what says so is in fields of its own."""
    module = BACKENDS[backend]
    module.store_many(store, np.zeros((COUNT, HEIGHT, WIDTH), np.uint16), np.arange(COUNT))
    return module


def read_single(module: Backend, store: Path) -> None:
    """Read the first and the last image alone."""
    for index in (0, -1):
        module.read_single(store, index)


def read_batch(module: Backend, store: Path) -> None:
    """Read two images through a reader."""
    with module.open_reader(store) as reader:
        (reader.read if reader.kind == "pixels" else reader.read_encoded)([0, len(reader) - 1])


def read_labels(module: Backend, store: Path) -> None:
    """Read all labels."""
    with module.open_reader(store) as reader:
        reader.read_labels()


Read = Callable[[Backend, Path], object]
READS: dict[str, Read] = {
    "read_many": lambda module, store: module.read_many(store),
    "read_single": read_single,
    "read_batch": read_batch,
    "read_labels": read_labels,
    "find_pixels": lambda module, store: module.find_pixels(store),
    "find_records": lambda module, store: module.find_records(store),
}


def find_excess(module: Backend, store: Path, reads: Mapping[str, Read] | None = None) -> str:
    """Read a store in each way, in a child; return what exceeds the limits, or isn't an error of ours."""
    return find_excesses(module, store, [store], lambda _: nullcontext(), reads)


def find_excesses(
    module: Backend,
    store: Path,
    paths: Sequence[Path],
    change: Callable[[Path], AbstractContextManager[object]],
    reads: Mapping[str, Read] | None = None,
) -> str:
    """Read a store with each of its paths changed, in one child; return what exceeds the limits, and where."""

    def read(path: Path) -> str:
        with change(path):
            return _read_all(module, store, reads or READS)

    return run_cases(paths, read, begin=_limit)


def _limit() -> None:
    limit_addresses()
    usage = resource.getrusage(resource.RUSAGE_SELF)
    seconds = int(usage.ru_utime + usage.ru_stime) + SECONDS
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))


def _read_all(module: Backend, store: Path, reads: Mapping[str, Read]) -> str:
    size = measure_files(store)
    return "; ".join(filter(None, (_read(name, read, module, store, size) for name, read in reads.items())))


def _read(name: str, read: Read, module: Backend, store: Path, size: int) -> str:
    peak = Peak()
    try:
        read(module, store)
    except storage.StorageError as error:
        if error.store is None or not error.store.is_relative_to(store):
            return f"{name}: {error} doesn't name {store}"
    except Exception as error:  # noqa: BLE001 - any other is wrong
        return f"{name}: {type(error).__name__}: {error}"
    excess = peak.describe_excess(size)
    return f"{name}: {excess}" if excess else ""


def _set_npy(store: Path, count: int, height: int, width: int) -> None:
    _set_headers(store, {"images": (count, height, width, 3), "labels": (count,)})


def _set_npy_files(store: Path, count: int, start: int, end: int) -> None:
    _set_pair(store / "offsets.npy", start, end)
    _set_headers(store, {"content": (end,), "offsets": (count + 1,), "labels": (count,)})


def _set_headers(store: Path, shapes: Mapping[str, tuple[int, ...]]) -> None:
    for name, shape in shapes.items():
        path = store / f"{name}.npy"
        dtype = "|u1" if name in {"images", "content"} else "<i8"
        header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}"
        text = b"\x93NUMPY\x01\x00" + struct.pack("<H", 246) + header.encode().ljust(245) + b"\n"
        path.write_bytes(text + path.read_bytes()[128:])


def _set_pair(path: Path, start: int, end: int) -> None:
    """Replace the offsets of the last file in a list of offsets."""
    before, after = struct.pack("<2Q", START, END), struct.pack("<2Q", start % 2**64, end % 2**64)
    content = path.read_bytes()
    assert content.count(before) == 1
    path.write_bytes(content.replace(before, after))


def _set_with_hdf5(set_numbers: SetNumbers, store: Path, *numbers: int) -> None:
    """Set numbers in a child, as HDF5 itself crashes while it writes some of them; what it wrote until then is read."""
    pytest.importorskip("h5py")
    run_child(lambda: str(set_numbers(store, *numbers) or ""))


def _set_hdf5(chunked: bool, store: Path, count: int, height: int, width: int) -> None:  # noqa: FBT001 - of a table
    import h5py  # noqa: PLC0415 - it may be missing

    options = {"chunks": (1, min(height, 1000), min(width, 1000), 3)} if chunked else {}
    with suppress(ValueError, OverflowError, TypeError, OSError), h5py.File(store / "images.h5", "w") as file:
        file.create_dataset("images", (count, height, width, 3), np.uint8, **options)
        file.create_dataset("labels", (count,), "<i8")


def _set_hdf5_files(chunked: bool, store: Path, count: int, start: int, end: int) -> None:  # noqa: FBT001 - likewise
    import h5py  # noqa: PLC0415 - it may be missing

    options = {"chunks": (1000,), "maxshape": (None,)} if chunked else {}
    with suppress(ValueError, OverflowError, TypeError, OSError), h5py.File(store / "images.h5", "w") as file:
        file.create_dataset("content", (end,), np.uint8, **options)
        file.create_dataset("labels", (count,), "<i8")
        file.create_dataset("offsets", (count + 1,), "<i8", **options)[-2:] = [start, end]


def _set_png(store: Path, count: int, height: int, width: int) -> None:
    path = store / "labels.csv"
    numbers = b"images=%d,height=%d,width=%d," % (count, height, width)
    path.write_bytes(re.sub(rb"images=\d+,height=\d+,width=\d+,", numbers, path.read_bytes(), count=1))


def _set_bytes(store: Path, count: int, height: int, width: int) -> None:
    before, after = (
        struct.pack("<3Q", *(number % 2**64 for number in numbers))
        for numbers in ((COUNT, HEIGHT, WIDTH), (count, height, width))
    )
    for path in [path for path in store.rglob("*") if path.is_file()]:
        path.write_bytes(path.read_bytes().replace(before, after))


def _set_record_files(store: Path, count: int, start: int, end: int) -> None:
    pairs = ((COUNT, END, 0), (count, end, 0)), ((START, END), (start, end))
    for path in [path for path in store.rglob("*") if path.is_file()]:
        content = path.read_bytes()
        for before, after in pairs:
            old, new = (struct.pack(f"<{len(pair)}Q", *(number % 2**64 for number in pair)) for pair in (before, after))
            content = content.replace(old, new)
        path.write_bytes(content)


def _set_tar_files(store: Path, count: int, start: int, end: int) -> None:
    content = bytearray((store / "index.bin").read_bytes())
    length = len(content) - 8 * (COUNT + 2)  # the last one; where records begin follows
    numbers = {8: count, length: end - start, len(content) - 16: start, len(content) - 8: end}
    for place, number in numbers.items():
        struct.pack_into("<Q", content, place, number % 2**64)
    (store / "index.bin").write_bytes(content)


def _set_files(store: Path, count: int, start: int, end: int) -> None:
    first, names, *lines = (store / "index.tsv").read_bytes().splitlines(keepends=True)
    length = len(lines[0])
    lines[-1] = lines[-1].replace(b"\t%d\t" % SIZE, b"\t%d\t" % abs(end - start)).lstrip().rjust(length)
    header = first.replace(b"images=%d " % COUNT, b"images=%d " % count) + names
    (store / "index.tsv").write_bytes(header + b"".join(lines))
    if count < 1 << 40:
        os.truncate(store / "index.tsv", len(header) + count * length)


def _set_sqlite(store: Path, count: int, height: int, width: int) -> None:
    with closing(sqlite3.connect(store / "images.sqlite")) as connection, suppress(OverflowError, sqlite3.Error):
        connection.execute("UPDATE layout SET count=?, height=?, width=?", (count, height, width))
        connection.execute("UPDATE images SET id=? WHERE id=?", (count - 1, COUNT - 1))
        connection.commit()


def _set_sqlite_files(store: Path, count: int, start: int, end: int) -> None:
    with closing(sqlite3.connect(store / "images.sqlite")) as connection, suppress(OverflowError, sqlite3.Error):
        connection.execute("UPDATE layout SET count=?, bytes=?", (count, end))
        connection.execute("UPDATE images SET id=?, label=? WHERE id=?", (count - 1, start, COUNT - 1))
        connection.commit()


def _set_leveldb(store: Path, count: int, height: int, width: int) -> None:
    plyvel = pytest.importorskip("plyvel")
    with plyvel.DB(str(store)) as database:
        database.put(b"layout", struct.pack("<3Q", *(number % 2**64 for number in (count, height, width))))
        if count > COUNT:
            database.put(struct.pack(">Q", (count - 1) % 2**64), bytes(HEIGHT * WIDTH * 3 + 8))
        database.compact_range()
    for log in store.glob("*.log"):
        log.unlink()


def _set_zarr(store: Path, count: int, height: int, width: int) -> None:
    for name in ("images", "labels"):
        path = store / name / "zarr.json"
        document = json.loads(path.read_text("utf-8"))
        row = [height, width, 3] if name == "images" else []
        document["shape"] = [count, *row]
        document["chunk_grid"]["configuration"]["chunk_shape"] = [count, *row]
        document["codecs"][0]["configuration"]["chunk_shape"] = [1, *row]
        path.write_text(json.dumps(document), "utf-8")


def _set_zarr_files(store: Path, count: int, start: int, end: int) -> None:
    google_crc32c = pytest.importorskip("google_crc32c")
    for name, rows in {"content": end, "labels": count, "offsets": count + 1}.items():
        path = store / name / "zarr.json"
        document = json.loads(path.read_text("utf-8"))
        document["shape"] = [rows]
        path.write_text(json.dumps(document), "utf-8")
    shard = store / "offsets" / "c.0"
    _set_pair(shard, start, end)
    content, size = bytearray(shard.read_bytes()), 8 * (COUNT + 1)  # of the only chunk
    content[size : size + 4] = google_crc32c.value(bytes(content[:size])).to_bytes(4, "little")
    shard.write_bytes(content)


def _set_parquet(store: Path, count: int, height: int, width: int) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    table = parquet.read_table(store / "images.parquet")
    numbers = {"images": str(count), "height": str(height), "width": str(width)}
    parquet.write_table(table.replace_schema_metadata(numbers), store / "images.parquet")


def _set_feather(store: Path, count: int, height: int, width: int) -> None:  # noqa: ARG001 - as the others
    ipc = pytest.importorskip("pyarrow").ipc
    with ipc.open_file(store / "images.arrow") as file:
        table = file.read_all().replace_schema_metadata({"images": str(count)})
    with ipc.new_file(store / "images.arrow", table.schema) as file:
        file.write_table(table)


def _set_feather_files(store: Path, count: int, start: int, end: int) -> None:
    _set_feather(store, count, HEIGHT, WIDTH)
    _set_pair(store / "images.arrow", start, end)


def _set_parquet_files(store: Path, count: int, start: int, end: int) -> None:
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    table = parquet.read_table(store / "images.parquet").replace_schema_metadata({"images": str(count)})
    with suppress(OverflowError):
        sizes = pa.array([SIZE] * (COUNT - 1) + [end - start], pa.int64())
        table = table.set_column(table.schema.get_field_index("size"), table.schema.field("size"), sizes)
    options = {"compression": "none", "use_dictionary": False, "data_page_size": 1 << 30}
    parquet.write_table(table, store / "images.parquet", **options)


def _set_tiledb(store: Path, count: int, height: int, width: int) -> None:
    tiledb = pytest.importorskip("tiledb")
    with suppress(OverflowError, ValueError, TypeError, tiledb.TileDBError), tiledb.Group(str(store), "w") as group:
        group.meta.update({"count": count, "height": height, "width": width})


def _set_tiledb_files(store: Path, count: int, start: int, end: int) -> None:
    tiledb = pytest.importorskip("tiledb")
    context = tiledb.Ctx({"sm.enable_signal_handlers": "false"})
    with suppress(OverflowError, ValueError, TypeError, tiledb.TileDBError):
        with tiledb.open(str(store / "offsets"), "w", ctx=context) as offsets:
            offsets[COUNT - 1 : COUNT + 1] = np.array([start % 2**64, end % 2**64], np.uint64).view(np.int64)
        with tiledb.Group(str(store), "w", ctx=context) as group:
            group.meta.update({"count": count, "bytes": end})


def _set_npy_form(store: Path, channels: int, dtype: str) -> None:
    content = (store / "images.npy").read_bytes()
    kind = {"uint8": "|u1", "float32": "<f4"}.get(dtype, dtype)
    header = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': ({COUNT}, {HEIGHT}, {WIDTH}, {channels}), }}"
    (store / "images.npy").write_bytes(content[:10] + header.encode().ljust(117) + b"\n" + content[128:])


def _set_hdf5_form(chunked: bool, store: Path, channels: int, dtype: str) -> None:  # noqa: FBT001 - of a table
    h5py = pytest.importorskip("h5py")
    options = {"chunks": (1, 1, 1, min(channels, 1000))} if chunked else {}
    with suppress(ValueError, OverflowError, TypeError, OSError), h5py.File(store / "images.h5", "w") as file:
        file.create_dataset("labels", (COUNT,), "<i8")
        file.create_dataset("images", (COUNT, HEIGHT, WIDTH, channels), dtype, **options)


def _set_form_bytes(store: Path, channels: int, dtype: str) -> None:
    before, after = struct.pack("<Q8s", 0, b"uint16"), struct.pack("<Q8s", channels, dtype.encode())
    contents = {path: path.read_bytes() for path in store.rglob("*") if path.is_file()}
    assert any(before in content for content in contents.values())
    for path, content in contents.items():
        path.write_bytes(content.replace(before, after))


def _set_sqlite_form(store: Path, channels: int, dtype: str) -> None:
    with closing(sqlite3.connect(store / "images.sqlite")) as connection, suppress(OverflowError):
        connection.execute("UPDATE layout SET channels=?, dtype=?", (channels, dtype))
        connection.commit()


def _set_leveldb_form(store: Path, channels: int, dtype: str) -> None:
    plyvel = pytest.importorskip("plyvel")
    with plyvel.DB(str(store)) as database:
        numbers = (COUNT, HEIGHT, WIDTH, channels, dtype.encode())
        database.put(b"layout", struct.pack("<4Q8s", *numbers))
        database.compact_range()
    for log in store.glob("*.log"):
        log.unlink()


def _set_zarr_form(store: Path, channels: int, dtype: str) -> None:
    path = store / "images" / "zarr.json"
    document = json.loads(path.read_text("utf-8"))
    document["data_type"] = dtype
    document["shape"] = [COUNT, HEIGHT, WIDTH, channels]
    document["chunk_grid"]["configuration"]["chunk_shape"] = [COUNT, HEIGHT, WIDTH, channels]
    document["codecs"][0]["configuration"]["chunk_shape"] = [1, HEIGHT, WIDTH, channels]
    path.write_text(json.dumps(document), "utf-8")


def _set_parquet_form(store: Path, channels: int, dtype: str) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    table = parquet.read_table(store / "images.parquet")
    facts = {**table.schema.metadata, b"channels": str(channels), b"dtype": dtype}
    parquet.write_table(table.replace_schema_metadata(facts), store / "images.parquet")


def _set_feather_form(store: Path, channels: int, dtype: str) -> None:  # noqa: ARG001 - the type is Arrow's own
    before = b'{"shape":[%d,%d],"dim_names":["H","W"]}' % (HEIGHT, WIDTH)
    after = b'{"shape":[%d,%d,%d]}' % (HEIGHT, WIDTH, channels)
    content = (store / "images.arrow").read_bytes()
    assert before in content
    (store / "images.arrow").write_bytes(content.replace(before, after.ljust(len(before))))


def _set_tiledb_form(store: Path, channels: int, dtype: str) -> None:
    tiledb = pytest.importorskip("tiledb")
    with suppress(OverflowError, ValueError, TypeError, tiledb.TileDBError), tiledb.Group(str(store), "w") as group:
        group.meta.update({"channels": channels, "dtype": dtype})


def _set_png_form(store: Path, channels: int, dtype: str) -> None:
    path = store / "labels.csv"
    form = f"channels={channels},dtype={dtype}".encode()
    path.write_bytes(path.read_bytes().replace(b"channels=0,dtype=uint16", form))


SET_NUMBERS: dict[str, SetNumbers] = {
    "npy": _set_npy,
    "hdf5": partial(_set_with_hdf5, partial(_set_hdf5, False)),  # noqa: FBT003
    "hdf5_chunked": partial(_set_with_hdf5, partial(_set_hdf5, True)),  # noqa: FBT003
    "hdf5_gzip": partial(_set_with_hdf5, partial(_set_hdf5, True)),  # noqa: FBT003
    "png": _set_png,
    "png_stored": _set_png,
    "tar": _set_bytes,
    "sqlite": _set_sqlite,
    "leveldb": _set_leveldb,
    "lmdb": _set_bytes,
    "lmdb_packed": _set_bytes,
    "bolt": _set_bytes,
    "badger": _set_bytes,
    "zarr": _set_zarr,
    "parquet": _set_parquet,
    "feather": _set_feather,
    "feather_lz4": _set_feather,
    "tiledb": _set_tiledb,
}
SET_FILE_NUMBERS: dict[str, SetNumbers] = {  # how many files, and where the last one starts and ends
    "lmdb": _set_record_files,
    "lmdb_packed": _set_record_files,
    "bolt": _set_record_files,
    "badger": _set_record_files,
    "sqlite": _set_sqlite_files,
    "leveldb": lambda store, count, _, end: _set_leveldb(store, count, end, 0),
    "tar": _set_tar_files,
    "files": _set_files,
    "zarr": _set_zarr_files,
    "tiledb": _set_tiledb_files,
    "npy": _set_npy_files,
    "hdf5": partial(_set_with_hdf5, partial(_set_hdf5_files, False)),  # noqa: FBT003
    "hdf5_chunked": partial(_set_with_hdf5, partial(_set_hdf5_files, True)),  # noqa: FBT003
    "hdf5_gzip": partial(_set_with_hdf5, partial(_set_hdf5_files, True)),  # noqa: FBT003
    "feather": _set_feather_files,
    "feather_lz4": _set_feather_files,
    "parquet": _set_parquet_files,
}
SET_FORMS: dict[str, SetForm] = {  # the number of channels, and the dtype
    "npy": _set_npy_form,
    "hdf5": partial(_set_hdf5_form, False),  # noqa: FBT003
    "hdf5_chunked": partial(_set_hdf5_form, True),  # noqa: FBT003
    "hdf5_gzip": partial(_set_hdf5_form, True),  # noqa: FBT003
    "png": _set_png_form,
    "png_stored": _set_png_form,
    "tar": _set_form_bytes,
    "sqlite": _set_sqlite_form,
    "leveldb": _set_leveldb_form,
    "lmdb": _set_form_bytes,
    "lmdb_packed": _set_form_bytes,
    "bolt": _set_form_bytes,
    "badger": _set_form_bytes,
    "zarr": _set_zarr_form,
    "parquet": _set_parquet_form,
    "feather": _set_feather_form,
    "feather_lz4": _set_feather_form,
    "tiledb": _set_tiledb_form,
}
