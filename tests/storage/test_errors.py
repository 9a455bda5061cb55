"""Errors have fields, and a library's or the system's error becomes one of ours: a failed write is never corruption."""

import errno
from pathlib import Path
from unittest.mock import Mock

import pytest

import storage
from storage import BACKENDS, CorruptStoreError, StorageError, StoreExistsError, StoreFullError
from storage.errors import reading, writing
from tests.support.backends import EXAMPLE
from tests.support.image_sets import make_set

STORE = Path("photos")
SHORT_WRITE = OSError("10800 requested and 10 written")  # what ndarray.tofile raises on a full disk: without errno


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "it broke"),
        ({"store": STORE}, "photos: it broke"),
        ({"store": "photos", "record": 0, "hint": "mend it"}, "photos: record 0: it broke: mend it"),
        ({"record": -7}, "record -7: it broke"),
    ],
    ids=str,
)
def test_the_message_is_built_from_the_fields(fields: dict[str, object], message: str) -> None:
    error = StorageError("it broke", **fields)  # type: ignore[arg-type] # one value each
    assert str(error) == message
    error.store = Path("elsewhere")
    assert str(error).startswith("elsewhere: ")


NO_SPACE = OSError(errno.ENOSPC, "No space left on device")
REFUSED = PermissionError(errno.EACCES, "Permission denied", "photos/images")
READ_BACK = CorruptStoreError("cut short", store=STORE)
EXISTS = FileExistsError(errno.EEXIST, "File exists")


@pytest.mark.parametrize(
    ("error", "of_reading", "of_writing"),
    [
        (NO_SPACE, (StorageError, "system refused"), (StoreFullError, r"no room left .*\(.*No space left on device\)")),
        (REFUSED, (StorageError, r"\(Permission denied: images\)$"), (StorageError, r"\(Permission denied: images\)$")),
        (EXISTS, (StorageError, "system refused"), (StoreExistsError, "another writer is storing there")),
        (MemoryError(), (StorageError, r"memory.*\(MemoryError\)"), (StorageError, r"memory.*\(MemoryError\)")),
        (RuntimeError("can't start new thread"), (StorageError, "threads"), (StorageError, "threads")),
        (RuntimeError("fork: Resource temporarily unavailable"), (StorageError, "refused"), (StorageError, "refused")),
        (RuntimeError("no locks available"), (StorageError, "refused"), (StorageError, "refused")),
        (RuntimeError("photos: no footer"), (CorruptStoreError, r"\(no footer\)"), (StorageError, "writing failed")),
        (SHORT_WRITE, (CorruptStoreError, "can't be read"), (StorageError, r"writing failed \(10800 requested")),
        (READ_BACK, (CorruptStoreError, "cut"), (StorageError, r"failed \(cut")),
    ],
    ids=[
        "no_space",
        "refused",
        "exists",
        "no_memory",
        "no_thread",
        "later",
        "no_locks",
        "damage",
        "short_write",
        "read_back",
    ],
)
def test_an_error_says_what_happened_to_which_store(
    error: Exception, of_reading: tuple[type[StorageError], str], of_writing: tuple[type[StorageError], str]
) -> None:
    for manager, (kind, words) in ((reading, of_reading), (writing, of_writing)):
        with pytest.raises(StorageError, match=f"^photos: .*{words}") as caught, manager(STORE, Exception):
            raise error
        assert type(caught.value) is kind
        assert caught.value.store == STORE
        assert caught.value is error or caught.value.__cause__ is error


def test_our_errors_and_unexpected_ones_pass_unchanged() -> None:
    for error in (StoreExistsError("mine"), AttributeError("theirs")):
        for manager in (reading, writing):
            with pytest.raises(type(error)) as caught, manager(STORE, ValueError):
                raise error
            assert caught.value is error


def test_a_failed_write_of_a_backend_is_never_reported_as_corruption(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for error, kind in ((SHORT_WRITE, StorageError), (NO_SPACE, StoreFullError), (READ_BACK, StorageError)):
        monkeypatch.setattr(BACKENDS[EXAMPLE], "store_many", Mock(side_effect=error))
        with pytest.raises(
            StorageError, match=r"set: nothing was saved.*\(.*(10800|No space left|cut short)"
        ) as caught:
            storage.save(tmp_path / "set", *make_set(3), EXAMPLE)
        assert type(caught.value) is kind
        assert not list(tmp_path.glob("[!.]*"))


def test_replacing_fields_keeps_a_subclass_whose_init_takes_other_arguments() -> None:
    class CodeError(StorageError):
        def __init__(self, code: int) -> None:
            super().__init__(f"code {code}", record=3)

    changed = CodeError(7).replace(store=Path("photos"))
    assert (type(changed), str(changed)) == (CodeError, "photos: record 3: code 7")
