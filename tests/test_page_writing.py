"""Writing a page: runs are read once, and the page is there as a whole or not at all."""

import errno
import os
import threading
from pathlib import Path

import pytest

from reports.page.command import write_page
from reports.results import BrokenRunError
from tests.pages import Element, check_soundness, read_page, unpack
from tests.runs import make_run, save

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


@pytest.mark.parametrize("method", ["write_text", "replace"])
def test_nothing_half_written_is_left_where_writing_fails(
    method: str, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = run.with_name("report.html")
    out.write_text(OLD, encoding="utf-8")
    write = Path.write_text

    def fail(path: Path, *arguments: object, **_: object) -> None:
        if method == "write_text":
            write(path, str(arguments[0])[:100])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(Path, method, fail)
    with pytest.raises(OSError, match="No space left on device") as failed:
        write_page([run], None, out)
    assert failed.value.filename == str(out), "the part means nothing to anybody"
    assert out.read_text(encoding="utf-8") == OLD
    assert {path.name for path in run.parent.iterdir()} == {"run.json", "report.html"}
