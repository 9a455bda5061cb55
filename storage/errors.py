"""The errors of this package, and how a library's error becomes one of them."""

import errno
import os
import re
import signal
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import Any, Self

NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
REFUSALS = {errno.EACCES, errno.EAGAIN, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EPERM, errno.EROFS}
MOUNTS = {errno.EBUSY, errno.ENOLCK, errno.ENOSYS, errno.ENOTCONN, errno.EREMOTEIO, errno.ESTALE, errno.ETIMEDOUT}
HDF5_ERRNO = re.compile(r"\berrno = (\d+)")  # h5py turns some errors of the operating system into a RuntimeError
HDF5_UNLOCKABLE = re.compile("unable to lock file|locking flag")  # another program has locked it, or locks are missing
NO_THREADS = re.compile(r"start new thread|launch worker thread")
FOREIGN = (  # what damage may make any library raise, or the operating system
    OSError,
    MemoryError,
    ArithmeticError,
    LookupError,
    RuntimeError,
    SystemError,
    ValueError,
    struct.error,
)
WORDS = {os.strerror(code).lower(): code for code in NO_SPACE | REFUSALS | MOUNTS}  # other libraries pass on its words


class StorageError(Exception):
    """Something went wrong with a store; the subclasses name the kinds.

    Parameters
    ----------
    problem : str
        What happened, without the path of the store.
    store : Path or Url, optional
        Where it happened: a store, a dataset, or a file or an object of one.
    record : int, optional
        The index of the image.
    name : str, optional
        The name of the image, if it has one.
    hint : str, optional
        What to do; by default the `usual_hint` of the class.

    Examples
    --------
    >>> error = CorruptStoreError("it is cut short", store="photos", record=7, hint="restore it from a copy")
    >>> print(error)
    photos: record 7: it is cut short: restore it from a copy
    >>> error.record
    7
    """

    usual_hint = ""

    def __init__(
        self,
        problem: str = "",
        *,
        store: PurePath | str | None = None,
        record: int | None = None,
        name: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(problem)
        self.problem = problem
        self.store = Path(store) if isinstance(store, str) else store
        self.record = record
        self.name = name
        self.hint = self.usual_hint if hint is None else hint

    def replace(self, **fields: Any) -> Self:  # noqa: ANN401 - any field of the class
        """Return a copy with other fields, whatever `__init__` of a subclass takes."""
        copy = type(self).__new__(type(self), *self.args)
        vars(copy).update(vars(self) | fields)
        return copy

    def __str__(self) -> str:
        """Build the message from the fields."""
        record = None if self.record is None else f"record {self.record}"
        if record and self.name is not None:
            record += f" ({self.name})"
        parts = (None if self.store is None else str(self.store), record, self.problem, self.hint)
        return ": ".join(part for part in parts if part)


class InvalidInputError(StorageError, ValueError):
    """The input isn't an image set, or can't be stored; nothing was written."""


class StoreNotFoundError(StorageError, FileNotFoundError):
    """There is no store at this path."""


class StoreExistsError(StorageError, FileExistsError):
    """The path isn't an empty directory, so no new store can be written there."""


class RecordNotFoundError(StorageError, IndexError):
    """The index is out of range."""


class CorruptStoreError(StorageError):
    """The store is cut short, damaged, or was written by another backend."""

    usual_hint = "restore a copy, or store the images again"


class ForeignStoreError(CorruptStoreError):
    """The directory has files, but not the one that every complete store of this backend has."""


class StoreFullError(StorageError, OSError):
    """The file system has no room for the store."""


class StoreLockedError(StorageError):
    """Another program holds a lock on this path; usually it is a writer that is saving to it."""


class UnfinishedConversionError(StorageError):
    """A conversion failed halfway; the same conversion resumes after its last finished part."""


class DecodingError(StorageError, ValueError):
    """An image file can't be decoded: it is damaged, is no image, or has what 8-bit RGB can't hold."""

    usual_hint = "restore it from a copy, or leave it out"


class ForkedWriterError(StorageError):
    """A writer was used in another process than the one that created it."""


class BackendUnavailableError(StorageError, ImportError):
    """A backend can't be used here; the message says how to get what it needs."""


class ReaderClosedError(StorageError, ValueError):
    """The reader was closed before it was asked to read."""


class reading:  # noqa: N801 - reads as a function in a with statement; a generator takes twice the time
    """Turn what a library raises while it reads `store` into an error of this package.

    Errors of the operating system and `FOREIGN` ones are always included; `library_errors` are the library's own. If
    the operating system refused or memory is too little, the result is a `StorageError`, else a `CorruptStoreError`.
    """

    __slots__ = ("_expected", "_store")

    def __init__(self, store: PurePath, *library_errors: type[Exception]) -> None:
        self._store = store
        self._expected: tuple[type[Exception], ...] = FOREIGN + library_errors

    def __enter__(self) -> None:
        """Do nothing."""

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        """Raise the error of this package in place of the library's."""
        if error is not None and isinstance(error, self._expected) and not isinstance(error, StorageError):
            raise self._translate(error) from error

    def _translate(self, error: BaseException) -> StorageError:
        return explain(self._store, error)


def explain(store: PurePath, error: BaseException) -> StorageError:
    """Make the error of this package for what a library raised while it read `store`."""
    if isinstance(error, OSError) and error.errno == errno.ELOOP:
        return CorruptStoreError(f"a file is a link, and stores have none ({_quote(store, error)})", store=store)
    return _find_refusal(store, error) or CorruptStoreError(
        f"it can't be read ({_quote(store, error)}): it is damaged, or another backend wrote it", store=store
    )


class writing(reading):  # noqa: N801 - likewise
    """Turn what a library raises while it writes `store` into an error of this package; never into corruption.

    If the disk or a quota is full, the result is a `StoreFullError`; if another writer writes to the same path, a
    `StoreExistsError`; otherwise a `StorageError`.
    """

    __slots__ = ()
    full = "no room left for the store"
    full_hint = "free some space or choose another disk, then delete the directory and store again"
    failed_hint = "make sure that the disk has room, delete the directory, and store again"

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        """Raise the error of this package in place of the library's, and of what it found when it read back."""
        if isinstance(error, CorruptStoreError):
            raise self._translate(error) from error
        super().__exit__(kind, error, traceback)

    def _translate(self, error: BaseException) -> StorageError:
        reason = _quote(self._store, error)
        if _find_codes(error) & NO_SPACE:
            return StoreFullError(f"{self.full} ({reason})", store=self._store, hint=self.full_hint)
        if isinstance(error, FileExistsError):
            return StoreExistsError(
                "another writer is storing there at the same time", store=self._store, hint="choose another path"
            )
        return _find_refusal(self._store, error) or StorageError(
            f"writing failed ({reason})", store=self._store, hint=self.failed_hint
        )


def _find_refusal(store: PurePath, error: BaseException) -> StorageError | None:
    """Make the error of a call that the operating system refused; None if it didn't."""
    reason = _quote(store, error)
    if isinstance(error, MemoryError) or NO_THREADS.search(reason):
        return StorageError(
            f"too little memory, or too many threads ({reason})",
            store=store,
            hint="free some, and try again; if there is enough, the store is damaged",
        )
    if (isinstance(error, OSError) and error.errno is not None) or _find_words(reason):
        return StorageError(f"the operating system refused ({reason})", store=store)
    return None


def _quote(store: PurePath, error: BaseException) -> str:
    """Quote an error without the path of its store, which our message begins with."""
    text = " ".join((error.problem if isinstance(error, StorageError) else str(error)).split())
    if isinstance(error, OSError) and isinstance(error.filename, str | bytes):
        text = f"{error.strerror}: {os.fsdecode(error.filename)}"
    text = text.replace(f"{store}/", "").removeprefix(f"{store}: ").removesuffix(f": {store}")
    return text or type(error).__name__


def _find_codes(error: BaseException | None) -> set[int]:
    """Collect the operating system's codes of an error and of those before it: closing a file may fail in turn."""
    codes: set[int] = set()
    while error is not None:
        codes |= {code for name in ("errno", "code") if isinstance(code := getattr(error, name, None), int)}
        codes |= _find_words(str(error))
        error = error.__context__
    return codes


def _find_words(message: str) -> set[int]:
    """Find the operating system's codes in the message of a library that keeps no other record of them."""
    lowered = message.lower()
    return {int(code) for code in HDF5_ERRNO.findall(message)} | {
        code for words, code in WORDS.items() if words in lowered
    }


@contextmanager
def hold_interrupts() -> Iterator[None]:
    """Have Ctrl-C wait until the block has ended, because a library would lose it."""
    held = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # may raise after it has blocked it
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)
