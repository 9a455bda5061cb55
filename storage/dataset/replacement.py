"""How a dataset comes to its path and leaves it: atomically, and with one writer at a time.

A writer holds a lock, ``.<name>.lock``, and works in ``.<name>.tmp-<process>-<random>``, both next to the dataset. A
new dataset is renamed; a replacement is exchanged with the old one, which Linux does in one step (renameat2). A reader
holds a shared lock on the directory that it opened. A dataset that was replaced is deleted when it has no more readers.
"""

import ctypes
import errno
import fcntl
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import filelock

from ..durability import sync
from ..errors import StorageError, StoreExistsError, StoreLockedError, StoreNotFoundError, reading, writing
from ..paths import is_system_file, join_path
from ..registry import PACKAGE
from .manifest import PART, Manifest, is_manifest, is_own

AT_FDCWD, RENAME_EXCHANGE = -100, 2  # <fcntl.h>, <linux/fs.h>
NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}
PRIVATE = 0o700  # a stage's mode: its owner's
UNSUPPORTED = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP}

_libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def lock_path(path: Path, *, lock: bool = True) -> Iterator[None]:
    """Be the only writer to a path, or raise `StoreLockedError`; without `lock`, the caller makes sure of that."""
    if not path.parent.is_dir():
        raise StoreNotFoundError("there is no such folder", store=path.parent, hint="create it, then save again")
    with _acquire(path) if lock else nullcontext():
        yield


@contextmanager
def _acquire(path: Path) -> Iterator[None]:
    file = path.with_name(f".{path.name}.lock")
    lock = filelock.FileLock(file, timeout=0)
    with writing(path):
        _check_lock(path, file)
        try:
            lock.acquire()
            _check_lock(path, file)  # in a shared folder, another user may have put something there meanwhile
        except filelock.Timeout:
            raise StoreLockedError(
                "another writer is saving there", store=path, hint="wait until it has ended, or choose another path"
            ) from None
        except PermissionError as error:
            raise StorageError(
                f"its lock cannot be opened ({error})",
                store=path,
                hint="make the folder and the lock in it writable for you",
            ) from error
        except (OSError, NotImplementedError) as error:
            lock.release()
            if isinstance(error, OSError) and error.errno not in NO_LOCKS:
                raise
            raise StorageError(
                f"this file system has no locks ({error}), so two writers at once would go unnoticed",
                store=path,
                hint="save to another one; or, if nothing else writes there meanwhile, with lock=False (`--no-lock`)",
            ) from error
        except BaseException:
            lock.release()
            raise
    try:
        yield
    finally:
        with suppress(OSError):  # the process gives it up at its end at the latest
            lock.release()


def _check_lock(path: Path, file: Path) -> None:
    if os.path.lexists(file) and not stat.S_ISREG(file.lstat().st_mode):
        raise StorageError(
            f"its lock, {file.name}, isn't a regular file", store=path, hint="see who made it; delete it"
        )


def check_target(path: Path, *, overwrite: bool) -> os.stat_result | None:
    """Refuse to write over anything but a dataset that may be replaced; return its status if there is one."""
    with writing(path):
        if not os.path.lexists(path):
            return None
        if not path.is_dir():
            raise StoreExistsError("it is a file", store=path, hint="choose another path")
        names = sorted(entry.name for entry in path.iterdir())
        if not names:
            return None
        is_ours = is_manifest(path)
        foreign = next((name for name in names if not (is_own(name, former=is_ours) or is_system_file(name))), None)
        if foreign is not None or not (is_ours or any(name.startswith("part-") for name in names)):
            raise StoreExistsError(
                f"it holds {foreign or names[0]}, which {PACKAGE}.save did not write",
                store=path,
                hint="choose another path, or move it",
            )
        if not overwrite:
            raise StoreExistsError(
                "it holds a dataset", store=path, hint="choose another path, or replace it with overwrite=True"
            )
        return path.stat()


def copy_permissions(path: Path, stage: Path, part: str) -> None:
    """Give a dataset the group and the permissions of the one that it will replace, or else those of a part."""
    if path.exists():
        with suppress(PermissionError):
            os.chown(stage, -1, path.stat().st_gid)
    shutil.copymode(path if path.exists() else stage / part, stage)


def make_stage(path: Path) -> Path:
    """Make the folder, closed to other users, in which a dataset is written before it is published at `path`."""
    stage = path.with_name(f".{path.name}.tmp-{os.getpid()}-{secrets.token_hex(4)}")
    stage.mkdir(PRIVATE)
    return stage


def is_ours(stage: Path, *, private: bool = False) -> bool:
    """Check that this user owns a folder; if `private`, also that no other user can write to it."""
    status = stage.lstat()
    is_private = not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and (is_private or not private)


def find_stages(path: Path) -> list[Path]:
    """Find what dead writers to `path` left, and what was replaced but may still be read; the caller has the lock."""
    name = re.compile(re.escape(f".{path.name}.tmp-") + r"\d+-[0-9a-f]{8}")
    with os.scandir(path.parent) as entries:
        return [Path(entry) for entry in entries if name.fullmatch(entry.name)]


def remove_unreferenced(folder: Path, manifest: Manifest) -> None:
    """Remove what a dead writer of this user left among the parts that a manifest names."""
    names = {part.name for part in manifest.parts}
    for name in os.listdir(folder):  # noqa: PTH208 - a Path of each takes ten times as long
        part = PART.match(name)
        if part is None or part[0] in names or (path := folder / name).lstat().st_uid != os.geteuid():
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def discard(folder: Path) -> None:
    """Delete a folder unless it is being read; the next writer tries again."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            with _ignoring_no_locks():  # whoever writes without one makes sure that nothing reads there
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(descriptor)


def publish(stage: Path, path: Path, *, overwrite: bool, durable: bool) -> None:
    """Move a complete dataset to its path in one step, which is undone if it fails; the old one is then the stage."""
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
    """Make sure that the exchange replaced the dataset that was checked before."""
    if old and not os.path.samestat(old, stage.stat()):
        raise StoreExistsError(
            "another program put something else there meanwhile", store=path, hint="see what it is, then save again"
        )


def exchange(one: Path, other: Path) -> None:
    """Exchange two directories in one step."""
    if _libc.renameat2(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE):
        code = ctypes.get_errno()
        if code in UNSUPPORTED:
            raise StorageError(
                "this file system cannot exchange two directories in one step",
                store=other,
                hint="delete or rename the old one, then save again",
            )
        raise OSError(code, os.strerror(code), str(other))


@contextmanager
def hold_directory(path: Path) -> Iterator[Path]:
    """Hold the directory that is at `path` now: yield a path to it that stays right if it is moved or replaced."""
    join_path(path, "")  # refuses impossible names
    with reading(path):
        descriptor = _open_current(path)
    try:
        yield Path(f"/proc/self/fd/{descriptor}")
    finally:
        with suppress(OSError):  # it was only read, so nothing is lost
            os.close(descriptor)


def _open_current(path: Path) -> int:
    while True:
        descriptor = _open_folder(path)
        try:
            if _lock_shared(descriptor, path):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _open_folder(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except (FileNotFoundError, NotADirectoryError):
        problem = "it is a file" if path.exists() else "it doesn't exist"
        raise StoreNotFoundError(problem, store=path, hint="save images there first, or correct the path") from None


@contextmanager
def _ignoring_no_locks() -> Iterator[None]:
    """Go on where the file system has no locks."""
    try:
        yield
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise


def _lock_shared(descriptor: int, path: Path) -> bool:
    """Take a shared lock, where there are locks; False if the directory is not at `path` any more."""
    is_held = True
    try:
        with _ignoring_no_locks():
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        is_held = False
    if not (path.exists() and os.path.samestat(os.fstat(descriptor), path.stat())):
        return False
    if not is_held:
        raise StoreLockedError(
            "another program holds a lock on this folder", store=path, hint="wait until it has ended"
        )
    return True
