"""Sessions that also measure reading with an empty page cache."""

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from reports.figures.plan import plan_figures
from reports.reading import read_run
from tests.support.backends import EXAMPLE, EXAMPLES
from tests.support.disk import need_disk
from tests.support.suite import QUICK, copy_suite, find_runs, read_last_run, run_pytest

MEASURED = EXAMPLES[:2]
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - a file system in memory is needed

Session = tuple[Path, subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Session:
    """Measure every cell that reads of two backends at one cutoff, warm and cold."""
    folder = copy_suite(tmp_path_factory.mktemp("session"))
    need_disk(folder)
    cells = "read and not spawn and not 1-fork and not open and not dataloader"  # those two have readers that are open
    chosen = ("--cutoffs=10", "--cold", "--tables", f"--backends={','.join(MEASURED)}", "-k", cells)
    return folder, run_pytest(folder, "benchmarks", *QUICK, *chosen)


@pytest.fixture(scope="module")
def cells(session: Session) -> dict[str, dict[str, Any]]:
    """Return the cells of that session by name; all of them were measured."""
    run = read_last_run(session[0])
    assert run["run"]["complete"] is True, session[1].stdout
    return {cell["name"]: cell for cell in run["benchmarks"] if cell["params"]}  # reference cells have none


def test_every_cell_that_reads_is_measured_warm_and_cold(cells: dict[str, dict[str, Any]]) -> None:
    warm = {name for name, cell in cells.items() if cell["params"]["cache"] == "warm"}
    assert cells.keys() - warm == {name.replace("]", "-cold]") for name in warm}
    for name, cell in cells.items():
        facts = cell["extra_info"]
        assert facts["cache"] == cell["params"]["cache"] == ("cold" if name.endswith("-cold]") else "warm")
        assert ("resident_share" in facts) == (facts["cache"] == "cold")
        assert facts.get("resident_share", 0) < 0.01


def test_warm_and_cold_cells_share_no_table_and_no_figure(session: Session, cells: dict[str, dict[str, Any]]) -> None:
    folder, ended = session
    assert "benchmark 'read_many      10 images':" in ended.stdout
    assert "benchmark 'read_many      10 images cold':" in ended.stdout
    report = [sys.executable, "-m", "reports", "table", str(find_runs(folder)[-1])]
    shown = subprocess.run(report, cwd=folder, capture_output=True, text=True, check=True).stdout
    assert {"### read_many (warm)", "### read_many (cold)"} <= set(shown.splitlines())
    assert shown.count("\n### ") >= len(cells) / len(MEASURED)
    stems = {figure.stem for figure in plan_figures(read_run(find_runs(folder)[-1]))}
    assert {"read_many", "read_many-cold", "read_epoch", "read_epoch-cold"} <= stems


@pytest.mark.slow
def test_cells_on_a_file_system_in_memory_fail_as_not_cold(tmp_path: Path) -> None:
    if not SHARED_MEMORY.is_dir():
        pytest.skip(f"there is no {SHARED_MEMORY}, a file system in memory")
    folder = copy_suite(tmp_path)
    with TemporaryDirectory(dir=SHARED_MEMORY) as elsewhere:
        stores = f"--basetemp={elsewhere}/stores"
        chosen = (
            "--cutoffs=10",
            "--cold",
            "--tables",
            f"--backends={EXAMPLE}",
            "-k",
            "read_many or (workers and 2-fork)",
        )
        ended = run_pytest(folder, "benchmarks", *QUICK, stores, *chosen)
    run = read_last_run(folder)["run"]
    assert ended.returncode == pytest.ExitCode.TESTS_FAILED
    assert {cell.rpartition("::")[2] for cell in run["failed"]} == {
        f"test_read_many[{EXAMPLE}-10-cold]",
        f"test_read_epoch_workers[{EXAMPLE}-10-2-fork-cold]",
    }
    assert all(reason.startswith("Failed: not cold: ") for reason in run["failed"].values())
