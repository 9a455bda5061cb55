"""`python -m reports page`: which run it shows, and what it refuses."""

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from reports.__main__ import main
from reports.text import format_time
from tests.support.pages import Element, check_soundness, read_page, read_table, unpack
from tests.support.runs import find_cell, make_run, save, slow_down
from tests.support.suite import ROOT

OLD = "<!doctype html>old"


def _save(folder: Path, name: str, date: str = "2026-11-21T06:39:47+00:00", factor: float = 1, **machine: str) -> Path:
    """Save a run of a date, so many times slower in one of its cells, and on another machine."""
    document = make_run(["png", "lmdb", "hdf5"], [10, 1000])
    slow_down(document, "test_read_many[png-1000]", factor)
    document["datetime"] = date
    document["machine_info"] |= machine
    path = folder / name
    path.write_text(json.dumps(document), encoding="ascii")
    return path


def _make_page(*arguments: object) -> Element:
    """Make a page by the command, and read it; the last argument is its place."""
    *others, out = map(str, arguments)
    assert main(["page", *others, "--out", out]) == 0
    page = read_page(Path(out).read_text(encoding="utf-8"))
    check_soundness(page)
    return page


def _refuse(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Make a page that must be refused, and return the one line that says why."""
    assert main(["page", *map(str, arguments)]) == 2
    printed, complaint = capsys.readouterr()
    assert printed == ""
    assert complaint.startswith("error: ")
    assert complaint.count("\n") == 1
    return complaint


def _history(page: Element) -> list[list[str]]:
    (section,) = page.find("section", id="history")
    tables = [read_table(table) for table in section.find("table")]
    return [tables[0][0], *(row for _, *rows in tables for row in rows)]


def test_the_command_says_where_the_page_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, out = _save(tmp_path, "run.json"), tmp_path / "report.html"
    page = _make_page(run, out)
    assert capsys.readouterr() == (f"{out}\n", "")
    assert unpack(page, "json") == run.read_bytes()
    assert not list(page.find("section", id="base"))
    assert not list(page.find("section", id="history"))


def test_nothing_but_the_page_is_left_behind(tmp_path: Path) -> None:
    run = _save(tmp_path, "run.json")
    _make_page(run, tmp_path / "report.html")
    assert {path.name for path in tmp_path.iterdir()} == {"run.json", "report.html"}


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_the_newest_of_several_runs_is_shown_with_the_others_as_its_history(
    order: tuple[int, ...], tmp_path: Path
) -> None:
    dates = (
        "2026-11-19T23:00:00+00:00",
        "2026-11-20T01:00:00+00:00",
        "2026-11-20T00:30:00-02:00",
    )  # the last is newest
    runs = [_save(tmp_path, f"{place}.json", date, 1 + place) for place, date in enumerate(dates)]
    page = _make_page(*(runs[place] for place in order), tmp_path / "report.html")
    assert unpack(page, "json") == runs[2].read_bytes()
    head, *rows = _history(page)
    assert head[2:] == ["2026-11-19 23:00", "2026-11-20 01:00", "2026-11-20 00:30"]
    (row,) = [row for row in rows if row[0] == "test_read_many[png-1000]"]
    median = statistics.median(find_cell(make_run(), "test_read_many[png-1000]")["stats"]["data"])
    assert row[2:] == [format_time(factor * median) for factor in (1, 2, 3)]


def test_a_run_that_is_named_twice_is_shown_once(tmp_path: Path) -> None:
    run = _save(tmp_path, "run.json")
    page = _make_page(run, run, tmp_path / "report.html")
    assert not list(page.find("section", id="history"))


def test_any_date_can_be_held_against_another(tmp_path: Path) -> None:
    dates = ["0001-01-01T00:00:00", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "9999-12-31T23:59:59"]
    runs = [_save(tmp_path, f"{place}.json", date) for place, date in enumerate(dates)]
    page = _make_page(*runs, tmp_path / "report.html")
    assert _history(page)[0][2:] == ["1-01-01 00:00", "1-01-01 00:00", "9999-12-31 23:59", "9999-12-31 23:59"]
    assert unpack(page, "json") == runs[2].read_bytes()


def test_a_run_of_another_machine_is_left_out_of_the_history_with_the_reason(tmp_path: Path) -> None:
    runs = [
        _save(tmp_path, "there.json", "2026-11-19T00:00:00+00:00", release="0.99"),
        _save(tmp_path, "before.json", "2026-11-20T00:00:00+00:00"),
        _save(tmp_path, "run.json"),
    ]
    page = _make_page(*runs, tmp_path / "report.html")
    (section,) = page.find("section", id="history")
    assert [each.text for each in section.find("li")] == [
        "there.json (the base here): kernel: 0.99 in the base, 6.18.44 in the new run"
    ]
    assert len(_history(page)[0]) == 4


def test_a_base_is_compared_with_the_run(tmp_path: Path) -> None:
    base, run = _save(tmp_path, "base.json"), _save(tmp_path, "run.json", factor=10)
    page = _make_page(run, "--base", base, tmp_path / "report.html")
    (section,) = page.find("section", id="base")
    assert "1 regression" in section.text
    firsts = [read_table(table)[1] for table in section.find("table")]
    assert ("test_read_many[png-1000]", "10.0", "regression") in [(first[0], first[3], first[-1]) for first in firsts]


def test_a_base_that_cannot_be_compared_is_on_the_page_with_the_reason(tmp_path: Path) -> None:
    base, run = _save(tmp_path, "base.json", release="0.99"), _save(tmp_path, "run.json")
    page = _make_page(run, "--base", base, tmp_path / "report.html")
    (section,) = page.find("section", id="base")
    assert "The runs cannot be compared: kernel: 0.99 in the base, 6.18.44 in the new run." in section.text


@pytest.mark.parametrize("place", ["run", "base"])
@pytest.mark.parametrize("content", ["", "{", '{"benchmarks": []}', None])
def test_a_broken_run_or_base_is_exit_code_2_and_the_old_page_stays(
    place: str, content: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = {name: _save(tmp_path, f"{name}.json") for name in ("run", "base")}
    paths[place].unlink()
    if content is not None:
        paths[place].write_text(content, encoding="utf-8")
    out = tmp_path / "report.html"
    out.write_text(OLD, encoding="utf-8")
    assert str(paths[place]) in _refuse(capsys, paths["run"], "--base", paths["base"], "--out", out)
    assert out.read_text(encoding="utf-8") == OLD


def test_too_many_backends_are_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = save(make_run([f"backend{number}" for number in range(97)], [10]), tmp_path)
    assert "97 backends" in _refuse(capsys, run, "--out", tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_a_missing_folder_is_refused_with_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = _save(tmp_path, "run.json")
    assert "is no folder; make it, or name another place" in _refuse(capsys, run, "--out", tmp_path / "no" / "a.html")


def test_a_folder_is_refused_with_a_name_to_take(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = _save(tmp_path, "run.json")
    assert f"is a folder; name a file, such as {tmp_path}/report.html" in _refuse(capsys, run, "--out", tmp_path)


def test_a_device_is_not_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, device = _save(tmp_path, "run.json"), tmp_path / "device"
    os.mkfifo(device)
    assert "is no ordinary file; name another place" in _refuse(capsys, run, "--out", device)
    assert device.is_fifo()


@pytest.mark.parametrize("place", ["run", "base"])
@pytest.mark.parametrize("is_link", [False, True], ids=["itself", "through a link"])
def test_no_run_is_replaced(place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], *, is_link: bool) -> None:
    paths = {name: _save(tmp_path, f"{name}.json") for name in ("run", "base")}
    before = paths[place].read_bytes()
    out = tmp_path / "report.html" if is_link else paths[place]
    if is_link:
        out.symlink_to(paths[place])
    assert "is a run; name another file" in _refuse(capsys, paths["run"], "--base", paths["base"], "--out", out)
    assert paths[place].read_bytes() == before


@pytest.mark.parametrize("content", ['{"a": 1}', "text", "<!doctype", " <!doctype html>", "\ufeff<!doctype html>"])
def test_a_file_that_is_no_page_is_not_replaced(
    content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, out = _save(tmp_path, "run.json"), tmp_path / "notes"
    out.write_text(content, encoding="utf-8")
    assert _refuse(capsys, run, "--out", out) == f"error: {out} is no page of before: name another file\n"
    assert out.read_text(encoding="utf-8") == content


@pytest.mark.parametrize(
    "content", ["", "<!doctype html>", "<!DOCTYPE HTML>\n<html>"], ids=["empty", "page", "capitals"]
)
def test_an_empty_file_or_a_page_is_replaced(content: str, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    out.write_text(content, encoding="utf-8")
    assert list(_make_page(_save(tmp_path, "run.json"), out).find("section", id="run"))


def test_a_pattern_of_the_shell_does_not_cost_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = (_save(tmp_path, name) for name in ("1.json", "2.json"))
    before = first.read_bytes()
    assert "1.json is no page of before" in _refuse(capsys, "--out", first, second)
    assert first.read_bytes() == before


def test_a_folder_that_takes_no_files_is_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = _save(tmp_path, "run.json")
    folder = Path("/proc/self") if os.geteuid() == 0 else tmp_path / "locked"  # where not even root can write
    if os.geteuid():
        folder.mkdir(mode=0o500)
    assert f"{folder / 'report.html'} cannot be written (" in _refuse(capsys, run, "--out", folder / "report.html")


@pytest.mark.parametrize("arguments", [[], ["run.json"], ["--out", "report.html"]], ids=["none", "no place", "no run"])
def test_wrong_usage_is_exit_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["page", *arguments])
    assert stopped.value.code == 2
    assert "usage: python -m reports page" in capsys.readouterr().err


def test_other_commands_need_no_jinja2(tmp_path: Path) -> None:
    program = "import sys; from reports.__main__ import main; main(sys.argv[1:]); assert 'jinja2' not in sys.modules"
    command = [sys.executable, "-c", program, "table", str(_save(tmp_path, "run.json"))]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


def test_the_page_can_be_made_anew_in_its_place(tmp_path: Path) -> None:
    out, first = tmp_path / "report.html", _save(tmp_path, "first.json")
    _make_page(first, out)
    document: dict[str, Any] = json.loads(first.read_text(encoding="utf-8"))
    find_cell(document, "test_read_many[png-1000]")["stats"]["data"][:] = [1.0] * 5
    assert "1.00 s" in _make_page(save(document, tmp_path), out).text
