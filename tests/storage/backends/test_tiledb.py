"""What only the TileDB backend has: a group that TileDB reads, fragments that must be there, and forks."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import storage
from tests.support.backends import take_backend
from tests.support.suite import ROOT

tiledb = take_backend("tiledb")
library = pytest.importorskip("tiledb")

IMAGES = np.random.default_rng(0).integers(0, 256, (50, 5, 7, 3), np.uint8)
LABELS = np.arange(50) - 7
SIZE = IMAGES[0].nbytes


@pytest.fixture
def context() -> Any:  # noqa: ANN401 - tiledb has no types
    """Make a context for what the tests do with the library themselves."""
    return tiledb._make_context()  # noqa: SLF001 - it lets children of a fork end


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a store of fifty images, four a tile."""
    monkeypatch.setattr(tiledb, "TILE", 4 * SIZE)
    tiledb.store_many(tmp_path, IMAGES, LABELS)
    return tmp_path


def test_tiledb_itself_can_read_the_arrays(store: Path, context: Any) -> None:  # noqa: ANN401
    with library.Group(str(store), ctx=context) as group:
        assert sorted(member.name for member in group) == ["images", "labels"]
        assert [int(group.meta[name]) for name in ("count", "height", "width")] == [50, 5, 7]
    with library.open(str(store / "images"), ctx=context) as images:
        np.testing.assert_array_equal(images[7]["pixels"].view(np.uint8), IMAGES[7].reshape(-1))
        assert images.schema.domain.dim("image").tile == 4
    with library.open(str(store / "labels"), ctx=context) as labels:
        np.testing.assert_array_equal(labels[:]["label"], LABELS)


def test_an_array_is_one_fragment(store: Path) -> None:
    for name in ("images", "labels"):
        assert len(list((store / name / "__fragments").iterdir())) == 1


def test_batches_of_many_parts_come_back(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiledb, "PART", 7 * SIZE)
    np.testing.assert_array_equal(tiledb.read_many(store)[0], IMAGES)
    positions = np.random.default_rng(0).integers(0, 50, 100)
    with tiledb.open_reader(store) as reader:
        images, labels = reader.read(positions)
    np.testing.assert_array_equal(images, IMAGES[positions])
    np.testing.assert_array_equal(labels, LABELS[positions])


def test_images_larger_than_a_tile_are_one_a_tile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiledb, "TILE", 1)
    monkeypatch.setattr(tiledb, "PART", 1)
    tiledb.store_many(tmp_path, IMAGES[:3], LABELS[:3])
    np.testing.assert_array_equal(tiledb.read_many(tmp_path)[0], IMAGES[:3])


@pytest.mark.parametrize("name", ["images", "labels"])
@pytest.mark.parametrize("folder", ["__fragments", "__commits"])
def test_a_fragment_that_is_lost_is_refused(store: Path, name: str, folder: str) -> None:
    shutil.rmtree(store / name / folder)
    (store / name / folder).mkdir()
    for read in (tiledb.read_many, tiledb.open_reader, lambda path: tiledb.read_single(path, 0)):
        with pytest.raises(storage.CorruptStoreError, match=str(store)):
            read(store)


def write_pixels(path: Path, context: Any, pixels: Any, **options: Any) -> None:  # noqa: ANN401
    """Put another array in the place of the images; options are those of its attribute."""
    shutil.rmtree(path / "images")
    dimensions = [
        library.Dim(f"dimension{number}", domain=(0, size - 1), tile=size, dtype=np.uint64, ctx=context)
        for number, size in enumerate(pixels.shape)
    ]
    attribute = library.Attr(**{"name": "pixels", "dtype": "blob", "var": False, **options}, ctx=context)
    schema = library.ArraySchema(library.Domain(*dimensions, ctx=context), [attribute], ctx=context)
    library.Array.create(str(path / "images"), schema, ctx=context)
    with library.open(str(path / "images"), "w", ctx=context) as array:
        array[:] = pixels


ROWS = IMAGES.reshape(50, SIZE)
LAYOUTS: dict[str, Callable[[Path, Any], None]] = {
    "fewer": lambda path, context: write_pixels(path, context, ROWS[:40].view("S1")),
    "four dimensions": lambda path, context: write_pixels(path, context, IMAGES.view("S1")),
    "numbers": lambda path, context: write_pixels(path, context, ROWS, dtype=np.uint8),
    "another name": lambda path, context: write_pixels(path, context, ROWS.view("S1"), name="bytes"),
}


@pytest.mark.parametrize("change", LAYOUTS.values(), ids=LAYOUTS)
def test_another_layout_is_refused(store: Path, context: Any, change: Callable[[Path, Any], None]) -> None:  # noqa: ANN401
    change(store, context)
    with pytest.raises(storage.CorruptStoreError, match="another program"):
        tiledb.read_many(store)


@pytest.mark.parametrize("meta", [{"count": "many"}, {"count": -1}, {"height": 0}, {"width": 8}, {"count": 10**15}])
def test_metadata_of_another_layout_are_refused(store: Path, context: Any, meta: dict[str, Any]) -> None:  # noqa: ANN401
    with library.Group(str(store), "w", ctx=context) as group:
        for name, value in meta.items():
            group.meta[name] = value
    with pytest.raises(storage.CorruptStoreError, match=str(store)):
        tiledb.read_many(store)


def test_a_group_without_its_arrays_is_refused(store: Path, context: Any) -> None:  # noqa: ANN401
    with library.Group(str(store), "w", ctx=context) as group:
        group.remove("labels")
    with pytest.raises(storage.CorruptStoreError, match="lost its arrays"):
        tiledb.read_many(store)


def test_a_store_that_is_not_complete_is_refused(store: Path) -> None:
    for folder in ("__meta", "__group"):
        shutil.rmtree(store / folder)
        (store / folder).mkdir()
    with pytest.raises(storage.CorruptStoreError, match=str(store)):
        tiledb.open_reader(store)


def test_a_file_cut_short_is_refused(store: Path) -> None:
    path = next((store / "images" / "__fragments").glob("*/a0.tdb"))
    content = path.read_bytes()
    for size in (0, 4, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:size])
        with pytest.raises(storage.CorruptStoreError, match=str(store)):
            tiledb.read_many(store)


def test_a_query_that_ends_early_is_refused(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with tiledb.open_reader(store) as reader:
        monkeypatch.setattr(library.Query, "is_complete", lambda _: False)
        with pytest.raises(storage.CorruptStoreError, match="ended early"):
            reader.read([0])


@pytest.mark.parametrize(
    ("words", "kind"),
    [("No space left on device", storage.StoreFullError), ("Input/output error", storage.StorageError)],
)
def test_an_error_of_the_system_that_tiledb_puts_into_words_is_understood(
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


def test_whatever_a_child_of_a_fork_does_it_ends_as_it_wants_to(store: Path) -> None:
    command = [sys.executable, "-W", "error", "-c", FORKS, str(store)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert (ended.returncode, ended.stderr, ended.stdout.count("\n")) == (0, "", 5)


def move_clock(path: Path) -> None:
    """Rename what TileDB names by the time, a folder's content before it, to an hour later."""
    for each in sorted(path.rglob("__[0-9]*"), key=lambda each: -len(each.parts)):
        later = re.sub(r"(?<=_)\d{13}(?=_)", lambda found: str(int(found[0]) + 3_600_000), each.name)
        each.rename(each.with_name(later))


def test_a_store_of_a_clock_that_is_ahead_is_read(store: Path) -> None:
    for folder in ("__meta", "images/__fragments", "images/__commits", "labels/__fragments", "labels/__commits"):
        move_clock(store / folder)
    np.testing.assert_array_equal(tiledb.read_many(store)[0], IMAGES)
    with tiledb.open_reader(store) as reader:
        np.testing.assert_array_equal(reader.read_labels(), LABELS)
