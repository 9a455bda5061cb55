"""The gate finds real faults: each test puts one into the working tree of a small repository, and runs the command."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.repositories import commit_all
from tests.support.suite import clean_environment, copy_suite

pytest.importorskip("scipy", reason="SciPy is not installed: python -m pip install -e '.[test]'")

pytestmark = pytest.mark.slow


FAULTS = {  # a changed file, what is changed, the cell that gets slower, and one that doesn't
    "an LMDB commit an image": (
        "_lmdb.py",
        "        for numbers in cut_batches(records.offsets, TRANSACTION):\n",
        "        for numbers in cut_batches(records.offsets, 1):\n",
        "test_store_many[lmdb-100]",
        "test_store_many[hdf5-100]",
    ),
    "a PNG decoded twice": (
        "png.py",
        "    if pixels is not None:\n",
        '    if pixels is not None:\n        Pillow.frombytes("RGB", size, pixels, "zip", "RGB")\n',
        "test_read_many[png-10]",
        "test_read_many[png_stored-10]",
    ),
    "HDF5 read not straight into the result": (
        "hdf5.py",
        "                read_range(store, opened.descriptor, opened.offset, array)\n            elif",
        "                array[...] = h5py.Dataset(opened.dataset)[...]\n            elif",
        "test_read_many[hdf5-1000]",
        "test_read_many[lmdb-1000]",
    ),
    "labels parsed by the csv module": (
        "_png.py",
        "        line = os.pread(descriptor, length, table.start + position * length)\n",
        (
            "        import csv\n"
            "        lines = os.pread(descriptor, length * table.images, table.start).decode().splitlines()\n"
            '        line = list(csv.reader(lines))[position][0].encode() + b"\\n"\n'
        ),
        "test_read_single[png_stored-1000]",
        "test_read_single[hdf5-1000]",
    ),
}


def run_gate(folder: Path, *cells: str) -> tuple[int, str, Mapping[str, Any]]:
    """Run the gate on these cells; return its exit code, its summary and its JSON."""
    cutoffs = ",".join(sorted({cell.rpartition("-")[2].rstrip("]") for cell in cells}))
    options = ["--cells", " or ".join(cells), f"--cutoffs={cutoffs}", "--json=gate.json"]
    ended = subprocess.run(
        [sys.executable, "-m", "reports", "gate", "HEAD", *options],
        cwd=folder,
        env=clean_environment(GITHUB_ACTIONS=""),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert ended.stderr == ""
    return ended.returncode, ended.stdout, json.loads((folder / "gate.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(("name", "before", "after", "slower", "other"), FAULTS.values(), ids=FAULTS)
def test_a_real_fault_is_found_and_named(
    name: str, before: str, after: str, slower: str, other: str, tmp_path: Path
) -> None:
    folder = copy_suite(tmp_path / "suite")
    commit_all(folder)
    path = folder / "storage" / "backends" / name
    text = path.read_text(encoding="utf-8")
    assert text.count(before) == 1, f"{name} has changed: adapt this test"
    path.write_text(text.replace(before, after), encoding="utf-8")
    code, summary, document = run_gate(folder, slower, other)
    assert code == 1, summary
    verdicts = {each["cell"].partition("::")[2]: each["verdict"] for each in document["outcome"]["verdicts"]}
    assert verdicts.keys() == {slower, other}
    assert [cell for cell, verdict in verdicts.items() if verdict == "regression"] == [slower], summary
    assert summary.startswith("## Gate: 1 regression")


def test_without_a_fault_none_is_found(tmp_path: Path) -> None:
    folder = copy_suite(tmp_path / "suite")
    commit_all(folder)
    code, summary, document = run_gate(folder, "test_read_many[hdf5-100]", "test_store_many[lmdb-100]")
    assert code == 0, summary
    assert len(document["outcome"]["verdicts"]) == 2
    assert "storage/ is the same in both" in summary
