"""A named pipe in place of a store's file is refused, or passed over: whoever opened it would wait for ever."""

import os
from functools import partial
from pathlib import Path

import storage
from storage import Backend, Images, Labels
from tests.faults.children import Ending, run_child
from tests.support.image_sets import assert_same, make_set

COUNT = 3  # images
PATIENCE = 20.0  # seconds


def read_at_once(module: Backend, store: Path) -> tuple[Images, Labels]:
    """Read everything in one call."""
    return module.read_many(store)


def read_one_by_one(module: Backend, store: Path) -> tuple[Images, Labels]:
    """Read each image out of the store."""
    images, labels = make_set(COUNT)
    for index in range(COUNT):
        images[index], labels[index] = module.read_single(store, index)
    return images, labels


def read_a_batch(module: Backend, store: Path) -> tuple[Images, Labels]:
    """Read through a reader."""
    with module.open_reader(store) as reader:
        return reader.read(range(COUNT))


def try_to_read(module: Backend, store: Path) -> str:
    """Read in each way; nothing is told of images that are right, or of an error of ours that names the store."""
    for read in (read_at_once, read_one_by_one, read_a_batch):
        try:
            assert_same(read(module, store), make_set(COUNT))
        except storage.StorageError as error:
            if str(store) not in str(error):
                return f"the message does not name the store: {error}"
    return ""


def test_reads_never_wait_for_a_named_pipe_in_a_store(module: Backend, tmp_path: Path) -> None:
    store, kept = tmp_path / "store", tmp_path / "kept"
    module.store_many(store, *make_set(COUNT))
    for path in [path for path in store.rglob("*") if path.is_file()]:
        path.rename(kept)
        os.mkfifo(path)
        ending = run_child(partial(try_to_read, module, store), PATIENCE)
        path.unlink()
        kept.rename(path)
        assert ending == Ending(0, ""), f"{path.name} as a named pipe: {ending.describe()}"
