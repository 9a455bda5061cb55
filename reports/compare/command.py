"""The subcommand `compare`: its options, and printing the verdicts."""

import argparse
from pathlib import Path

from reports.cli import print_error, print_text, read_fraction
from reports.compare.comparison import ALLOWED, compare_runs
from reports.compare.text import make_verdicts
from reports.noise import Thresholds
from reports.reading import read_run


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the subcommand."""
    parser.add_argument("base", type=Path, metavar="BASE.json", help="the earlier run")
    parser.add_argument("new", type=Path, metavar="NEW.json", help="the later run, on the same machine and images")
    parser.add_argument(
        "--threshold",
        type=read_fraction,
        default=Thresholds.threshold,
        metavar="FRACTION",
        help="the slowdown, as a fraction, from which a cell counts as slower (default: %(default)s)",
    )
    parser.add_argument(
        "--missing",
        choices=("fail", "warn"),
        default="fail",
        help="whether a cell that only BASE.json has is a failure (default: %(default)s)",
    )
    parser.add_argument("--allow", choices=ALLOWED, action="append", default=[], help="compare although these differ")


def show_compare(options: argparse.Namespace) -> int:
    """Print the verdicts, or why the runs can't be compared, and return the exit code."""
    comparison = compare_runs(read_run(options.base), read_run(options.new), options.threshold, options.allow)
    text = make_verdicts(comparison)
    if comparison.differences:
        print_error(text.rstrip())
    else:
        print_text(text)
    return comparison.choose_exit_code(options.missing)
