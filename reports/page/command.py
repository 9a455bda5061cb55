"""`python -m reports page`: its options, and the file that it writes."""

import argparse
import datetime as dt
import os
import secrets
from collections.abc import Sequence
from pathlib import Path

from reports.cli import print_text
from reports.errors import WrongInputError
from reports.reading import parse_run, read_content
from reports.run import Run

_START = b"<!doctype html>"  # of each page, in small letters


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the subcommand `page`."""
    parser.add_argument(
        "runs", type=Path, nargs="+", metavar="RUN.json", help="the run; of several the newest, the others its history"
    )
    parser.add_argument("--base", type=Path, metavar="OTHER.json", help="a run that this one is compared with")
    parser.add_argument("--out", type=Path, required=True, metavar="REPORT.html", help="the file to write or replace")


def show_page(options: argparse.Namespace) -> int:
    """Write the page and say where it is."""
    write_page(options.runs, options.base, options.out)
    print_text(f"{options.out}\n")
    return 0


def check_place(out: Path, inputs: Sequence[Path] = ()) -> None:
    """Check that a page can be written, before anything is measured or read.

    Raises
    ------
    WrongInputError
        It would replace a folder, a device, a run or another file that is no page, or its folder is not there.
    OSError
        What is there cannot be read.
    """
    if out.is_dir():
        raise WrongInputError(f"{out} is a folder; name a file, such as {out / 'report.html'}")
    if out.exists() and not out.is_file():
        raise WrongInputError(f"{out} is no ordinary file; name another place")
    if not out.absolute().parent.is_dir():
        raise WrongInputError(f"{out.parent} is no folder; make it, or name another place")
    if os.path.realpath(out) in [os.path.realpath(path) for path in inputs]:
        raise WrongInputError(f"{out} is a run; name another file for the page")
    if out.exists() and not _may_replace(out):
        raise WrongInputError(f"{out} is no page of before: name another file")


def _may_replace(out: Path) -> bool:
    """Tell whether a file is empty or a page: a slip of the hand must not cost a run, `page --out *.json`."""
    with out.open("rb") as file:
        start = file.read(len(_START))
    return start.lower() in {b"", _START}


def write_page(paths: Sequence[Path], base: Path | None, out: Path) -> None:
    """Write the page of the newest of some runs; it is there as a whole or not at all.

    Raises
    ------
    BrokenRunError, WrongInputError, OSError
        A run cannot be used, or the page not be written; what was there before stays.
    """
    from reports.page.document import make_page  # noqa: PLC0415 - other commands need no jinja2

    inputs = dict.fromkeys([*paths, *([base] if base else [])])
    check_place(out, list(inputs))
    contents = {path: read_content(path) for path in inputs}  # each once: it may be a pipe
    runs = sorted((parse_run(path, contents[path]) for path in dict.fromkeys(paths)), key=_date)
    page = make_page(runs, contents[runs[-1].path], parse_run(base, contents[base]) if base else None)
    try:
        _replace_file(Path(os.path.realpath(out)), page)  # a symbolic link stays one
    except OSError as problem:
        raise OSError(problem.errno, problem.strerror, str(out)) from problem  # the part means nothing to anybody


def _replace_file(place: Path, page: str) -> None:
    part = place.with_name(f".{secrets.token_hex(8)}.part")  # nobody can put a link there before
    with part.open("x", encoding="utf-8") as file:
        try:
            file.write(page)
            file.close()  # what is still to be written may find the disk full
            part.replace(place)
        finally:
            part.unlink(missing_ok=True)


def _date(run: Run) -> dt.datetime:
    """Date a run so that it can be held against others: without a time zone, as if in UTC."""
    return run.datetime if run.datetime.tzinfo else run.datetime.replace(tzinfo=dt.UTC)
