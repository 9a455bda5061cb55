"""Conditions for the gate's self-test: what else this machine does while it measures."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

_SPIN = "while True: pass"
_WRITE = """
import os, sys
content = bytes(16 << 20)
with open(os.path.join(sys.argv[1], "written"), "wb", buffering=0) as file:
    while True:
        file.seek(0)
        file.write(content)
        os.fsync(file.fileno())
"""


@contextmanager
def _run_beside(program: str) -> Iterator[None]:
    """Run a Python program, with a temporary folder as its argument, as long as the block lasts."""
    with tempfile.TemporaryDirectory(prefix="gate-condition-") as folder:
        process = subprocess.Popen([sys.executable, "-c", program, folder])  # noqa: S603 - one of the two above
        try:
            yield
        finally:
            process.kill()
            process.wait()


@contextmanager
def _keep_to_one_processor() -> Iterator[None]:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


CONDITIONS: dict[str, Callable[[], AbstractContextManager[None]]] = {
    "idle": nullcontext,
    "cpu": lambda: _run_beside(_SPIN),
    "disk": lambda: _run_beside(_WRITE),
    "one-core": _keep_to_one_processor,
}
"""By name: nothing else; a process that computes; one that writes 16 MiB and syncs them, again and again; one core."""
