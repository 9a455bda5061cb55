"""What a cell is, as a digest: two runs compare times only where it is the same."""

import functools
import hashlib
from pathlib import Path

import pytest

DIGITS = 16
WIDEST_THRESHOLD = 10  # as reports check it
MARKER = "threshold(share): how much slower, as a share, before a cell of the benchmark counts as slower (0.10)"
MEASURING = ("cell", "comparison", "directories", "memory", "page_cache", "rounds", "workers")  # modules of this room
SHARED = tuple(Path(__file__).with_name(f"{name}.py") for name in MEASURING)


def hash_definition(item: pytest.Function) -> str:
    """Hash what is measured: the source of a benchmark's module and of what measures cells, and the parameters.

    Not what is measured with it: the backends, whose changes the times should show.
    """
    digest = hashlib.sha256()
    for path in (item.path, *SHARED):
        digest.update(_hash_file(path))
    digest.update(repr(sorted(item.callspec.params.items())).encode())
    return digest.hexdigest()[:DIGITS]


def read_threshold(item: pytest.Function) -> dict[str, float]:
    """Read the marker `threshold` of a benchmark, as a field of its cells' JSON; no field where it has none.

    Raises
    ------
    pytest.UsageError
        The marker has no share between 0 and 10.
    """
    marker = item.get_closest_marker("threshold")
    if marker is None:
        return {}
    share = marker.args[0] if len(marker.args) == 1 else None
    if not isinstance(share, int | float) or not 0 < share < WIDEST_THRESHOLD:
        raise pytest.UsageError(
            f"{item.nodeid}: threshold takes one share between 0 and {WIDEST_THRESHOLD}, such as 0.2"
        )
    return {"threshold": float(share)}


@functools.cache  # once a session: somebody may edit a file while its cells are measured
def _hash_file(path: Path) -> bytes:
    return hashlib.sha256(path.read_bytes()).digest()
