"""The command line: `python -m reports`."""

import argparse
import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path

from reports import calibration
from reports.cli import Parser, print_error, print_names, print_text
from reports.compare import command as compare_command
from reports.errors import NotMeasurableError, WrongInputError
from reports.figures.matrix import draw_matrix
from reports.gate import command as gate_command
from reports.page import command as page_command
from reports.reading import read_run
from reports.table import make_table

BROKEN, NOT_MEASURABLE, INTERRUPTED = 2, 3, 130  # exit codes

_EXAMPLES = """\
examples:
  python -m reports table reports/runs/RUN.json
  python -m reports table RUN.json > results.md
  python -m reports figures RUN.json --out figures
  python -m reports page RUN.json --out report.html
  python -m reports compare BASE.json NEW.json
  python -m reports gate main

A run is what `pytest benchmarks --benchmark-only` saves in reports/runs.
Exit codes: 0 fine, 1 a cell is slower or missing, 2 wrong usage or a broken run, 3 not comparable or not measurable.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand and return its exit code; without `arguments`, those of the process count."""
    options = _make_parser().parse_args(arguments)
    with contextlib.suppress(AttributeError):  # a replaced stdout may have no encoding to fail with
        sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
    try:
        code: int = options.show(options)
    except (WrongInputError, NotMeasurableError) as problem:
        return _fail(str(problem), BROKEN if isinstance(problem, WrongInputError) else NOT_MEASURABLE)
    except KeyboardInterrupt:
        return _fail("interrupted", INTERRUPTED)
    except OSError as problem:
        place = problem.filename or "output"
        return _fail(f"{place} cannot be written ({problem.strerror}); name another place", BROKEN)
    except MemoryError:
        return _fail("too little memory is free for this run; close other programs, or name a smaller run", BROKEN)
    return code


def _make_parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m reports",
        description="Show and compare saved runs of the suite.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = Parser(add_help=False)
    run.add_argument("run", type=Path, metavar="RUN.json", help="the JSON file of a run")
    figures = commands.add_parser(
        "figures", parents=[run], help="draw a run: figures as SVG and PNG, the matrix as SVG"
    )
    figures.add_argument("--out", type=Path, required=True, metavar="DIR", help="the folder to write; made if missing")
    figures.set_defaults(show=_show_figures)
    table = commands.add_parser("table", parents=[run], help="print a run as Markdown tables")
    table.set_defaults(show=_show_table)
    page = commands.add_parser("page", help="write the report of a run, one HTML file")
    page_command.add_options(page)
    page.set_defaults(show=page_command.show_page)
    compare = commands.add_parser("compare", help="list the cells of a run that are slower than in another")
    compare_command.add_options(compare)
    compare.set_defaults(show=compare_command.show_compare)
    gate = commands.add_parser("gate", help="measure whether storage/ is slower than in another commit")
    gate_command.add_options(gate)
    gate.set_defaults(show=gate_command.show_gate)
    calibrate = commands.add_parser(
        "calibrate", help="measure how often the gate or a saved baseline errs on this machine"
    )
    calibration.add_options(calibrate)
    calibrate.set_defaults(show=calibration.show_calibration)
    return parser


def _show_figures(options: argparse.Namespace) -> int:
    from reports.figures.drawing import draw  # noqa: PLC0415 - importing matplotlib takes a second

    run = read_run(options.run)
    paths = [*draw(run, options.out), *draw_matrix(run, options.out)]
    print_names(*paths)
    if not paths:
        sys.stderr.write("nothing to draw: the run has no cells of the operations that figures show\n")
    return 0


def _show_table(options: argparse.Namespace) -> int:
    print_text(make_table(read_run(options.run)))
    return 0


def _fail(problem: str, code: int) -> int:
    print_error(problem)
    return code


if __name__ == "__main__":
    sys.exit(main())
