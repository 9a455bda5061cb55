"""Child processes that never outlive this one."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

# The kernel ends the child with the thread that started it, also if that is killed; `prctl` holds across `exec`.
PRELUDE = """\
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
if os.getppid() != int(sys.argv[1]):
    sys.exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""


def start_child(
    command: Sequence[str],
    *,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
    stdin: int | IO[bytes] = subprocess.DEVNULL,
    stdout: int | IO[bytes] = subprocess.DEVNULL,
    stderr: int | IO[bytes] | None = None,
    new_session: bool = False,
) -> "subprocess.Popen[bytes]":
    """Start a command, whose program is a path, as a child that is killed when the calling thread ends."""
    prefix = [sys.executable, "-I", "-S", "-c", PRELUDE, str(os.getpid())]
    return subprocess.Popen(  # noqa: S603 - the suite's own commands
        [*prefix, *command],
        cwd=folder,
        env=environment,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        start_new_session=new_session,
    )
