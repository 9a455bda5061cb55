"""How an error of a library, or of the operating system, becomes one of ours."""

import errno
from pathlib import Path

import pytest

from storage import CorruptStoreError, StorageError, StoreExistsError, StoreFullError
from storage.errors import reading

STORE = Path("photos")


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), StoreFullError, "no room left"),
        (OSError(errno.EACCES, "Permission denied"), StorageError, "the operating system refused"),
        (FileExistsError(errno.EEXIST, "File exists"), StoreExistsError, "another writer stores there"),
        (MemoryError(), StorageError, r"too little memory, or too many threads \(MemoryError\)"),
        (RuntimeError("can't start new thread"), StorageError, "too many threads"),
        (RuntimeError("fork: Resource temporarily unavailable"), StorageError, "the operating system refused"),
        (RuntimeError("no footer"), CorruptStoreError, r"no store that can be used \(no footer\)"),
    ],
    ids=["no_space", "refused", "exists", "no_memory", "no_thread", "later", "damage"],
)
def test_an_error_says_what_happened_to_which_store(error: Exception, kind: type[StorageError], words: str) -> None:
    with pytest.raises(StorageError, match=f"^photos: .*{words}") as caught, reading(STORE, Exception):
        raise error
    assert type(caught.value) is kind
    assert caught.value.__cause__ is error


def test_an_error_of_ours_and_one_that_is_not_expected_pass() -> None:
    for error in (StoreExistsError("mine"), KeyError("theirs")):
        with pytest.raises(type(error)) as caught, reading(STORE, ValueError):
            raise error
        assert caught.value is error
