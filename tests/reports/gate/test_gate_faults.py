"""The gate finds real faults: each test puts one into the working tree of a small repository, and runs the command."""

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.repositories import commit_all
from tests.support.suite import ROOT, clean_environment, copy_suite

pytest.importorskip("scipy", reason="SciPy is not installed: python -m pip install -e '.[test]'")

DECODED, FILES = "test_read_epoch_decoded[npy-10-encoded-1]", "test_read_many[npy-10-encoded]"
DECODE = (
    "            out[number] = decode_scaled(files[number], size, max_pixels=max_pixels, losses=losses, view=view)\n"
)
NPY_READ = "        take_rows(self._images, positions, images)\n"
NPY_WRITE = "        file.write(header.getvalue())  # last, so that an incomplete file isn't one of NumPy's format\n"
FAULTS = {  # a changed file, what is changed, the cell that gets slower, and an affected one that doesn't
    "an LMDB commit an image": (
        "_lmdb.py",
        "        for numbers in cut_batches(records.offsets, TRANSACTION):\n",
        "        for numbers in cut_batches(records.offsets, 1):\n",
        "test_store_many[lmdb-100]",
        "test_read_many[lmdb-100]",
    ),
    "a PNG decoded twice": (
        "png.py",
        "    if pixels is not None:\n",
        '    if pixels is not None:\n        Pillow.frombytes("RGB", size, pixels, "zip", "RGB")\n',
        "test_read_many[png-10]",
        "test_read_many[png_stored-10]",
    ),
    "a redundant copy": (
        "hdf5.py",
        "        read_result(store, opened.descriptor, opened.offset + start * size, rows)\n    elif",
        "        rows[...] = h5py.Dataset(opened.dataset)[start : start + len(rows)]\n    elif",
        "test_read_many[hdf5-1000]",
        "test_store_many[hdf5-1000]",
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
        "test_store_many[png_stored-1000]",
    ),
    "a garbage collection per batch": (
        "npy.py",
        NPY_READ,
        f"        import gc\n        gc.collect()\n{NPY_READ}",
        "test_read_epoch[npy-1000]",
        "test_read_many[npy-1000]",
    ),
    "labels as Python ints": (
        "npy.py",
        "        return images, self._labels[positions].astype(np.int64, copy=False)\n",
        "        return images, np.array([int(self._labels[position]) for position in positions], np.int64)\n",
        "test_read_epoch[npy-1000]",
        "test_read_many[npy-1000]",
    ),
    "a store reopened per batch": (
        "npy.py",
        NPY_READ,
        f"        NpyReader(self.store).close()\n{NPY_READ}",
        "test_read_epoch[npy-1000]",
        "test_read_many[npy-1000]",
    ),
    "indices sorted twice": (
        "npy.py",
        NPY_READ,
        f"        for _ in range(2):\n            sorted(positions, key=lambda position: int(position))\n{NPY_READ}",
        "test_read_epoch[npy-1000]",
        "test_read_many[npy-1000]",
    ),
    "different compression": (
        "png.py",
        "compress_level=compress_level, compress_type=zlib.Z_RLE)",
        "compress_level=6)",
        "test_store_many[png-10]",
        "test_store_many[png_stored-10]",
    ),
    "a scan before a single read": (
        "lmdb.py",
        "        position = check_index(store, index, layout.images)\n",
        "        sum(1 for _ in transaction.cursor())\n        position = check_index(store, index, layout.images)\n",
        "test_read_single[lmdb-1000]",
        "test_read_many[lmdb-1000]",
    ),
}


def run_gate(folder: Path, *cells: str) -> tuple[int, str, Mapping[str, Any]]:
    """Run the gate on these cells; return its exit code, its summary and its JSON."""
    cutoffs = ",".join(sorted({cell.partition("-")[2].partition("-")[0].rstrip("]") for cell in cells}))
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


def plant(folder: Path, name: str, before: str, after: str) -> Path:
    """Make a repository of the suite with a fault in the working tree."""
    suite = copy_suite(folder / "suite")
    commit_all(suite)
    path = suite / "storage" / name
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace(before, after), encoding="utf-8")
    return suite


def test_each_fault_has_its_place_in_the_code() -> None:
    places = [(f"backends/{name}", before) for name, before, *_ in FAULTS.values()]
    for name, before in [*places, ("backends/npy.py", NPY_WRITE), ("decoding.py", DECODE)]:
        text = (ROOT / "storage" / name).read_text(encoding="utf-8")
        assert text.count(before) == 1, f"{name} has changed: adapt this test to it"


@pytest.mark.slow
@pytest.mark.parametrize(("name", "before", "after", "slower", "other"), FAULTS.values(), ids=FAULTS)
def test_a_real_fault_is_found_and_named(
    name: str, before: str, after: str, slower: str, other: str, tmp_path: Path
) -> None:
    folder = plant(tmp_path, f"backends/{name}", before, after)
    code, summary, document = run_gate(folder, slower, other)
    assert code == 1, summary
    verdicts = {each["cell"].partition("::")[2]: each["verdict"] for each in document["outcome"]["verdicts"]}
    assert verdicts.keys() == {slower, other}
    assert [cell for cell, verdict in verdicts.items() if verdict == "regression"] == [slower], summary
    assert summary.startswith("## Gate: 1 regression")


@pytest.mark.slow
def test_a_sync_in_a_buffered_store_is_found_and_named(tmp_path: Path) -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    folder = plant(tmp_path, "backends/npy.py", NPY_WRITE, f"{NPY_WRITE}        os.fsync(file.fileno())\n")
    code, summary, document = run_gate(folder, "test_read_many[npy-10]", "test_read_epoch[npy-10]")
    assert code == 1, summary
    assert "regression" not in {each["verdict"] for each in document["outcome"]["verdicts"]}
    assert "- regression: store_many[npy] syncs 2 times, 0 in the baseline" in summary
    syncs = {each["operation"]: (each["base"], each["new"]) for each in document["outcome"]["syncs"]}
    names = ("durable save", "save", "store_many", "store_single")
    files = {"npy": 2, "npy-encoded": 3}  # that a store consists of
    expected = {f"{name}[{title}]": count for name in names for title, count in files.items()}
    assert {name: new - base for name, (base, new) in syncs.items()} == expected


@pytest.mark.slow
def test_without_a_fault_none_is_found(tmp_path: Path) -> None:
    folder = copy_suite(tmp_path / "suite")
    commit_all(folder)
    path = folder / "storage" / "backends" / "npy.py"
    path.write_text(f"{path.read_text(encoding='utf-8')}\n\nUNUSED = 1\n", encoding="utf-8")
    code, summary, document = run_gate(folder, "test_read_many[npy-100]", "test_store_many[npy-100]")
    assert code == 0, summary
    assert len(document["outcome"]["verdicts"]) == 2
    assert "the change can affect npy" in summary


@pytest.mark.slow
@pytest.mark.parametrize("fault", [DECODE, ""], ids=["every photo decoded twice", "no fault"])
def test_a_fault_in_decoding_is_found_in_cells_of_photos_without_being_asked_for_them(
    fault: str, tmp_path: Path
) -> None:
    folder = plant(tmp_path, "decoding.py", DECODE, f"{fault}{DECODE}            UNUSED = 1\n")
    code, summary, document = run_gate(folder, DECODED, FILES)
    verdicts = {each["cell"].partition("::")[2]: each["verdict"] for each in document["outcome"]["verdicts"]}
    assert verdicts.keys() == {DECODED, FILES}
    assert [cell for cell, verdict in verdicts.items() if verdict == "regression"] == [DECODED] * bool(fault), summary
    assert code == int(bool(fault))
    assert "only cells of image files are measured: storage.decoding can handle them" in summary
