"""A save reads back what it wrote: what can't be read later never replaces what is there."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest

import storage
from storage import BACKENDS, CorruptStoreError, Encoded, Images, InvalidInputError, Labels, Reader, StorageError
from storage.dataset.conversion import convert
from storage.dataset.manifest import FILE
from storage.sources.memory import ArraySource
from tests.support.encoded_sets import assert_same_files, make_files
from tests.support.image_sets import assert_same, make_set
from tests.support.open_files import list_names

OLD, NEW = make_set(4, 5, 7), make_set(9, 5, 7)


Change = Callable[[Images, Labels], tuple[Images, Labels]]


class Wrong:
    """A reader of which one answer is wrong."""

    kind = "pixels"

    def __init__(self, reader: Reader, change: Change, extra: int) -> None:
        self._reader, self._change, self._extra = reader, change, extra

    def __enter__(self) -> Self:
        """Return the reader."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the right reader."""
        self._reader.close()

    def __len__(self) -> int:
        """Return a wrong count."""
        return len(self._reader) + self._extra

    def read(self, indices: Sequence[int], out: None = None) -> tuple[Images, Labels]:
        """Read, and change what was read."""
        assert out is None
        return self._change(*self._reader.read(indices))


def refuse(*_: object) -> tuple[Images, Labels]:
    """Refuse to read."""
    raise CorruptStoreError("more than the format can read")


WRONG: dict[str, tuple[Change, int]] = {
    "count": (lambda images, labels: (images, labels), 1),
    "first pixel": (lambda images, labels: (images ^ (np.arange(len(images)) == 0)[:, None, None, None], labels), 0),
    "last label": (lambda images, labels: (images, labels ^ (np.arange(len(labels)) == len(labels) - 1)), 0),
    "size": (lambda images, labels: (images[:, :4], labels), 0),
    "refused": (refuse, 0),
}


@pytest.mark.parametrize("kind", [*WRONG, "unreadable", "foreign"])
@pytest.mark.parametrize("write", ["save", "batches", "convert"])
def test_what_cannot_be_read_back_replaces_nothing(
    kind: str, write: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.save(tmp_path / "set", *OLD, "npy")
    open_reader = BACKENDS["npy"].open_reader

    def open_wrongly(store: Path) -> object:
        if kind in WRONG:
            return Wrong(open_reader(store), *WRONG[kind])
        raise CorruptStoreError("not for me", store=store) if kind == "unreadable" else RuntimeError("a library's")

    monkeypatch.setattr(BACKENDS["npy"], "open_reader", open_wrongly)
    calls: dict[str, Callable[[], object]] = {
        "save": lambda: storage.save(tmp_path / "set", *NEW, "npy", overwrite=True),
        "batches": lambda: storage.save(tmp_path / "set", [NEW[0]], NEW[1], "npy", overwrite=True),
        "convert": lambda: convert(
            ArraySource(*NEW, (), "mine"), tmp_path / "set", "npy", overwrite=True, progress=lambda *_: None
        ),
    }
    with pytest.raises(StorageError, match="nothing was saved, and what was there is untouched") as caught:
        calls[write]()
    assert not isinstance(caught.value, CorruptStoreError)
    assert kind == "foreign" or "read back" in str(caught.value)
    monkeypatch.undo()
    assert list_names(tmp_path) == ["set"]
    assert_same(storage.load(tmp_path / "set"), OLD)


MIDDLE = 4  # neither the first record of a part nor the last
NAMES = [f"{number}.png" for number in range(9)]
FILES = make_files(9)


def change_middle(store: Path) -> None:
    """Change a bit of the file in the middle."""
    content = (store / NAMES[MIDDLE]).read_bytes()
    (store / NAMES[MIDDLE]).write_bytes(bytes([content[0] ^ 1]) + content[1:])


def lose_middle(store: Path) -> None:
    """Lose the file in the middle."""
    (store / NAMES[MIDDLE]).unlink()


@pytest.mark.parametrize("damage", [change_middle, lose_middle])
@pytest.mark.parametrize("write", ["save", "batches", "convert", "compact"])
def test_a_record_that_was_written_wrongly_replaces_nothing(
    write: str, damage: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "set"
    storage.save(path, *FILES, "files", names=NAMES)
    store_many = BACKENDS["files"].store_many

    def store_wrongly(store: Path, images: Encoded, labels: Labels, **options: Any) -> None:  # noqa: ANN401 - as there
        store_many(store, images, labels, **options)
        damage(store)

    monkeypatch.setattr(BACKENDS["files"], "store_many", store_wrongly)
    files: Any = FILES[0]
    source = ArraySource(files, FILES[1], (), "mine", NAMES)
    calls: dict[str, Callable[[], object]] = {
        "save": lambda: storage.save(path, *FILES, "files", names=NAMES, overwrite=True),
        "batches": lambda: storage.save(path, iter([FILES[0]]), FILES[1], "files", names=NAMES, overwrite=True),
        "convert": lambda: convert(source, path, "files", overwrite=True, progress=lambda *_: None),
        "compact": lambda: storage.compact(path),
    }
    with pytest.raises(
        StorageError, match=r"what was written can't be read back .*: choose another backend$"
    ) as caught:
        calls[write]()
    assert not isinstance(caught.value, CorruptStoreError)
    assert (caught.value.store, caught.value.record, caught.value.name) == (path, MIDDLE, NAMES[MIDDLE])
    assert list_names(tmp_path) == ["set"]
    assert_same_files(storage.load(path), FILES)


def test_a_manifest_that_cannot_be_read_back_replaces_nothing(tmp_path: Path) -> None:
    storage.save(tmp_path / "set", *OLD, "npy")
    source = ArraySource(*NEW, ("\ud800",), "mine")
    with pytest.raises(InvalidInputError, match="surrogates not allowed"):
        convert(source, tmp_path / "set", "npy", overwrite=True, progress=lambda *_: None)
    assert_same(storage.load(tmp_path / "set"), OLD)


@pytest.mark.parametrize("step", ["parse_manifest", "_read_content"])
def test_a_manifest_that_reads_back_as_another_replaces_nothing(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"storage.dataset.manifest.{step}", lambda *_: None)
    with pytest.raises(StorageError, match=f"{FILE} can't be read back"):
        storage.save(tmp_path / "set", *OLD, "npy")
    assert list_names(tmp_path) == []


def test_every_backend_reads_back_sets_of_any_number(backend: str, tmp_path: Path) -> None:
    for count in (0, 1, 2):
        storage.save(tmp_path / "set", *make_set(count, 5, 7), backend, overwrite=True)
        assert_same(storage.load(tmp_path / "set"), make_set(count, 5, 7))
