"""`python -m reports`: output, files and errors."""

import io
import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest

from reports.__main__ import main
from reports.reading import read_run
from reports.table import make_table
from tests.support.runs import make_cell, make_run, run_of, save

_ROOT = Path(__file__).parents[2]


def _start(*arguments: object, stdout: IO[str] | int = subprocess.PIPE, **environment: str) -> subprocess.Popen[str]:
    """Start the command in another process, with pipes for its output."""
    command, environment = [sys.executable, "-m", "reports", *map(str, arguments)], os.environ | environment
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=stdout, stderr=pipe, encoding="utf-8", cwd=_ROOT, env=environment)


def _fail(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Run a command that must fail with one line; return the line."""
    assert main([*map(str, arguments)]) == 2
    printed, complaint = capsys.readouterr()
    assert (printed, complaint.count("\n")) == ("", 1)
    return complaint


def test_figures_prints_the_path_of_each_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = save(run_of([make_cell("read_epoch", "png", 10)]), tmp_path)
    out = tmp_path / "new" / "folder"
    assert main(["figures", str(path), "--out", str(out)]) == 0
    printed, complaints = capsys.readouterr()
    figures = [f"{stem}.{kind}" for stem in ("shuffled", "read_epoch") for kind in ("svg", "png")]
    assert printed.splitlines() == [str(out / name) for name in (*figures, "matrix-light.svg", "matrix-dark.svg")]
    assert all(Path(line).stat().st_size for line in printed.splitlines())
    assert complaints == ""


def test_a_run_without_figures_has_a_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = save(run_of([make_cell("an_unknown_one", "png", 10)]), tmp_path)
    assert main(["figures", str(path), "--out", str(tmp_path)]) == 0
    printed, complaints = capsys.readouterr()
    assert (printed, complaints[:17]) == ("", "nothing to draw: ")


def test_table_prints_markdown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = save(make_run(), tmp_path)
    assert main(["table", str(path)]) == 0
    assert capsys.readouterr() == (make_table(read_run(path)), "")


@pytest.mark.parametrize("command", [["table"], ["figures", "--out", "figures"]], ids=["table", "figures"])
@pytest.mark.parametrize("content", ["", "{", "[1]", '{"benchmarks": []}', None])
def test_a_broken_run_is_one_line_and_exit_code_2(
    command: list[str], content: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "run.json"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    assert _fail(capsys, command[0], path, *command[1:]).startswith(f"error: {path}: ")


@pytest.mark.parametrize(
    "arguments", [[], ["unknown"], ["table"], ["figures", "run.json"]], ids=["none", "unknown", "no run", "no folder"]
)
def test_wrong_usage_is_exit_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert "error: " in capsys.readouterr().err


def test_help_shows_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    assert stopped.value.code == 0
    assert "python -m reports figures RUN.json --out figures" in capsys.readouterr().out


@pytest.mark.parametrize("out", ["run.json", "run.json/figures", "taken"], ids=["a file", "below a file", "taken"])
def test_an_unwritable_place_is_one_line_and_exit_code_2(
    out: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save(run_of([make_cell("read_epoch", "png", 10)]), tmp_path)
    (tmp_path / "taken" / "read_epoch.svg").mkdir(parents=True)
    complaint = _fail(capsys, "figures", path, "--out", tmp_path / out)
    assert complaint.startswith(f"error: {tmp_path / out}")
    assert "cannot be written" in complaint


def test_a_reader_that_leaves_early_is_not_an_error(tmp_path: Path) -> None:
    path = save(make_run([f"backend{number}" for number in range(80)]), tmp_path)
    assert path.stat().st_size > 500_000, "more than a pipe holds"
    with _start("table", path) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith("## Run of ")
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 0


def test_a_closed_pipe_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(make_run(), tmp_path)
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w", encoding="utf-8") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        assert main(["table", str(path)]) == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")
def test_a_full_disk_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    with (
        Path("/dev/full").open("w", encoding="utf-8") as full,
        _start("table", save(make_run(), tmp_path), stdout=full) as process,
    ):
        complaints = process.communicate()[1]
    assert complaints == "error: output cannot be written (No space left on device); name another place\n"
    assert process.returncode == 2


def test_a_terminal_without_unicode_gets_question_marks(tmp_path: Path) -> None:
    path = save(run_of([make_cell("read_many", "日本", 10)]), tmp_path)
    with _start("table", path, PYTHONIOENCODING="ascii") as process:
        printed, complaints = process.communicate()
    assert "| ??" in printed
    assert (process.returncode, complaints) == (0, "")


def test_a_replaced_stdout_needs_no_encoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert main(["table", str(save(make_run(), tmp_path))]) == 0


def test_the_module_runs_as_a_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["reports", "table", str(tmp_path)])
    monkeypatch.delitem(sys.modules, "reports.__main__")
    with pytest.raises(SystemExit) as stopped:
        runpy.run_module("reports", run_name="__main__")
    assert stopped.value.code == 2
    assert "Is a directory" in capsys.readouterr().err


def test_reports_import_no_other_package_of_the_suite() -> None:
    program = "import sys, reports.__main__, reports.figures.drawing; print(*sys.modules)"
    modules = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=True, cwd=_ROOT, encoding="utf-8"
    ).stdout.split()
    assert "reports.run" in modules
    strangers = {"storage", "fixtures", "benchmarks", "pytest", "lmdb", "h5py", "matplotlib.pyplot"}
    assert strangers.isdisjoint(modules)
