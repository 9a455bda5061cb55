"""TileDB: a group that TileDB itself reads, fragments that must be there, and children of forks."""

import itertools
import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import storage
from tests.support.backends import take_backend
from tests.support.encoded_sets import check_file_reads, make_files
from tests.support.foreign import Case, Change
from tests.support.image_sets import check_reads, make_set
from tests.support.suite import ROOT

tiledb = take_backend("tiledb")

import tiledb as library  # noqa: E402 - it is here if the backend is

IMAGES, LABELS = make_set(50, 5, 7)
SIZE = IMAGES[0].nbytes
TEN = make_set(10)[0]
ROWS = TEN.reshape(10, -1)


def make_context() -> Any:  # noqa: ANN401 - tiledb has no types
    """Make a context that lets children of a fork end."""
    return tiledb._make_context()  # noqa: SLF001 - as above


def save_pixels(pixels: Any, **options: Any) -> Change:  # noqa: ANN401 - of any shape
    def change(store: Path) -> None:
        shutil.rmtree(store / "images")
        context = make_context()
        dimensions = [
            library.Dim(f"dimension{number}", domain=(0, size - 1), tile=size, dtype=np.uint64, ctx=context)
            for number, size in enumerate(pixels.shape)
        ]
        attribute = library.Attr(**{"name": "pixels", "dtype": "blob", "var": False, **options}, ctx=context)
        schema = library.ArraySchema(library.Domain(*dimensions, ctx=context), [attribute], ctx=context)
        library.Array.create(str(store / "images"), schema, ctx=context)
        with library.open(str(store / "images"), "w", ctx=context) as array:
            array[:] = pixels

    return change


def set_metadata(name: str, value: object) -> Change:
    def change(store: Path) -> None:
        with library.Group(str(store), "w", ctx=make_context()) as group:
            group.meta[name] = value

    return change


def remove_labels(store: Path) -> None:
    with library.Group(str(store), "w", ctx=make_context()) as group:
        group.remove("labels")


def empty(*names: str) -> Change:
    def change(store: Path) -> None:
        for name in names:
            shutil.rmtree(store / name)
            (store / name).mkdir()

    return change


def cut_pixels(size: int) -> Change:
    def change(store: Path) -> None:
        (path,) = (store / "images" / "__fragments").glob("*/a0.tdb")
        path.write_bytes(path.read_bytes()[:size])

    return change


def set_number(pattern: str, place: int, number: int) -> Change:
    """Set a number of eight bytes in one of TileDB's small files."""

    def change(store: Path) -> None:
        path = next(path for path in store.glob(pattern) if path.is_file())
        content = bytearray(path.read_bytes())
        content[place : place + 8 or None] = struct.pack("<Q", number)
        path.write_bytes(content)

    return change


SMALL_FILES = ("__group/*", "__meta/*", "labels/__schema/*", "images/__fragments/*/__fragment_metadata.tdb")
HUGE = 1 << 40
METADATA = [("count", "many"), ("count", -1), ("height", 0), ("width", 8), ("count", 10**15)]
FOREIGN = {
    "fewer pixels": Case(save_pixels(ROWS[:9].view("S1")), "another program"),
    "four dimensions": Case(save_pixels(TEN.view("S1")), "another program"),
    "numbers": Case(save_pixels(ROWS, dtype=np.uint8), "another program"),
    "another attribute": Case(save_pixels(ROWS.view("S1"), name="bytes"), "another program"),
    **{f"{name} {value}": Case(set_metadata(name, value)) for name, value in METADATA},
    "no labels in the group": Case(remove_labels, "lost its arrays"),
    "no metadata": Case(empty("__meta", "__group")),
    **{
        f"no {folder} of {name}": Case(empty(f"{name}/{folder}"))
        for name in ("images", "labels")
        for folder in ("__fragments", "__commits")
    },
    **{f"a tile of 1 TiB in {name}": Case(set_number(name, 4, HUGE), "don't fill it") for name in SMALL_FILES},
    **{
        f"a tile of 1 TiB in memory in {name}": Case(set_number(name, 12, HUGE), "a tile takes", storage.StorageError)
        for name in SMALL_FILES
    },
    "a footer of 1 TiB": Case(set_number(SMALL_FILES[-1], -8, HUGE), "don't fill it"),
    "a tile elsewhere": Case(set_number(SMALL_FILES[-1], -16, HUGE), "doesn't list its tiles"),
    **{f"pixels cut to {size}": Case(cut_pixels(size)) for size in (0, 4, 9999, -1)},
}


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tiledb, "TILE", 4 * SIZE)
    tiledb.store_many(tmp_path, IMAGES, LABELS)
    return tmp_path


@pytest.mark.filterwarnings("ignore:Setting the (shape|dtype):DeprecationWarning")  # TileDB-Py; NumPy 2.5
def test_tiledb_itself_reads_the_arrays(store: Path) -> None:
    context = make_context()
    with library.Group(str(store), ctx=context) as group:
        assert sorted(member.name for member in group) == ["images", "labels"]
        assert [int(group.meta[name]) for name in ("count", "height", "width")] == [50, 5, 7]
    with library.open(str(store / "images"), ctx=context) as images:
        np.testing.assert_array_equal(images[7]["pixels"].view(np.uint8), IMAGES[7].reshape(-1))
        assert images.schema.domain.dim("image").tile == 4
    with library.open(str(store / "labels"), ctx=context) as labels:
        np.testing.assert_array_equal(labels[:]["label"], LABELS)
    for name in ("images", "labels"):
        assert len(list((store / name / "__fragments").iterdir())) == 1


def test_a_batch_may_take_many_queries(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiledb, "PART", 7 * SIZE)
    check_reads(tiledb, store, (IMAGES, LABELS))


def test_a_query_that_ends_early_is_corruption_only_if_it_reads(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with tiledb.open_reader(store) as reader:
        monkeypatch.setattr(library.Query, "is_complete", lambda _: False)
        with pytest.raises(storage.CorruptStoreError, match="ended early"):
            reader.read([0])
    with pytest.raises(storage.StorageError, match=f"{store}.*writing failed") as caught:
        tiledb.store_many(store / "new", IMAGES, LABELS)
    assert not isinstance(caught.value, storage.CorruptStoreError)


@pytest.mark.parametrize(
    ("words", "kind"),
    [("No space left on device", storage.StoreFullError), ("Input/output error", storage.StorageError)],
)
def test_an_error_of_the_system_in_the_words_of_tiledb_is_understood(
    words: str, kind: type[storage.StorageError], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise library.TileDBError(f"[TileDB::IO] Error: Cannot write to file 'a0.tdb'; {words}")

    monkeypatch.setattr(library.Array, "create", fail)
    with pytest.raises(storage.StorageError, match=words) as caught:
        tiledb.store_many(tmp_path, IMAGES, LABELS)
    assert type(caught.value) is kind


def test_arrays_are_printed_as_before_and_a_fork_does_not_warn() -> None:
    program = """
import os, numpy
before = numpy.get_printoptions(), os.fork
from storage import BACKENDS
BACKENDS["tiledb"]._make_context()
assert (numpy.get_printoptions(), os.fork) == before
"""
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


FORKS = """
import os, sys
from pathlib import Path
from storage import BACKENDS
module, store = BACKENDS["tiledb"], Path(sys.argv[1])
reader = module.open_reader(store)
before = reader.read([7, 3])[0].tobytes()
for act in (
    "assert reader.read([7, 3])[0].tobytes() == before",
    "module.store_many(store / 'child', *module.read_many(store))",
    "reader.close()",
    "del reader",
    "pass",
):
    child = os.fork()
    if not child:
        exec(act)
        print(act, flush=True)
        sys.exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7, act
assert reader.read([7, 3])[0].tobytes() == before
"""


def test_a_child_of_a_fork_ends_as_it_wants_to(store: Path) -> None:
    command = [sys.executable, "-W", "error", "-c", FORKS, str(store)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert (ended.returncode, ended.stderr, ended.stdout.count("\n")) == (0, "", 5)


def move_clock(path: Path) -> None:
    """Rename what TileDB names by the time, a folder's content before it, to an hour later."""
    for each in sorted(path.rglob("__[0-9]*"), key=lambda each: -len(each.parts)):
        later = re.sub(r"(?<=_)\d{13}(?=_)", lambda found: str(int(found[0]) + 3_600_000), each.name)
        each.rename(each.with_name(later))


def test_a_store_from_a_clock_that_is_ahead_is_read(store: Path) -> None:
    for folder in ("__meta", "images/__fragments", "images/__commits", "labels/__fragments", "labels/__commits"):
        move_clock(store / folder)
    check_reads(tiledb, store, (IMAGES, LABELS))


FILES, FILE_LABELS = make_files(20)
OFFSETS, TOTAL = FILES.offsets.tolist(), len(FILES.content)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Store twenty files in tiles that are smaller than some of them."""
    monkeypatch.setattr(tiledb, "TILE", 1_000)
    tiledb.store_many(tmp_path / "files", FILES, FILE_LABELS)
    return tmp_path / "files"


@pytest.mark.filterwarnings("ignore:Setting the (shape|dtype):DeprecationWarning")  # TileDB-Py; NumPy 2.5
def test_tiledb_itself_reads_the_files(files: Path) -> None:
    context = make_context()
    with library.Group(str(files), ctx=context) as group:
        assert sorted(member.name for member in group) == ["content", "labels", "offsets"]
    arrays = {}
    for name in ("content", "offsets", "labels"):
        with library.open(str(files / name), ctx=context) as array:
            arrays[name] = array[:]
    starts, content = arrays["offsets"]["offset"], arrays["content"]["content"].view(np.uint8)
    assert [content[start:end].tobytes() for start, end in itertools.pairwise(starts)] == list(map(bytes, FILES))
    np.testing.assert_array_equal(arrays["labels"]["label"], FILE_LABELS)


@pytest.mark.parametrize("part", [999, 3_000, 70_000, 1 << 20])
def test_files_may_take_many_queries(files: Path, monkeypatch: pytest.MonkeyPatch, part: int) -> None:
    sizes: list[int] = []
    query = tiledb.TileDbReader._query  # noqa: SLF001 - to see what is read at once

    def note(reader: Any, name: str, ranges: list[tuple[int, int]], out: Any) -> None:  # noqa: ANN401
        sizes.append(len(out) if name == "content" else 0)
        query(reader, name, ranges, out)

    monkeypatch.setattr(tiledb, "PART", part)
    monkeypatch.setattr(tiledb.TileDbReader, "_query", note)
    check_file_reads(tiledb, files, (FILES, FILE_LABELS))
    assert max(sizes) == min(part, TOTAL)


def write_offsets(*offsets: int) -> Change:
    def change(store: Path) -> None:
        with library.open(str(store / "offsets"), "w", ctx=make_context()) as array:
            array[:] = np.array(offsets)

    return change


FILE_CASES = {
    "a negative number of files": Case(set_metadata("count", -1), "claims to hold -1 files"),
    "negative bytes": Case(set_metadata("bytes", -1), "claims to hold 20 files of -1 bytes"),
    "fewer files": Case(set_metadata("count", 19), "another program"),
    "more bytes": Case(set_metadata("bytes", TOTAL + 1), "another program"),
    "many bytes": Case(set_metadata("bytes", 1 << 50)),
    "bytes that are text": Case(set_metadata("bytes", "many")),
    "no labels in the group": Case(remove_labels, "lost its arrays"),
    **{
        f"no fragment of {name}": Case(empty(f"{name}/__fragments", f"{name}/__commits"), "missing")
        for name in ("content", "offsets", "labels")
    },
}


@pytest.mark.parametrize("case", FILE_CASES.values(), ids=FILE_CASES)
def test_a_damaged_store_of_files_is_refused(case: Case, files: Path) -> None:
    case.change(files)
    with pytest.raises(storage.CorruptStoreError, match=case.message) as caught:
        tiledb.open_reader(files)
    assert str(files) in str(caught.value)


@pytest.mark.parametrize(
    "offsets",
    [(1, *OFFSETS[1:]), (0, TOTAL, *OFFSETS[2:]), (*OFFSETS[:-1], TOTAL - 1), (*OFFSETS[:-2], TOTAL + 1, TOTAL)],
    ids=["start", "order", "end", "outside"],
)
def test_wrong_offsets_are_refused(files: Path, offsets: tuple[int, ...]) -> None:
    write_offsets(*offsets)(files)
    with pytest.raises(storage.CorruptStoreError, match="offsets"):
        tiledb.read_many(files)
    if max(offsets) > TOTAL:
        for index in (18, 19):
            with pytest.raises(storage.CorruptStoreError, match=f"record {index}"):
                tiledb.read_single(files, index)
