"""File systems of our own: small ones, and ones that become read-only; in a child, with which they vanish.

The child enters a mount namespace of its own; where it is not root, a user namespace, too. Sources: mount(2),
user_namespaces(7), tmpfs(5).
"""

import ctypes
import os
from functools import cache, partial
from pathlib import Path

from tests.faults.children import run_child

READ_ONLY, REMOUNT, RECURSIVE, PRIVATE = 1, 32, 1 << 14, 1 << 18  # <sys/mount.h>
NEW_MOUNTS, NEW_USER = 0x00020000, 0x10000000  # <sched.h>

_libc = ctypes.CDLL(None, use_errno=True)


@cache
def find_obstacle() -> str:
    """Find out why nothing can be mounted here; an empty text if it can."""
    ending = run_child(partial(_try_to_mount, Path(os.devnull).parent))
    return "" if ending.describe() == "mounted" else f"nothing can be mounted here: {ending.describe()}"


def mount_memory(folder: Path, size: int) -> None:
    """Mount a file system of `size` bytes at `folder`, seen by this process and its children alone."""
    user, group = os.getuid(), os.getgid()
    _call("unshare", NEW_MOUNTS if user == 0 else NEW_MOUNTS | NEW_USER)
    if user != 0:
        Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1", encoding="ascii")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1", encoding="ascii")
    _call("mount", b"none", b"/", None, RECURSIVE | PRIVATE, None)
    _call("mount", b"none", os.fsencode(folder), b"tmpfs", 0, b"size=%d" % size)


def resize_memory(folder: Path, free: int) -> None:
    """Leave so many bytes free in the file system at `folder`; the kernel counts in pages."""
    status = os.statvfs(folder)
    used = (status.f_blocks - status.f_bfree) * status.f_frsize
    _call("mount", b"none", os.fsencode(folder), b"tmpfs", REMOUNT, b"size=%d" % (used + free))


def forbid_writing(folder: Path, *, forbidden: bool) -> None:
    """Make the file system at `folder` read-only, or writable again."""
    _call("mount", b"none", os.fsencode(folder), b"tmpfs", REMOUNT | (READ_ONLY if forbidden else 0), None)


def _try_to_mount(folder: Path) -> str:
    mount_memory(folder, 1 << 20)
    return "mounted"


def _call(name: str, *arguments: object) -> None:
    if _libc[name](*arguments):
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")
