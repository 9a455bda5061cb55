"""Names and columns of metadata are read part by part."""

import json
from pathlib import Path

import pytest

import storage
from storage import CorruptStoreError, ReaderClosedError
from storage.dataset import writer
from storage.dataset.columns import Column
from tests.support.datasets import TABLE, find_beside, flip_bit, rewrite_beside, rewrite_details
from tests.support.image_sets import make_set

PARTS, EACH = 12, 2
COUNT = PARTS * EACH
IMAGES, LABELS = make_set(COUNT, 5, 7)
NAMES = [f"folder/{index}.png" for index in range(COUNT)]
NUMBERS = [None, *range(1, COUNT)]


@pytest.fixture
def saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Save images with names and metadata in twelve parts, more than are kept."""
    monkeypatch.setattr(writer, "PART", EACH * IMAGES[0].nbytes)
    storage.save(tmp_path / "set", [IMAGES], LABELS, "npy", names=NAMES, metadata={"a": NUMBERS, "b": NAMES})
    return tmp_path / "set"


def test_a_column_is_a_sequence_as_a_list_is() -> None:
    column = Column([0, 2, 2, 5], lambda number: ["ab", "", "cde"][number])
    assert (len(column), list(column), column[0], column[-1], column[1:4], column[::-2]) == (
        5,
        list("abcde"),
        "a",
        "e",
        list("bcd"),
        list("eca"),
    )
    assert column == list("abcde")
    assert column not in ("abcde", list("abcd"), list("abcdx"), None)
    assert repr(column) == "<Column: 5>"
    with pytest.raises(IndexError):
        column[5]


def test_names_and_metadata_of_all_parts_are_read(saved: Path) -> None:
    with storage.open(saved) as reader:
        assert list(reader.names) == NAMES == reader.metadata["b"] == [reader.names[index] for index in range(COUNT)]
        assert reader.metadata == {"a": NUMBERS, "b": NAMES}
        assert [reader.index(name) for name in NAMES] == list(range(COUNT))
        assert repr(reader.names) == f"<NameColumn: {COUNT}>"
        for name in ("folder", "x", "", "/", "folder/24.png"):
            with pytest.raises(storage.RecordNotFoundError, match="no image is named"):
                reader.index(name)


def test_damage_in_a_part_does_not_keep_the_names_of_others_from_being_read(saved: Path) -> None:
    flip_bit(find_beside(saved, "names", 3), 2)
    flip_bit(find_beside(saved, TABLE, 3), 20)
    with storage.open(saved) as reader:
        assert (reader.names[0], reader.names[-1], reader.index(NAMES[-1])) == (NAMES[0], NAMES[-1], COUNT - 1)
        assert reader.metadata["a"][-1] == COUNT - 1
        for read in (lambda: reader.names[3 * EACH], lambda: reader.metadata["a"][3 * EACH], reader.names.join):
            with pytest.raises(CorruptStoreError, match=r"part-00003-\w+\.(names|arrow|jsonl) is damaged"):
                read()


def test_a_name_is_found_without_an_index_of_names(saved: Path) -> None:
    for path in saved.glob("*.index"):
        path.unlink()
    with storage.open(saved) as reader:
        assert [reader.index(name) for name in NAMES[::-1]] == list(range(COUNT))[::-1]


def test_parts_of_which_one_has_no_names_or_another_table_are_refused(saved: Path, tmp_path: Path) -> None:
    storage.save(tmp_path / "other", IMAGES[:EACH], LABELS[:EACH], "npy", metadata={"c": [1, 2]})
    rewrite_beside(saved, TABLE, find_beside(tmp_path / "other", TABLE).read_bytes(), 5)
    beside = json.loads(find_beside(saved, "json", 5).read_text())["beside"]
    rewrite_details(
        saved, 5, beside={suffix: entry for suffix, entry in beside.items() if suffix not in {"names", TABLE}}
    )
    with storage.open(saved) as reader:
        with pytest.raises(CorruptStoreError, match="different columns of metadata"):
            list(reader.metadata["a"])
        with pytest.raises(CorruptStoreError, match="some of its images have names, and some don't"):
            list(reader.names)


def test_names_are_read_as_long_as_the_reader_is_open(saved: Path) -> None:
    with storage.open(saved) as reader:
        names, values = reader.names, reader.metadata["a"]
    for read in (lambda: names[0], lambda: list(values), lambda: names.find(NAMES[0])):
        with pytest.raises(ReaderClosedError, match="the reader is closed"):
            read()
