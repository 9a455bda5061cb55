"""The peak of this process's memory."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.memory import PROCESS, note_peak
from tests.support.suite import ROOT

MEBIBYTE = 1 << 20


@pytest.fixture
def facts() -> dict[str, Any]:
    """Make what a cell knows, none of it yet; skip where the kernel says nothing of memory."""
    probe: dict[str, Any] = {}
    with note_peak(probe):
        pass
    if not probe:
        pytest.skip(f"{PROCESS}/clear_refs cannot be written here, or {PROCESS}/status lacks the peak")
    return {}


def test_memory_that_is_touched_counts(facts: dict[str, Any]) -> None:
    with note_peak(facts):
        np.ones(64 * MEBIBYTE, np.uint8)
    assert facts["peak_bytes"] == pytest.approx(64 * MEBIBYTE, abs=4 * MEBIBYTE)


REUSE = """
import numpy as np
from benchmarks.memory import note_peak

facts = {}
small = [np.ones(100_000, np.uint8) for _ in range(640)]
small.clear()
with note_peak(facts):
    small += [np.ones(100_000, np.uint8) for _ in range(640)]
print(facts["peak_bytes"])
"""


@pytest.mark.usefixtures("facts")
def test_memory_that_was_freed_before_is_not_reused_unseen() -> None:
    # In a process of its own: what a heap keeps of freed memory depends on all that ran before.
    ended = subprocess.run([sys.executable, "-c", REUSE], cwd=ROOT, capture_output=True, text=True, check=True)
    assert int(ended.stdout) == pytest.approx(64_000_000, abs=4 * MEBIBYTE)


def test_a_block_that_needs_no_memory_shows_little(facts: dict[str, Any]) -> None:
    held = np.ones(64 * MEBIBYTE, np.uint8)
    with note_peak(facts):
        assert held[7]
    assert facts["peak_bytes"] < MEBIBYTE


def test_a_peak_before_the_block_does_not_count(facts: dict[str, Any]) -> None:
    np.ones(64 * MEBIBYTE, np.uint8)
    with note_peak(facts):
        pass
    assert facts["peak_bytes"] < MEBIBYTE


@pytest.mark.parametrize("files", [{}, {"clear_refs": "", "status": "Name:\tpython\n"}], ids=["nothing", "no memory"])
def test_the_fact_is_absent_where_the_kernel_does_not_say(tmp_path: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    facts: dict[str, Any] = {}
    with note_peak(facts, process=tmp_path / "absent" if not files else tmp_path):
        pass
    assert not facts


def test_the_fact_is_absent_where_the_kernel_stops_saying(tmp_path: Path) -> None:
    (tmp_path / "clear_refs").touch()
    (tmp_path / "status").write_text("VmRSS:\t7 kB\n")
    facts: dict[str, Any] = {"peak_bytes": 7}
    with note_peak(facts, process=tmp_path):
        pass
    assert not facts, "not even that of an earlier call"
    with note_peak(facts, process=tmp_path):
        (tmp_path / "status").unlink()
    assert not facts
