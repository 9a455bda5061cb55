"""How a dataset comes to its path and goes from there: whole, in one step, and one writer at a time.

A writer holds a lock, ``.<name>.lock``, and works in ``.<name>.tmp-<process>-<random>``, both beside the dataset. A new
dataset is renamed; a replacement is exchanged with the old one, which Linux does in one step (renameat2). A reader
holds a shared lock on the directory that it opened; what is replaced is deleted when nobody reads it any more.
"""

import ctypes
import errno
import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import filelock

from ..durability import sync
from ..errors import StorageError, StoreExistsError, StoreLockedError, StoreNotFoundError, writing
from ..paths import join_path
from .manifest import OURS, is_manifest

AT_FDCWD, RENAME_EXCHANGE = -100, 2  # <fcntl.h>, <linux/fs.h>
NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}
UNSUPPORTED = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP}

_libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def lock_path(path: Path) -> Iterator[None]:
    """Be the only writer to a path.

    Raises
    ------
    StoreLockedError
        There is another one.
    StoreNotFoundError
        The folder that should hold the dataset does not exist.
    StorageError
        The lock cannot be opened.
    """
    if not path.parent.is_dir():
        raise StoreNotFoundError(f"{path.parent} is not a folder: create it, then save again")
    lock = filelock.FileLock(path.with_name(f".{path.name}.lock"), timeout=0)
    with writing(path):
        try:
            lock.acquire()
        except filelock.Timeout:
            raise StoreLockedError(
                f"{path}: another writer is saving there: wait until it has ended, or choose another path"
            ) from None
        except PermissionError as error:
            raise StorageError(
                f"{path} cannot be saved to: its lock cannot be opened ({error}): the folder, or the lock of another "
                "user, must be writable for you"
            ) from error
    try:
        yield
    finally:
        with suppress(OSError):  # it goes with the lock's descriptor at the latest
            lock.release()


def check_target(path: Path, *, overwrite: bool) -> os.stat_result | None:
    """Refuse to write where something else is.

    Parameters
    ----------
    path : Path
        Where a dataset is to come.
    overwrite : bool
        Whether it may replace one.

    Returns
    -------
    os.stat_result or None
        Of the dataset that is there.

    Raises
    ------
    StoreExistsError
        `path` is a file, a folder that holds anything but a dataset, or a dataset that may not be replaced.
    """
    with writing(path):
        if not os.path.lexists(path):
            return None
        if not path.is_dir():
            raise StoreExistsError(f"{path} is a file: choose another path")
        names = sorted(entry.name for entry in path.iterdir())
        if not names:
            return None
        foreign = next((name for name in names if OURS.fullmatch(name) is None), None)
        if foreign is not None or not (is_manifest(path) or any(name.startswith("part-") for name in names)):
            raise StoreExistsError(
                f"{path} holds {foreign or names[0]}, which storage.save did not write: choose another path, or move it"
            )
        if not overwrite:
            raise StoreExistsError(f"{path} holds a dataset: choose another path, or replace it with overwrite=True")
        return path.stat()


def keep_access(path: Path, stage: Path) -> None:
    """Give a dataset the group and the permissions of the one that it will replace."""
    if path.exists():
        with suppress(PermissionError):
            os.chown(stage, -1, path.stat().st_gid)
        shutil.copymode(path, stage)


def make_stage(path: Path) -> Path:
    """Make the folder in which a dataset is written before it comes to `path`."""
    stage = path.with_name(f".{path.name}.tmp-{os.getpid()}-{secrets.token_hex(4)}")
    stage.mkdir()
    return stage


def find_stages(path: Path) -> list[Path]:
    """Find what writers to `path` left when they died, and what was replaced but is still being read.

    Whoever asks holds the lock of `path`, so there is no living writer.
    """
    name = re.compile(re.escape(f".{path.name}.tmp-") + r"\d+-[0-9a-f]{8}")
    with os.scandir(path.parent) as entries:
        return [Path(entry) for entry in entries if name.fullmatch(entry.name)]


def discard(folder: Path) -> None:
    """Delete a folder, unless somebody reads it; what cannot be deleted is left to the next writer."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(descriptor)


def put_in_place(stage: Path, path: Path, *, overwrite: bool, durable: bool) -> None:
    """Give a complete dataset its path, in one step; what was there is then where the dataset came from.

    Parameters
    ----------
    stage : Path
        The dataset.
    path : Path
        Where nothing is, an empty directory, or the dataset that is replaced.
    overwrite : bool
        Whether one may be replaced.
    durable : bool
        Wait until the disk holds the new names. If it refuses, the step is undone.

    Raises
    ------
    OSError
        The operating system refused; everything is as before.
    StoreExistsError
        Something has come to `path` that may not be replaced.
    StorageError
        The file system cannot exchange directories.
    """
    old, new = check_target(path, overwrite=overwrite), stage.stat()
    move = exchange if old else os.rename  # which replaces an empty directory, and nothing else
    try:
        move(stage, path)
        _check_replaced(path, stage, old)
        if durable:
            sync(path.parent)
    except BaseException:
        if path.exists() and os.path.samestat(new, path.stat()):
            move(path, stage)
        raise


def _check_replaced(path: Path, stage: Path, old: os.stat_result | None) -> None:
    """See that what was exchanged is what was looked at before."""
    if old and not os.path.samestat(old, stage.stat()):
        raise StoreExistsError(
            f"another program put something else at {path} meanwhile: see what it is, then save again"
        )


def exchange(one: Path, other: Path) -> None:
    """Exchange two directories in one step."""
    if _libc.renameat2(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE):
        code = ctypes.get_errno()
        if code in UNSUPPORTED:
            raise StorageError(
                f"{other}: this file system cannot exchange two directories in one step, so nothing was replaced: "
                "delete or rename the old one, then save again"
            )
        raise OSError(code, os.strerror(code), str(other))


@contextmanager
def pin(path: Path) -> Iterator[Path]:
    """Hold on to the directory that is at `path` now, whatever comes to its place.

    Parameters
    ----------
    path : Path
        Of a dataset.

    Yields
    ------
    Path
        Of the same directory, as long as it is pinned, in this process and those that it forks.

    Raises
    ------
    StoreNotFoundError
        There is no directory at `path`.
    """
    join_path(path, "")  # refuses what no file can be named
    with writing(path):
        descriptor = _open_current(path)
    try:
        yield Path(f"/proc/self/fd/{descriptor}")
    finally:
        with suppress(OSError):  # of a directory that was only read, nothing is lost
            os.close(descriptor)


def _open_current(path: Path) -> int:
    while True:
        descriptor = _open_folder(path)
        try:
            if _hold(descriptor, path):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _open_folder(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except (FileNotFoundError, NotADirectoryError):
        kind = "is a file" if path.exists() else "does not exist"
        raise StoreNotFoundError(f"{path} {kind}: save images there first, or correct the path") from None


def _hold(descriptor: int, path: Path) -> bool:
    """Take a shared lock of a directory, unless it was replaced or taken away; where there are no locks, go without."""
    is_held = True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        is_held = False
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
    if not (path.exists() and os.path.samestat(os.fstat(descriptor), path.stat())):
        return False
    if not is_held:
        raise StoreLockedError(f"{path}: another program holds a lock on this folder: wait until it has ended")
    return True
