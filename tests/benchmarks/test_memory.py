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


@pytest.fixture
def facts() -> dict[str, Any]:
    """Return the empty facts of a cell; skip if the kernel says nothing about memory."""
    probe: dict[str, Any] = {}
    with note_peak(probe):
        pass
    if not probe:
        pytest.skip(f"{PROCESS}/clear_refs can't be written here, or {PROCESS}/status lacks the peak")
    return {}


def test_memory_that_is_touched_counts_but_not_what_was_used_or_held_before(facts: dict[str, Any]) -> None:
    np.ones(64 * MEBIBYTE, np.uint8)
    held = np.ones(64 * MEBIBYTE, np.uint8)
    with note_peak(facts):
        assert held[7]
    assert facts["peak_bytes"] < MEBIBYTE
    with note_peak(facts):
        np.ones(64 * MEBIBYTE, np.uint8)
    assert facts["peak_bytes"] == pytest.approx(64 * MEBIBYTE, abs=4 * MEBIBYTE)


@pytest.mark.usefixtures("facts")
def test_memory_that_was_freed_before_counts_if_it_is_reused() -> None:
    # In its own process: how much freed memory a heap keeps depends on everything that ran before.
    ended = subprocess.run([sys.executable, "-c", REUSE], cwd=ROOT, capture_output=True, text=True, check=True)
    assert int(ended.stdout) == pytest.approx(64_000_000, abs=4 * MEBIBYTE)


@pytest.mark.parametrize("files", [{}, {"clear_refs": "", "status": "Name:\tpython\n"}], ids=["nothing", "no memory"])
def test_field_is_absent_if_the_kernel_doesnt_say(tmp_path: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    facts: dict[str, Any] = {}
    with note_peak(facts, process=tmp_path if files else tmp_path / "absent"):
        pass
    assert not facts


def test_field_is_absent_if_the_kernel_stops_saying(tmp_path: Path) -> None:
    (tmp_path / "clear_refs").touch()
    (tmp_path / "status").write_text("VmRSS:\t7 kB\n")
    facts: dict[str, Any] = {"peak_bytes": 7}
    with note_peak(facts, process=tmp_path):
        (tmp_path / "status").unlink()
    assert not facts, "not even the value of an earlier call remains"
