"""The mix-ups do to a store what their names say."""

from pathlib import Path

import numpy as np
import pytest

from storage import BACKENDS
from storage.dataset.files import CHECKSUMS
from storage.dataset.manifest import FILE
from tests.faults.mixups import MIXUPS, make_others
from tests.support.image_sets import make_set

Content = dict[str, bytes]
CASES = 12


def write_files(folder: Path, character: bytes) -> Content:
    """Write files with the names of a dataset's."""
    content = {name: number * 500 * character for number, name in enumerate((FILE, CHECKSUMS, "one", "two"), start=9)}
    folder.mkdir()
    for name, each in content.items():
        (folder / name).write_bytes(each)
    return content


def mix_up(kind: str, folder: Path) -> list[tuple[Content, Content]]:
    """Mix up files again and again; return the contents before and after."""
    others = make_others(folder / "others", CASES, lambda path, _: write_files(path, b"o"))
    found = []
    for number in range(CASES):
        store = folder / str(number)
        before = write_files(store, b"s")
        MIXUPS[kind](store, others, np.random.default_rng(number))
        small = (path for path in store.iterdir() if path.stat().st_size < 1 << 20)
        found.append((before, {path.name: path.read_bytes() for path in small}))
    return found


@pytest.mark.parametrize("kind", MIXUPS)
def test_nearly_each_mixup_changes_a_store(kind: str, tmp_path: Path) -> None:
    changed = [before != after for before, after in mix_up(kind, tmp_path)]
    assert sum(changed) >= CASES - 2


def test_a_hole_is_read_as_zeros(tmp_path: Path) -> None:
    for before, after in mix_up("hole", tmp_path):
        assert {name: len(content) for name, content in after.items()} == {
            name: len(content) for name, content in before.items()
        }
        assert set(b"".join(after.values())) <= set(b"s\0")


def test_swapped_files_exchange_their_contents(tmp_path: Path) -> None:
    for before, after in mix_up("swapped files", tmp_path):
        assert sorted(before.values()) == sorted(after.values())


def test_a_longer_file_begins_as_before(tmp_path: Path) -> None:
    for before, after in mix_up("longer file", tmp_path):
        assert all(content.startswith(before[name]) for name, content in after.items())


def test_one_of_the_files_that_identify_a_dataset_is_never_that_of_an_older_version(tmp_path: Path) -> None:
    for _, after in mix_up("older version", tmp_path):
        assert b"s" in after[FILE] + after[CHECKSUMS]


def test_a_single_file_is_swapped_for_one_of_another_format(tmp_path: Path) -> None:
    BACKENDS["npy"].store_many(tmp_path / "store", *make_set(2))
    (tmp_path / "store" / "labels.npy").unlink()
    MIXUPS["swapped files"](
        tmp_path / "store", make_others(tmp_path / "others", 9, lambda *_: None), np.random.default_rng(0)
    )
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["images.npy"]
    assert (tmp_path / "store" / "images.npy").read_bytes() in {
        path.read_bytes() for path in (tmp_path / "others").rglob("*") if path.is_file()
    }
