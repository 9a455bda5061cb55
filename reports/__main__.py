"""`python -m reports`: what a run says, on the command line."""

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from reports import gate_command
from reports.results import BrokenRunError, read_run
from reports.table import make_table
from reports.trees import NotMeasurableError

BROKEN, NOT_MEASURABLE, INTERRUPTED = 2, 3, 130

_EXAMPLES = """\
examples:
  python -m reports table reports/runs/RUN.json
  python -m reports table RUN.json > results.md
  python -m reports figures RUN.json --out figures

A run is what `pytest benchmarks --benchmark-only` saves in reports/runs.
Exit codes: 0 fine, 2 wrong usage or a broken run.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand and return its exit code.

    Parameters
    ----------
    arguments
        The command line without the program's name; None takes the process's own.
    """
    options = _make_parser().parse_args(arguments)
    with contextlib.suppress(AttributeError):  # a replaced stdout may have no encoding to fail with
        sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
    try:
        code: int = options.show(options)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, such as `| head`, has seen enough; nothing must be flushed to it at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except BrokenRunError as problem:
        return _fail(str(problem))
    except NotMeasurableError as problem:
        return _fail(str(problem), NOT_MEASURABLE)
    except KeyboardInterrupt:
        return _fail("interrupted; nothing is left behind", INTERRUPTED)
    except OSError as problem:
        return _fail(f"{problem.filename or 'output'} cannot be written ({problem.strerror}); name another place")
    else:
        return code
    return 0


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m reports",
        description="Show what a saved run of the suite says.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = argparse.ArgumentParser(add_help=False)
    run.add_argument("run", type=Path, metavar="RUN.json", help="the JSON file of a run")

    figures = commands.add_parser("figures", parents=[run], help="draw the figures of a run as SVG and PNG")
    figures.add_argument("--out", type=Path, required=True, metavar="DIR", help="where to; made if it does not exist")
    figures.set_defaults(show=_show_figures)

    table = commands.add_parser("table", parents=[run], help="print a run as Markdown tables")
    table.set_defaults(show=_show_table)

    gate = commands.add_parser("gate", help="measure whether another commit's storage is faster: the one that may fail")
    gate_command.add_options(gate)
    gate.set_defaults(show=gate_command.show_gate)
    return parser


def _show_figures(options: argparse.Namespace) -> int:
    from reports.figures import draw  # noqa: PLC0415 - matplotlib takes a second, and a table needs none of it

    paths = draw(read_run(options.run), options.out)
    sys.stdout.writelines(f"{path}\n" for path in paths)
    if not paths:
        sys.stderr.write("nothing to draw: the run has no cells of the operations that figures show\n")
    return 0


def _show_table(options: argparse.Namespace) -> int:
    sys.stdout.write(make_table(read_run(options.run)))
    return 0


def _fail(problem: str, code: int = BROKEN) -> int:
    sys.stderr.write(f"error: {problem}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
