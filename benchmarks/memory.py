"""How much memory a call takes: the peak of this process, as the kernel counts it."""

import ctypes
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

PROCESS = Path("/proc/self")
RESET_PEAK = "5"  # proc_pid_clear_refs(5)

LIBRARY = ctypes.CDLL(None)


@contextmanager
def note_peak(facts: dict[str, Any], process: Path = PROCESS) -> Iterator[None]:
    """Set ``facts["peak_bytes"]`` to how much the memory of this process grows within the block.

    The field is removed if the kernel doesn't tell.
    """
    facts.pop("peak_bytes", None)
    if hasattr(LIBRARY, "malloc_trim"):  # freed memory that is still mapped could be reused unnoticed
        LIBRARY.malloc_trim(0)
    try:
        (process / "clear_refs").write_text(RESET_PEAK, encoding="ascii")
        before = _read_status(process, "VmRSS")
    except (OSError, LookupError):
        yield
        return
    yield
    with suppress(OSError, LookupError):
        facts["peak_bytes"] = max(0, _read_status(process, "VmHWM") - before)


def _read_status(process: Path, name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB$", (process / "status").read_text(encoding="utf-8"), re.MULTILINE)
    if found is None:
        raise LookupError(name)
    return 1024 * int(found[1])
