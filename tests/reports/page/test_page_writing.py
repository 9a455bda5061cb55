"""Writing a page: runs are read once, and the page is there as a whole or not at all."""

import errno
import os
import re
import secrets
import shlex
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from reports.page.command import write_page
from reports.run import BrokenRunError
from tests.support.pages import Element, check_soundness, read_page, unpack
from tests.support.runs import make_run, save
from tests.support.suite import ROOT

OLD = "<!doctype html>old"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Save a small run."""
    return save(make_run(["png"], [10]), tmp_path)


def _read(path: Path) -> Element:
    page = read_page(path.read_text(encoding="utf-8"))
    check_soundness(page)
    return page


def _feed_pipe(content: bytes, folder: Path) -> Path:
    """Make a pipe that gives some bytes, once."""
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


def test_an_empty_pipe_is_refused(tmp_path: Path) -> None:
    pipe = _feed_pipe(b"", tmp_path)
    with pytest.raises(BrokenRunError) as refused:
        write_page([pipe], None, tmp_path / "report.html")
    assert str(refused.value) == f"{pipe}: the file is empty; repeat the run"


def test_a_symbolic_link_stays_one(run: Path) -> None:
    public = run.with_name("public")
    public.mkdir()
    link, target = run.with_name("report.html"), public / "index.html"
    link.symlink_to(target)
    write_page([run], None, link)
    assert link.is_symlink()
    _read(target)


def test_a_page_may_have_the_longest_name(run: Path) -> None:
    out = run.with_name(f"{'ü' * 125}.html")
    write_page([run], None, out)
    _read(out)


@pytest.fixture
def out(run: Path) -> Path:
    """Write a page of before."""
    out = run.with_name("report.html")
    out.write_text(OLD, encoding="utf-8")
    return out


def _fail_to_write(run: Path, out: Path) -> OSError:
    """Write a page that cannot be written; nothing of it may be left, and the page of before stays."""
    before = set(run.parent.iterdir())
    with pytest.raises(OSError, match=re.escape(str(out))) as failed:
        write_page([run], None, out)
    assert failed.value.filename == str(out), "the part means nothing to anybody"
    assert out.read_text(encoding="utf-8") == OLD
    assert set(run.parent.iterdir()) == before
    return failed.value


def test_a_disk_that_is_full_leaves_the_old_page_and_no_half_of_the_new(run: Path, out: Path) -> None:
    out.write_text(OLD, encoding="utf-8")
    words = shlex.join([sys.executable, "-m", "reports", "page", str(run), "--out", str(out)])
    command = [
        "bash",
        "-c",
        f"ulimit -f 20; exec {words}",
    ]  # no file grows beyond 20 KiB, as on a disk that is soon full
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == f"error: {out} cannot be written (File too large); name another place\n"
    assert out.read_text(encoding="utf-8") == OLD
    assert sorted(path.name for path in out.parent.iterdir()) == sorted([out.name, run.name])


def test_a_disk_that_is_full_when_the_page_gets_its_name_leaves_the_old_page(
    run: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path, _: Path) -> None:
        assert path.stat().st_size > 20_000, "the part is whole by then"
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(Path, "replace", fail)
    assert _fail_to_write(run, out).errno == errno.ENOSPC


def test_a_planted_link_in_the_place_of_the_part_is_neither_followed_nor_removed(
    run: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(secrets, "token_hex", lambda _: "known")
    victim, link = run.with_name("victim"), run.with_name(".known.part")
    victim.write_text("precious", encoding="utf-8")
    link.symlink_to(victim)
    assert _fail_to_write(run, out).errno == errno.EEXIST
    assert victim.read_text(encoding="utf-8") == "precious"
    assert link.readlink() == victim


def test_the_part_has_another_name_each_time(run: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names: set[str] = set()

    def fail(path: Path, _: Path) -> None:
        names.add(path.name)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(Path, "replace", fail)
    _fail_to_write(run, out)
    _fail_to_write(run, out)
    assert len(names) == 2
