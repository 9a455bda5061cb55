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
import threading
from pathlib import Path

import pytest

from reports.__main__ import main
from reports.page.command import write_page
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
    assert printed == ""
    assert complaint.startswith("error: ")
    assert complaint.count("\n") == 1
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


def test_the_history_leaves_out_a_run_of_another_machine_with_the_reason(tmp_path: Path) -> None:
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


@pytest.mark.parametrize(
    ("out", "words"),
    [
        ("no/a.html", "isn't a folder; make it, or name another place"),
        ("", "is a folder; name a file, such as"),
        ("pipe", "isn't an ordinary file; name another place"),
    ],
    ids=["missing folder", "folder", "pipe"],
)
def test_a_place_for_no_file_is_refused(
    out: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert words in _refuse(capsys, _save(tmp_path, "run.json"), "--out", tmp_path / out)
    assert (tmp_path / "pipe").is_fifo()


@pytest.mark.parametrize("place", ["run", "base"])
@pytest.mark.parametrize("is_link", [False, True], ids=["itself", "through a link"])
def test_a_run_is_never_replaced(
    place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], *, is_link: bool
) -> None:
    paths = {name: _save(tmp_path, f"{name}.json") for name in ("run", "base")}
    before = paths[place].read_bytes()
    out = tmp_path / "report.html" if is_link else paths[place]
    if is_link:
        out.symlink_to(paths[place])
    assert "is a run; name another file" in _refuse(capsys, paths["run"], "--base", paths["base"], "--out", out)
    assert paths[place].read_bytes() == before


@pytest.mark.parametrize("content", ['{"a": 1}', "text", "<!doctype", " <!doctype html>", "\ufeff<!doctype html>"])
def test_a_file_that_is_not_a_page_is_not_replaced(
    content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, out = _save(tmp_path, "run.json"), tmp_path / "notes"
    out.write_text(content, encoding="utf-8")
    assert _refuse(capsys, run, "--out", out) == f"error: {out} isn't an earlier page; name another file\n"
    assert out.read_text(encoding="utf-8") == content


@pytest.mark.parametrize(
    "content", ["", "<!doctype html>", "<!DOCTYPE HTML>\n<html>"], ids=["empty", "page", "capitals"]
)
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


def _feed_pipe(content: bytes, folder: Path) -> Path:
    """Make a pipe that can be read once."""
    pipe = folder / "pipe"
    os.mkfifo(pipe)
    threading.Thread(target=pipe.write_bytes, args=[content], daemon=True).start()
    return pipe


@pytest.mark.parametrize("is_base", [False, True], ids=["run", "run and base"])
def test_a_run_may_come_from_a_pipe(run: Path, *, is_base: bool) -> None:
    content, out = run.read_bytes(), run.with_name("report.html")
    pipe = _feed_pipe(content, run.parent)
    write_page([pipe], pipe if is_base else None, out)
    page = _read(out)
    assert unpack(page, "json") == content
    assert bool(list(page.find("section", id="base"))) is is_base


def test_a_symbolic_link_stays_one(run: Path) -> None:
    public = run.with_name("public")
    public.mkdir()
    link, target = run.with_name("report.html"), public / "index.html"
    link.symlink_to(target)
    write_page([run], None, link)
    assert link.is_symlink()
    _read(target)


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
    words = shlex.join([sys.executable, "-m", "reports", "page", str(run), "--out", str(out)])
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
