"""`python -m reports page`: the run it shows, the files it refuses, and writing atomically."""

import errno
import json
import os
import re
import secrets
import shlex
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

from reports.__main__ import main
from reports.page.command import write_page
from reports.text import format_time
from tests.support.pages import Element, check_soundness, read_page, read_table, unpack
from tests.support.runs import find_cell, make_run, save, slow_down
from tests.support.suite import ROOT

OLD = "<!doctype html>old"


def _save(folder: Path, name: str, date: str = "2026-11-21T06:39:47+00:00", factor: float = 1) -> Path:
    """Save a run of a date, so many times slower in one of its cells."""
    document = make_run(["png", "lmdb", "hdf5"], [10, 1000]) | {"datetime": date}
    slow_down(document, "test_read_many[png-1000]", factor)
    path = folder / name
    path.write_text(json.dumps(document), encoding="ascii")
    return path


def _make_page(*arguments: object) -> Element:
    """Make a page by the command, and read it; the last argument is its path."""
    *others, out = map(str, arguments)
    assert main(["page", *others, "--out", out]) == 0
    return _read(Path(out))


def _read(path: Path) -> Element:
    page = read_page(path.read_text(encoding="utf-8"))
    check_soundness(page)
    return page


def _refuse(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Return the one line of the error that the command must print."""
    assert main(["page", *map(str, arguments)]) == 2
    printed, complaint = capsys.readouterr()
    assert (printed, complaint[:7], complaint.count("\n")) == ("", "error: ", 1)
    return complaint


def _history(page: Element) -> list[list[str]]:
    (section,) = page.find("section", id="history")
    tables = [read_table(table) for table in section.find("table")]
    return [tables[0][0], *(row for _, *rows in tables for row in rows)]


def test_the_command_prints_the_path_of_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, out = _save(tmp_path, "run.json"), tmp_path / "report.html"
    page = _make_page(run, out)
    assert capsys.readouterr() == (f"{out}\n", "")
    assert unpack(page, "json") == run.read_bytes()
    assert not list(page.find("section", id="base"))
    assert not list(_make_page(run, run, out).find("section", id="history")), "a run that is named twice counts once"
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


def test_all_dates_can_be_compared(tmp_path: Path) -> None:
    dates = ["0001-01-01T00:00:00", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "9999-12-31T23:59:59"]
    runs = [_save(tmp_path, f"{place}.json", date) for place, date in enumerate(dates)]
    page = _make_page(*runs, tmp_path / "report.html")
    assert _history(page)[0][2:] == ["1-01-01 00:00", "1-01-01 00:00", "9999-12-31 23:59", "9999-12-31 23:59"]
    assert unpack(page, "json") == runs[2].read_bytes()


def test_a_base_is_compared_with_the_run(tmp_path: Path) -> None:
    base, run = _save(tmp_path, "base.json"), _save(tmp_path, "run.json", factor=10)
    (section,) = _make_page(run, "--base", base, tmp_path / "report.html").find("section", id="base")
    assert "1 regression" in section.text


def test_a_base_with_other_libraries_is_compared_if_they_are_allowed_and_each_verdict_says_so(tmp_path: Path) -> None:
    base, run = _save(tmp_path, "base.json"), _save(tmp_path, "run.json", factor=10)
    run.write_text(run.read_text(encoding="ascii").replace('"numpy": "2.4.6"', '"numpy": "3.0"'), encoding="ascii")
    out = tmp_path / "report.html"
    (section,) = _make_page(run, "--base", base, out).find("section", id="base")
    assert "The runs cannot be compared: version of numpy: 2.4.6 in the base, 3.0 in the new run." in section.text
    (section,) = _make_page(run, "--base", base, "--allow=libraries", out).find("section", id="base")
    assert "Other libraries: version of numpy: 2.4.6 in the base, 3.0 in the new run." in section.text
    rows = [row for table in section.find("table") for row in read_table(table)[1:]]
    assert rows
    assert all(row[-1].endswith(" (other libraries)") for row in rows)


def test_what_is_allowed_without_a_base_is_wrong_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "report.html"
    assert "name one with --base" in _refuse(capsys, _save(tmp_path, "run.json"), "--allow=libraries", "--out", out)
    assert not out.exists()


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


_OTHER_FILES = ('{"a": 1}', "text", "<!doctype", " <!doctype html>", "\ufeff<!doctype html>")


@pytest.mark.parametrize(
    ("out", "words"),
    [
        ("no/a.html", "isn't a folder; make it, or name another place"),
        ("", "is a folder; name a file, such as"),
        ("pipe", "isn't an ordinary file; name another place"),
        *((name, "is a run; name another file") for name in ("run.json", "base.json", "link")),
        *((str(place), "isn't an earlier page; name another file") for place in range(len(_OTHER_FILES))),
    ],
)
def test_nothing_but_a_page_is_replaced(
    out: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, base = _save(tmp_path, "run.json"), _save(tmp_path, "base.json")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(base)
    for place, content in enumerate(_OTHER_FILES):
        (tmp_path / str(place)).write_text(content, encoding="utf-8")
    before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    assert words in _refuse(capsys, run, "--base", base, "--out", tmp_path / out)
    assert {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before
    assert (tmp_path / "pipe").is_fifo()


@pytest.mark.parametrize("content", ["", "<!doctype html>", "<!DOCTYPE HTML>\n<html>"])
def test_an_empty_file_or_a_page_is_replaced(content: str, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    out.write_text(content, encoding="utf-8")
    assert list(_make_page(_save(tmp_path, "run.json"), out).find("section", id="run"))


def test_other_commands_do_not_import_jinja2(tmp_path: Path) -> None:
    program = "import sys; from reports.__main__ import main; main(sys.argv[1:]); assert 'jinja2' not in sys.modules"
    command = [sys.executable, "-c", program, "table", str(_save(tmp_path, "run.json"))]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Save a small run."""
    return save(make_run(["png"], [10]), tmp_path)


@pytest.mark.parametrize("is_base", [False, True], ids=["run", "run and base"])
def test_a_run_may_come_from_a_pipe_of_the_shell(run: Path, *, is_base: bool) -> None:
    content, out, (reading, writing) = run.read_bytes(), run.with_name("report.html"), os.pipe()
    pipe = Path(f"/dev/fd/{reading}")  # as of `<(cat run.json)`
    with os.fdopen(writing, "wb") as end:
        end.write(content)
    with os.fdopen(reading):
        write_page([pipe], pipe if is_base else None, out)
    page = _read(out)
    assert unpack(page, "json") == content
    assert bool(list(page.find("section", id="base"))) is is_base


def test_a_page_may_have_the_longest_possible_name(run: Path) -> None:
    out = run.with_name(f"{'ü' * 125}.html")
    write_page([run], None, out)
    _read(out)


@pytest.fixture
def out(run: Path) -> Path:
    """Write an earlier page."""
    out = run.with_name("report.html")
    out.write_text(OLD, encoding="utf-8")
    return out


def _fail_to_write(run: Path, out: Path) -> OSError:
    """Fail to write a page: nothing of it may be left, and the earlier page must stay."""
    before = set(run.parent.iterdir())
    with pytest.raises(OSError, match=re.escape(str(out))) as failed:
        write_page([run], None, out)
    assert failed.value.filename == str(out), "not the name of the part"
    assert out.read_text(encoding="utf-8") == OLD
    assert set(run.parent.iterdir()) == before
    return failed.value


def test_a_full_disk_leaves_the_old_page_and_no_part_of_the_new(run: Path, out: Path) -> None:
    words = shlex.join([sys.executable, "-B", "-m", "reports", "page", str(run), "--out", str(out)])
    command = ["bash", "-c", f"ulimit -f 20; exec {words}"]  # limits files to 20 KiB, like a disk that is almost full
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == f"error: {out} cannot be written (File too large); name another place\n"
    assert out.read_text(encoding="utf-8") == OLD
    assert sorted(path.name for path in out.parent.iterdir()) == sorted([out.name, run.name])


def test_a_disk_that_is_full_at_the_last_step_leaves_the_old_page(
    run: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path, _: Path) -> None:
        assert path.stat().st_size > 20_000, "the part is whole by then"
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(Path, "replace", fail)
    assert _fail_to_write(run, out).errno == errno.ENOSPC


def test_a_planted_link_is_neither_followed_nor_removed(run: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "token_hex", lambda _: "known")
    victim, link = run.with_name("victim"), run.with_name(".known.part")
    victim.write_text("precious", encoding="utf-8")
    link.symlink_to(victim)
    assert _fail_to_write(run, out).errno == errno.EEXIST
    assert victim.read_text(encoding="utf-8") == "precious"
    assert link.readlink() == victim
