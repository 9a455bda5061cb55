"""Sessions that write the page of their run."""

import re
from pathlib import Path

import pytest

from tests.support.backends import need_backend
from tests.support.pages import Element, check_soundness, read_page, unpack
from tests.support.suite import QUICK, copy_suite, find_runs, run_pytest

pytestmark = need_backend("hdf5")

SMALL = (*QUICK, "--cutoffs=10", "--backends=hdf5", "-k", "test_read_many")
WRONG = """
import shutil
shutil.rmtree("pages")
def test_read_many_wrong(benchmark, backend): assert not backend
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy the suite, and measure one cell with a page, for a base."""
    suite = copy_suite(tmp_path_factory.mktemp("suite"))
    ended = run_pytest(suite, "benchmarks", *SMALL, "--benchmark-json=base.json", "--page=first.html")
    assert ended.returncode == 0, ended.stdout
    page, saved = ended.stdout.splitlines()[-2:]
    assert page == "page written to first.html"
    assert re.fullmatch(r"run saved as reports/runs/\S+\.json", saved), "no command to make the page, since it exists"
    return suite


def _read(path: Path) -> Element:
    page = read_page(path.read_text(encoding="utf-8"))
    check_soundness(page)
    return page


def test_session_writes_the_page_of_the_run_that_it_saved(folder: Path) -> None:
    page = _read(folder / "first.html")
    assert unpack(page, "json") == find_runs(folder)[0].read_bytes()
    answers = [each.text for each in page.find("p", class_="answer")]
    assert answers == ["10 images (warm) hdf5 No other backend was measured."]
    assert not list(page.find("section", id="base"))


def test_page_of_a_compared_session_includes_the_base(folder: Path) -> None:
    ended = run_pytest(folder, "benchmarks", *SMALL, "--page=second.html", "--compare-with=base.json")
    assert "compared with base.json" in ended.stdout
    assert "page written to second.html" in ended.stdout
    (section,) = _read(folder / "second.html").find("section", id="base")
    assert "test_read_many[hdf5-10]" in section.text


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("base.json", "base.json is a run; name another file for the page"),
        ("other.json", "other.json isn't an earlier page; name another file"),
        ("own.json", "own.json is a run; name another file for the page"),
        ("W" * 300, "File name too long"),
    ],
    ids=["base", "other run", "own run", "long"],
)
def test_wrong_page_path_is_rejected_before_anything_is_measured(folder: Path, path: str, reason: str) -> None:
    runs = find_runs(folder)
    (folder / "other.json").write_bytes(runs[0].read_bytes())
    options = ("--compare-with=base.json", "--benchmark-json=own.json", f"--page={path}")
    ended = run_pytest(folder, "benchmarks", *SMALL, *options)
    assert ended.returncode == pytest.ExitCode.USAGE_ERROR
    assert ended.stderr.startswith("ERROR: page: ")
    assert reason in ended.stderr
    assert find_runs(folder) == runs
    assert not (folder / "own.json").exists()
    assert (folder / "other.json").read_bytes() == runs[0].read_bytes()


def test_session_without_a_saved_run_says_that_it_has_no_page(folder: Path) -> None:
    options = [option for option in SMALL if option != "--benchmark-only"]
    ended = run_pytest(folder, "benchmarks", *options, "--benchmark-disable", "--page=none.html")
    assert ended.returncode == 3
    assert ended.stdout.splitlines()[-1] == "no page: no run was saved; measure with --benchmark-only"
    assert not (folder / "none.html").exists()


def test_failed_session_keeps_its_exit_code_if_its_page_cant_be_written(folder: Path) -> None:
    benchmark = folder / "benchmarks" / "test_wrong.py"
    benchmark.write_text(WRONG)
    (folder / "pages").mkdir()
    ended = run_pytest(folder, "benchmarks", *SMALL, "--page=pages/report.html")
    benchmark.unlink()
    assert ended.returncode == pytest.ExitCode.TESTS_FAILED
    page, saved = ended.stdout.splitlines()[-2:]
    assert page.startswith("no page: pages isn't a folder")
    assert saved.startswith("INCOMPLETE run saved as ")
    assert "next:" not in saved
