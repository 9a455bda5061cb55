"""The errors that leave this package, and how a library's error becomes one of them."""

import errno
import os
import re
from pathlib import Path

NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
REFUSALS = {errno.EACCES, errno.EAGAIN, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EPERM, errno.EROFS}
SAID_BY_HDF5 = re.compile(r"\berrno = (\d+)")  # h5py makes a RuntimeError of some errors of the operating system
SAID_OF_THREADS = re.compile(r"start new thread|launch worker thread")
SAID_IN_WORDS = {os.strerror(code).lower(): code for code in NO_SPACE | REFUSALS}  # other libraries pass on its words


class StorageError(Exception):
    """Something went wrong with a store; each kind has a class below."""


class InvalidInputError(StorageError, ValueError):
    """What should be stored is not an image set; nothing was written."""


class StoreNotFoundError(StorageError, FileNotFoundError):
    """There is no store at this path."""


class StoreExistsError(StorageError, FileExistsError):
    """The path is not an empty directory, so a new store cannot be written there."""


class RecordNotFoundError(StorageError, IndexError):
    """The store holds fewer images than this index asks for."""


class CorruptStoreError(StorageError):
    """The store is cut short, damaged, or was written by another backend."""


class StoreFullError(StorageError, OSError):
    """The file system has no room for the store."""


class StoreLockedError(StorageError):
    """Another program holds a lock on this path: a writer that is saving to it, as a rule."""


class UnfinishedConversionError(StorageError):
    """A conversion failed in the middle; the same one goes on behind its last finished part."""


class ForkedWriterError(StorageError):
    """A writer was used in another process than the one that made it."""


class BackendUnavailableError(StorageError, ImportError):
    """A backend cannot be used here; the message says how to get what it needs."""


class ReaderClosedError(StorageError, ValueError):
    """The reader was closed before it was asked to read."""


class translate_errors:  # noqa: N801 - reads as the function that it stands for; a generator takes twice the time
    """Turn what a library raises about `store` into an error of this package; for a ``with`` statement.

    Parameters
    ----------
    store : Path
        The store that is being read or written, for the message.
    *library_errors : type[Exception]
        What the library raises for a file that it cannot make sense of. `OSError` is always included.

    Raises
    ------
    StoreFullError
        The operating system had no room: no space, quota, or file size limit.
    StorageError
        The operating system refused otherwise (permission, input/output, too many open files).
    CorruptStoreError
        The library could not make sense of the store.
    """

    __slots__ = ("_expected", "_store")

    def __init__(self, store: Path, *library_errors: type[Exception]) -> None:
        self._store = store
        self._expected: tuple[type[Exception], ...] = (OSError, *library_errors)

    def __enter__(self) -> None:
        """Nothing happens before an error."""

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        """Raise the error of ours in place of the library's."""
        if error is not None and isinstance(error, self._expected) and not isinstance(error, StorageError):
            raise _translate(self._store, error) from error


def _translate(store: Path, error: BaseException) -> StorageError:
    reason = " ".join(str(error).split())
    if _find_codes(error) & NO_SPACE:
        return StoreFullError(
            f"{store}: no room left for the store ({reason}); free some space or choose another disk, "
            "then delete the directory and store again"
        )
    if isinstance(error, FileExistsError):
        return StoreExistsError(f"{store}: another writer stores there at the same time: choose another path")
    if isinstance(error, MemoryError) or SAID_OF_THREADS.search(reason):
        return StorageError(
            f"{store}: too little memory, or too many threads ({reason or type(error).__name__}): free some, and try "
            "again; if there is enough, the store is damaged"
        )
    if (isinstance(error, OSError) and error.errno is not None) or _find_said(reason):
        return StorageError(f"{store}: the operating system refused: {reason}")
    return CorruptStoreError(
        f"{store}: no store that can be used ({reason}): it is damaged, or another backend wrote it"
    )


def _find_codes(error: BaseException | None) -> set[int]:
    """Collect the operating system's codes of an error and of those before it: closing a file may fail in turn."""
    codes: set[int] = set()
    while error is not None:
        codes |= {code for name in ("errno", "code") if isinstance(code := getattr(error, name, None), int)}
        codes |= _find_said(str(error))
        error = error.__context__
    return codes


def _find_said(message: str) -> set[int]:
    """Find the operating system's codes in the message of a library that keeps no other record of them."""
    said = message.lower()
    return {int(code) for code in SAID_BY_HDF5.findall(message)} | {
        code for words, code in SAID_IN_WORDS.items() if words in said
    }
