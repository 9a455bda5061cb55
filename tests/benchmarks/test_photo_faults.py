"""Sessions in which image files or their pixels are stored, read or decoded wrongly: each such cell fails."""

from pathlib import Path

import pytest

from tests.support.backends import need_backend
from tests.support.photos import write_photos
from tests.support.suite import QUICK, copy_suite, read_last_run, run_pytest

pytestmark = [pytest.mark.slow, need_backend("npy")]
WRONG = """
'''Wrong on purpose. On disk: what npy writes.'''
from storage import Encoded
from storage.backends.npy import INFO, NpyReader, read_many, read_single
from storage.backends.npy import store_many as store_right
import numpy as np

def change(images):
    content = (images.content if isinstance(images, Encoded) else images).copy()
    content.reshape(-1)[-1] ^= 1
    return Encoded(content, images.offsets) if isinstance(images, Encoded) else content

def store_many(store, images, labels):
    store_right(store, {stored})

class open_reader(NpyReader):
    def read(self, indices, out=None, *, size=None, threads=None):
        images, labels = super().read(indices, out, size=size, threads=threads)
        return images{read}, labels
"""
RIGHT = {"stored": "images, labels", "read": ""}
FAULTS = {
    "wrong_bytes": {"stored": "change(images), labels"},
    "swapped_labels": {"stored": "images, labels[::-1].copy()"},
    "wrong_size": {"read": "[:, 1:]"},
}
CELLS = "(many or read_epoch) and not workers and not dataloader"
OF_FILES = {"store_many[{}-6-encoded]", "read_many[{}-6-encoded]", "read_epoch[{}-6-encoded]"}
OF_PIXELS = {"store_many[{}-6-pixels]", "read_many[{}-6-pixels]", "read_epoch[{}-6-pixels]"}
DECODED = {"read_epoch_decoded[{}-6-encoded-1]"}


def measure(folder: Path, backends: str) -> tuple[set[str], dict[str, str]]:
    """Measure small photos; return the cells that are in the run, and those that failed, with the reason.

    Cells that decode with as many threads as there are processors are left out.
    """
    write_photos(folder / "mine")
    chosen = ("--images=mine", "--size=32", "--cutoffs=6", f"--backends={backends}", "-k", CELLS)
    ended = run_pytest(folder, "benchmarks", *QUICK, *chosen)
    assert ended.returncode == pytest.ExitCode.TESTS_FAILED, ended.stdout
    run = read_last_run(folder)
    assert run["run"]["complete"] is False
    measured = {cell["name"].removeprefix("test_") for cell in run["benchmarks"] if "backend" in cell["extra_info"]}
    failed = {cell.partition("::test_")[2]: reason for cell, reason in run["run"]["failed"].items()}
    return {cell for cell in measured if cell.endswith(("encoded]", "pixels]", "encoded-1]"))}, failed


def test_wrong_bytes_a_swapped_label_and_a_wrong_size_make_their_cells_fail(tmp_path: Path) -> None:
    folder = copy_suite(tmp_path)
    for name, fault in FAULTS.items():
        (folder / "storage" / "backends" / f"{name}.py").write_text(WRONG.format(**RIGHT | fault))
    measured, failed = measure(folder, ",".join(FAULTS))
    everything = OF_FILES | OF_PIXELS | DECODED
    with_readers = DECODED | {"read_epoch[{}-6-pixels]"}  # of files, the size isn't known
    expected = {"wrong_bytes": everything, "swapped_labels": everything, "wrong_size": with_readers}
    for name, cells in expected.items():
        assert {cell.format(name) for cell in cells} <= failed.keys(), name
        assert {cell for cell in measured if name in cell} == {cell.format(name) for cell in everything - cells}


def test_photos_that_are_decoded_without_their_orientation_make_their_cells_fail(tmp_path: Path) -> None:
    folder = copy_suite(tmp_path)
    module = folder / "storage" / "decoding.py"
    right = "return TURNS[orientation](image) if orientation in TURNS else image"
    assert module.read_text().count(right) == 1
    module.write_text(module.read_text().replace(right, "return image"))
    measured, failed = measure(folder, "npy")
    assert measured == {cell.format("npy") for cell in OF_FILES}, "they are kept byte for byte, turned or not"
    for cell in OF_PIXELS | DECODED:
        assert "was decoded to something else than Pillow makes of it" in failed[cell.format("npy")]
