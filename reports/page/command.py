"""The subcommand `page`: its options, and writing the file."""

import argparse
import datetime as dt
import os
from collections.abc import Collection, Sequence
from pathlib import Path

from reports.cli import print_names
from reports.compare.comparison import ALLOWED
from reports.errors import WrongInputError
from reports.files import replace_file
from reports.reading import parse_run, read_content
from reports.run import Run

_START = b"<!doctype html>"  # of each page, in lower case


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the subcommand."""
    parser.add_argument(
        "runs",
        type=Path,
        nargs="+",
        metavar="RUN.json",
        help="the run; of several runs the page shows the newest, with the others as its history",
    )
    parser.add_argument("--base", type=Path, metavar="OTHER.json", help="a run to compare with")
    parser.add_argument("--allow", choices=ALLOWED, action="append", default=[], help="compare although these differ")
    parser.add_argument("--out", type=Path, required=True, metavar="REPORT.html", help="the file to write or replace")


def show_page(options: argparse.Namespace) -> int:
    """Write the page and print its path."""
    if options.allow and not options.base:
        raise WrongInputError("--allow is about runs that are compared; name one with --base")
    write_page(options.runs, options.base, options.out, options.allow)
    print_names(options.out)
    return 0


def check_place(out: Path, inputs: Sequence[Path] = ()) -> None:
    """Check that a page can be written to `out` without replacing anything but a page, or raise `WrongInputError`."""
    if out.is_dir():
        raise WrongInputError(f"{out} is a folder; name a file, such as {out / 'report.html'}")
    if out.exists() and not out.is_file():
        raise WrongInputError(f"{out} isn't an ordinary file; name another place")
    if not out.absolute().parent.is_dir():
        raise WrongInputError(f"{out.parent} isn't a folder; make it, or name another place")
    if os.path.realpath(out) in [os.path.realpath(path) for path in inputs]:
        raise WrongInputError(f"{out} is a run; name another file for the page")
    if out.exists() and not _may_replace(out):
        raise WrongInputError(f"{out} isn't an earlier page; name another file")


def _may_replace(out: Path) -> bool:
    """Return whether a file is empty or a page: `page --out *.json` must not overwrite a run."""
    with out.open("rb") as file:
        start = file.read(len(_START))
    return start.lower() in {b"", _START}


def write_page(paths: Sequence[Path], base: Path | None, out: Path, allow: Collection[str] = ()) -> None:
    """Write the page of the newest of some runs atomically; if it fails, an earlier page stays.

    Differences from the base that `allow` names don't prevent the comparison.
    """
    from reports.page.document import make_page  # noqa: PLC0415 - other commands don't need jinja2

    inputs = dict.fromkeys([*paths, *([base] if base else [])])
    check_place(out, list(inputs))
    contents = {path: read_content(path) for path in inputs}  # each once: it may be a pipe
    runs = sorted((parse_run(path, contents[path]) for path in dict.fromkeys(paths)), key=_date)
    page = make_page(runs, contents[runs[-1].path], parse_run(base, contents[base]) if base else None, allow)
    replace_file(out, page)


def _date(run: Run) -> dt.datetime:
    """Return a run's date; without a time zone it counts as UTC."""
    return run.datetime if run.datetime.tzinfo else run.datetime.replace(tzinfo=dt.UTC)
