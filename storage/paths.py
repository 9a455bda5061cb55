"""Where a store is: claimed before it is written, found before it is read."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import (
    FOREIGN,
    CorruptStoreError,
    ForeignStoreError,
    StoreExistsError,
    StoreNotFoundError,
    reading,
    writing,
)
from .limits import check_amount

SPECIAL_FILE = "it is not a regular file: another program made it"
LINK = "it is a link: another program made it"
SYSTEM_FILES = {".ds_store", "thumbs.db", "desktop.ini", "__macosx"}  # what systems leave in folders
READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # never through a link, or waiting for a named pipe


def is_system_file(name: str) -> bool:
    """Whether an operating system leaves files or folders of this name wherever it shows a folder."""
    return name.lower() in SYSTEM_FILES or name.startswith("._")


def claim_store(store: Path) -> Path:
    """Return the empty directory of a new store; make it if the path is free."""
    store = Path(store)
    join_path(store, "")  # refuses names that no file can have
    with writing(store):
        try:
            store.mkdir(exist_ok=True)
        except FileExistsError:
            raise StoreExistsError("it is a file", store=store, hint="choose another path for the store") from None
        except (FileNotFoundError, NotADirectoryError):
            raise StoreNotFoundError(
                "there is no such folder", store=store.parent, hint="create it, then store again"
            ) from None
        if any(store.iterdir()):
            raise StoreExistsError(
                "it is not empty", store=store, hint="choose an empty directory, or delete this one first"
            )
    return store


def create_file(store: Path, name: str) -> bytes:
    """Claim a store for its one file, and create it, empty: of two writers at once, one is refused.

    A library can then open the file without truncating it. Truncating makes ext4 write it to disk when it is closed.
    """
    path = os.fsencode(claim_store(store) / name)
    with writing(store):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
    return path


@contextmanager
def create_folder(store: Path) -> Iterator[int]:
    """Claim a new store and open it; yield the descriptor in which files are created."""
    with writing(store):
        folder = os.open(claim_store(store), os.O_RDONLY | os.O_DIRECTORY)
        try:
            yield folder
        finally:
            os.close(folder)


def write_file(folder: int, name: bytes | str, content: bytes | memoryview) -> None:
    """Write a new file into the directory with descriptor `folder`."""
    descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666, dir_fd=folder)
    try:
        while content:
            content = content[os.write(descriptor, content) :]
    finally:
        os.close(descriptor)


def walk_files(folder: Path) -> Iterator[tuple[Path, list[str]]]:
    """Yield each folder and the names of its files, the deepest first; raise what `os.walk` would ignore."""

    def fail(error: OSError) -> None:
        raise error

    for place, _, names in os.walk(folder, topdown=False, onerror=fail):
        yield Path(place), names


def refuse_special_files(store: Path) -> list[str]:
    """Refuse a store with a link, which may lead anywhere, or a named pipe, on which a library would wait for ever.

    Return its files.
    """
    files = []

    def fail(error: OSError) -> None:
        raise error

    for folder, folders, names in os.walk(store, onerror=fail):
        for name in (*folders, *names):
            path = os.path.join(folder, name)  # noqa: PTH118 - a Path takes longer
            mode = os.lstat(path).st_mode
            if not stat.S_ISDIR(mode):
                _check_mode(path, mode)
                files.append(path)
    return files


def open_regular(
    path: bytes | str | os.PathLike[str], folder: int | None = None, store: Path | None = None
) -> tuple[int, os.stat_result]:
    """Open a file that another program may have written; return its descriptor and status.

    The path is relative to `folder`, the descriptor of `store`, if there is one. Links, folders, named pipes and
    devices raise a `CorruptStoreError`.
    """
    try:
        descriptor = os.open(path, READ, dir_fd=folder)
    except OSError as error:
        if error.errno == errno.ELOOP:
            _check_mode(path, os.stat(path, dir_fd=folder, follow_symlinks=False).st_mode, store)
        raise
    try:
        status = os.fstat(descriptor)
        _check_mode(path, status.st_mode, store)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor, status


@contextmanager
def open_file(store: Path, name: str) -> Iterator[tuple[int, os.stat_result]]:
    """Open a file of a store as `open_regular` does; if it isn't there, say what is."""
    path = join_path(store, name)
    with reading(store):
        try:
            descriptor, status = open_regular(path)
        except OSError:
            find_file(store, name)
            raise
        try:
            yield descriptor, status
        finally:
            os.close(descriptor)


@contextmanager
def open_folder(store: Path, name: str) -> Iterator[int]:
    """Open a store whose files are found by name; if it isn't there, say which file it lacks: `name`, for one."""
    with reading(store):
        try:
            folder = os.open(join_path(store, ""), os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            find_file(store, name)
            raise
        try:
            yield folder
        finally:
            os.close(folder)


def open_first(store: Path, folder: int, name: str) -> tuple[int, os.stat_result]:
    """Open the file that every store of a backend has, as `open_regular` does; if it isn't there, say what is."""
    try:
        return open_regular(name, folder, store)
    except OSError:
        find_file(store, name)
        raise


def read_small(store: Path, path: Path, limit: int) -> bytes:
    """Read a file of a store that has at most `limit` bytes, opened as `open_regular` does."""
    descriptor, status = open_regular(path)
    try:
        check_amount(path.name, status.st_size, limit, store=store)
        return os.pread(descriptor, limit, 0)
    finally:
        os.close(descriptor)


def find_file(store: Path, name: str) -> Path:
    """Find the file that every store of a backend has; if it isn't there, say what is."""
    path = Path(store) / name
    store = path.parent
    with reading(store):
        mode = path.lstat().st_mode if os.path.lexists(path) else 0
        if stat.S_ISREG(mode):
            return path
        if not store.is_dir():
            problem = "it is a file" if store.exists() else "it doesn't exist"
            raise StoreNotFoundError(problem, store=store, hint="give the directory that store_many wrote")
        if mode:
            _check_mode(path, mode)
        first = min((file.name for file in store.iterdir()), default=None)
    if first is None:
        raise StoreNotFoundError("it is empty", store=store, hint="store images there first")
    raise ForeignStoreError(
        f"it has no {name} (but {first}, for one): it is not complete, or another backend wrote it", store=store
    )


def _check_mode(path: bytes | str | os.PathLike[str], mode: int, store: Path | None = None) -> None:
    if not stat.S_ISREG(mode):
        raise CorruptStoreError(
            LINK if stat.S_ISLNK(mode) else SPECIAL_FILE, store=Path(store or "", os.fsdecode(path))
        )


def join_path(store: Path, name: str) -> bytes:
    """Join a store and a file name for the operating system; refuse a null character, where C would cut the name."""
    try:
        path = b"%b/%b" % (os.fsencode(store), os.fsencode(name))
    except UnicodeEncodeError:
        raise StoreNotFoundError(f"the name {str(store)!r} cannot be encoded", hint="correct the path") from None
    if b"\0" in path:
        raise StoreNotFoundError("there is a null character in the name", store=store, hint="correct the path")
    return path


def stat_file(store: Path, name: str) -> tuple[bytes, os.stat_result]:
    """Do what `find_file` does in a tenth of its time if the file is there; return its path and status.

    For a library that opens the file by its path; where we open it, `open_file` leaves no time to replace it.
    """
    path = join_path(store, name)
    with suppress(*FOREIGN):
        status = os.lstat(path)
        if stat.S_ISREG(status.st_mode):
            return path, status
    with reading(store):
        return path, find_file(store, name).lstat()
