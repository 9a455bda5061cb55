"""`python -m reports gate`, end to end on a small repository: real sessions, few cells."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from reports.__main__ import main
from reports.gate import command, decision
from tests.support.backends import need_backend
from tests.support.repositories import commit_all
from tests.support.sessions import READ
from tests.support.suite import ROOT, copy_suite

pytest.importorskip("scipy", reason="SciPy is not installed: python -m pip install -e '.[test]'")


@pytest.fixture
def suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a repository of the suite, and have the gate screen it with two pairs, which show some scatter."""
    folder = copy_suite(tmp_path / "suite")
    commit_all(folder)
    monkeypatch.setattr(command, "PROJECT", folder)
    monkeypatch.setattr(decision, "SCREEN_PAIRS", 2)
    monkeypatch.setenv("CIFAR10", "standin")
    for name in ("GITHUB_ACTIONS", "IMAGES"):
        monkeypatch.delenv(name, raising=False)
    return folder


def run_gate(suite: Path, *options: str) -> tuple[int, Mapping[str, Any]]:
    """Run a gate without time to confirm; return its exit code and what it found."""
    path = suite.parent / "gate.json"
    code = main(["gate", "HEAD", "--budget=1e-9", "--cutoffs=10", f"--json={path}", *options])
    outcome: Mapping[str, Any] = json.loads(path.read_text())["outcome"]
    return code, outcome


@pytest.mark.slow
@need_backend("hdf5")
def test_a_cell_that_raises_on_one_side_is_named_with_its_reason(suite: Path) -> None:
    path = suite / "storage" / "backends" / "hdf5.py"
    path.write_text(path.read_text() + '\n\ndef read_many(*_: object) -> None:\n    raise OSError("disk")\n')
    code, outcome = run_gate(suite, "--cells", "read_many[hdf5-10] or read_epoch[hdf5-10]")
    assert code == 3
    assert outcome["absent"] == {READ: "candidate: OSError: disk"}
    assert [each["cell"] for each in outcome["verdicts"]] == ["benchmarks/test_epoch.py::test_read_epoch[hdf5-10]"]


@need_backend("hdf5")
@pytest.mark.slow
def test_the_cells_of_a_backend_that_was_deleted_are_missing(suite: Path) -> None:
    (suite / "storage" / "backends" / "hdf5.py").unlink()
    code, outcome = run_gate(suite, "--cells", "read_many[hdf5-10] or read_many[png_stored-10]")
    assert code == 1
    assert outcome["missing"] == [READ]
    assert [each["cell"] for each in outcome["verdicts"]] == [READ.replace("hdf5", "png_stored")]
    code, outcome = run_gate(suite, "--cells", "read_many[hdf5-10] or read_many[png_stored-10]", "--missing=warn")
    assert code == 0
    assert outcome["missing"] == [READ]


def write_entry_point(folder: Path, name: str, module: str) -> None:
    """Write what an installed distribution with a backend leaves in a folder of Python's path."""
    (folder / "reel-1.0.dist-info").mkdir(parents=True)
    (folder / "reel-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: reel\nVersion: 1.0\n")
    text = f"[image_storage.backends]\n{name} = {module}\n"
    (folder / "reel-1.0.dist-info" / "entry_points.txt").write_text(text)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["reel.bench", "tape"], ids=["a dotted name", "an entry point"])
def test_the_backends_of_another_repository_are_compared(
    name: str, suite: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if name == "tape":
        write_entry_point(suite.parent / "site", name, "reel.bench")
        monkeypatch.setenv("PYTHONPATH", str(suite.parent / "site"))
    other = suite.parent / "other"
    (other / "reel").mkdir(parents=True)
    content = (ROOT / "tests" / "support" / "raw_backend.py").read_text()
    (other / "reel" / "bench.py").write_text(content)
    commit_all(other)
    (other / "reel" / "bench.py").write_text(f"{content}\n\ndef read_many(*_):\n    raise OSError(__file__)\n")
    options = [f"--package={other}/reel", f"--backends={name}", "--cells=test_many", "--all"]
    code, outcome = run_gate(suite, *options)
    assert code == 3, capsys.readouterr()
    cells = [f"benchmarks/test_many.py::test_{operation}_many[{name}-10]" for operation in ("store", "read")]
    assert list(outcome["absent"]) == cells, "storing is verified by reading"
    assert all(reason.endswith("/new/reel/bench.py") for reason in outcome["absent"].values())


@pytest.mark.slow
def test_cells_of_image_files_are_new_if_the_older_storage_has_none(suite: Path) -> None:
    init = suite / "storage" / "__init__.py"
    text = init.read_text()
    init.write_text(f"{text}\ndel Encoded\n")
    commit_all(suite)
    init.write_text(text)
    options = [
        "--cells",
        "test_many or decoded",
        "--images=standin",
        "--payloads=encoded",
        "--backends=npy",
        "--cutoffs=2",
    ]
    code, outcome = run_gate(suite, *options)
    assert code == 0
    assert (outcome["verdicts"], outcome["missing"], outcome["absent"]) == ([], [], {})
    names = [cell.partition("::")[2] for cell in outcome["new"]]
    assert names[-2:] == ["test_read_many[npy-2-encoded]", "test_store_many[npy-2-encoded]"]
    assert names[0] == "test_read_epoch_decoded[npy-2-encoded-1]"


@pytest.mark.slow
def test_the_cells_of_a_new_backend_are_new(suite: Path) -> None:
    backends = suite / "storage" / "backends"
    shutil.copy(backends / "png_stored.py", backends / "png_other.py")
    code, outcome = run_gate(suite, "--cells", "read_many and (png_other or png_stored)")
    assert code == 0
    assert outcome["new"] == [READ.replace("hdf5", "png_other")]
