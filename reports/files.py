"""Files in folders that others may write to: bounded reading, writing that follows no link, locked folders."""

import errno
import fcntl
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

MAX_BYTES = 256 << 20  # of a run: a hundred times the largest so far
CHUNK = 1 << 20  # bytes read at once
NOT_ORDINARY = "it isn't an ordinary file"


def read_file(path: Path, limit: int = MAX_BYTES) -> bytes:
    """Read an ordinary file of at most `limit` bytes, or a pipe that the shell made; anything else is an `OSError`."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a named pipe would block
    try:
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if _is_anonymous_pipe(descriptor):
            os.set_blocking(descriptor, True)
        elif not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, NOT_ORDINARY, str(path))
        if status.st_size <= limit:
            content = _read_at_most(descriptor, limit + 1)
    finally:
        os.close(descriptor)
    if status.st_size > limit or len(content) > limit:
        raise OSError(errno.EFBIG, f"it has more than {limit:,} bytes", str(path))
    return content


def _read_at_most(descriptor: int, limit: int) -> bytes:
    chunks: list[bytes] = []
    while limit > 0 and (chunk := os.read(descriptor, min(limit, CHUNK))):
        chunks.append(chunk)
        limit -= len(chunk)
    return b"".join(chunks)


def _is_anonymous_pipe(descriptor: int) -> bool:
    """Return whether this is a pipe without a name, such as the /dev/fd/63 of `<(command)`: nobody can plant one."""
    with suppress(OSError):
        return str(Path(f"/proc/self/fd/{descriptor}").readlink()).startswith("pipe:")
    return False


def replace_file(path: Path, content: str | bytes) -> None:
    """Write a file atomically: if that fails, an earlier file stays. A link is replaced, not followed."""
    data = content.encode() if isinstance(content, str) else content
    try:
        _check_replaceable(path)
        part = path.with_name(f".{secrets.token_hex(8)}.part")  # unguessable: no link can be waiting there
        with part.open("xb") as file:
            try:
                file.write(data)
                file.close()  # flushing may find the disk full
                part.replace(path)
            finally:
                part.unlink(missing_ok=True)
    except OSError as problem:  # the user doesn't know the part's name
        raise OSError(problem.errno, problem.strerror, str(path)) from problem


def _check_replaceable(path: Path) -> None:
    """Refuse to replace a folder, or a device such as /dev/stdout; a link to an ordinary file is replaced."""
    if path.is_dir() and not path.is_symlink():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, NOT_ORDINARY)


def append_file(path: Path, text: str) -> None:
    """Append to an ordinary file, or create it; a link is refused, because a new file would lose what it points to."""
    if path.is_symlink():
        raise OSError(errno.ELOOP, "it is a link", str(path))
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, 0o666), "a", encoding="utf-8") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, NOT_ORDINARY, str(path))
        file.write(text)


@contextmanager
def hold_folder(prefix: str, parent: Path | None = None) -> Iterator[Path]:
    """Make a temporary folder that only this user can open, and delete it at the end.

    The folder is locked while this process lives. If a signal kills it, the next call with the same prefix and parent
    deletes what it left.
    """
    parent = parent or Path(tempfile.gettempdir())
    remove_abandoned(parent.glob(f"{prefix}*"))
    unnamed = Path(tempfile.mkdtemp(prefix=".new-", dir=parent))
    descriptor = None
    with suppress(OSError):  # not every file system has locks; without one, nothing is abandoned there
        descriptor = lock_folder(unnamed)
    folder = unnamed.rename(parent / f"{prefix}{secrets.token_hex(4)}")  # only now can another process find it
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if descriptor is not None:
            os.close(descriptor)


def lock_folder(folder: Path) -> int:
    """Lock a folder until the descriptor that this returns is closed; raise `OSError` if another process holds it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def remove_abandoned(folders: Iterable[Path]) -> None:
    """Delete the folders of this user that no living process holds."""
    for folder in folders:
        with suppress(OSError):
            status = folder.lstat()
            if stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o077:
                descriptor = lock_folder(folder)
                try:
                    shutil.rmtree(folder, ignore_errors=True)
                finally:
                    os.close(descriptor)
