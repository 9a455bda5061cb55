"""`python -m reports gate`: its options, and what it prints."""

import argparse
import importlib.util
import os
import shutil
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from reports.cli import print_text, read_counts, read_fraction, read_probability, read_seconds, show_progress
from reports.errors import NotMeasurableError, WrongInputError
from reports.gate import self_test_command
from reports.gate.decision import run_gate
from reports.gate.pairs import Arms, Plan, prepare_arms
from reports.gate.self_test_command import show_replay, show_self_test
from reports.gate.session import MEMORY, Selection
from reports.gate.text import Finding, annotate, choose_exit_code, make_annotations, make_document, make_summary
from reports.gate.worktrees import (
    WORKING_TREE,
    Version,
    describe_changes,
    find_version,
    is_same,
)
from reports.noise import Thresholds
from reports.reading import read_run
from reports.text import escape_text

PROJECT = Path(__file__).parents[2]
CUTOFFS = (10, 100, 1_000)
CELLS = "not workers"  # processes that the scheduler places differ more than any change
BUDGET = 600  # seconds


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the gate to its parser."""
    parser.add_argument(
        "base",
        nargs="?",
        default="HEAD",
        metavar="BASE",
        help="a git reference, or the JSON of a run, which stands for its commit (default: HEAD)",
    )
    parser.add_argument("--ref", metavar="OTHER", help="compare with this git reference, not with the working tree")
    parser.add_argument("--missing", choices=("fail", "warn"), default="fail", help="cells that only BASE has (fail)")
    parser.add_argument("--strict", action="store_true", help="end with 1 if a cell stays inconclusive")
    _add_measuring(parser.add_argument_group("what is measured"))
    _add_rules(parser.add_argument_group("what counts as slower"))
    _add_places(parser.add_argument_group("what is written"))
    self_test_command.add_options(parser.add_argument_group("the gate's test of itself"))


def _add_measuring(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--cells", default=CELLS, metavar="EXPRESSION", help="as pytest's -k has it (default: %(default)s)"
    )
    group.add_argument(
        "--cutoffs", type=read_counts, default=CUTOFFS, metavar="N,N,...", help="images (default: 10,100,1000)"
    )
    group.add_argument(
        "--budget",
        type=read_seconds,
        default=BUDGET,
        metavar="SECONDS",
        help="for the whole run (default: %(default)s)",
    )
    group.add_argument("--base-python", default=sys.executable, metavar="PYTHON", help="the interpreter of BASE")
    group.add_argument("--new-python", default=sys.executable, metavar="PYTHON", help="that of the other side")
    group.add_argument("--stores", type=Path, metavar="DIR", help="where stores go (default: memory, else a disk)")


def _add_rules(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--alpha",
        type=read_probability,
        default=Thresholds.alpha,
        help="how often a run without a change may fail (default: %(default)s)",
    )
    group.add_argument(
        "--threshold",
        type=read_fraction,
        default=Thresholds.threshold,
        help="the least slowdown that counts (default: %(default)s)",
    )


def _add_places(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--json", type=Path, metavar="OUT", help="all verdicts as JSON")
    group.add_argument("--markdown", type=Path, metavar="OUT", help="the summary, appended to a file")
    group.add_argument("--record", type=Path, metavar="OUT", help="what each pair measured, appended to a file")


def show_gate(options: argparse.Namespace) -> int:
    """Run the gate and print what it found; return the exit code.

    Raises
    ------
    WrongInputError
        BASE is no commit and no run.
    NotMeasurableError
        The arms cannot be measured, or there is no SciPy.
    """
    if importlib.util.find_spec("scipy") is None:
        raise NotMeasurableError('the gate needs SciPy: python -m pip install -e ".[gate]"')
    _check_places(options)
    rules = Thresholds(options.threshold, options.alpha)
    if options.replay:
        show_replay(options.replay, rules, options.replays)
        return 0
    plan, notes = make_plan(options)
    if options.self_test:
        with end_on_signals():
            show_self_test(options, plan, rules)
        return 0
    try:
        with end_on_signals(), prepare_arms(plan) as arms:
            outcome = run_gate(arms.measure, rules, options.budget, show_progress)
            notes += [_describe_stores(arms), *outcome.libraries]
    except NotMeasurableError as problem:
        summary = f"## Gate: not measurable\n\n{escape_text(str(problem), 1_000)}\n"
        _publish(summary, [annotate("error", "not measurable", str(problem))], options)
        raise
    finally:
        show_progress("")
    code = choose_exit_code(outcome, strict=options.strict, allow_missing=options.missing == "warn")
    finding = Finding(plan.base.name, plan.new.name, tuple(notes), outcome, code)
    summary = make_summary(finding)
    print_text(summary)
    if options.json:
        options.json.write_text(make_document(finding), encoding="utf-8")
    _publish(summary, make_annotations(finding), options)
    return code


def make_plan(options: argparse.Namespace) -> tuple[Plan, list[str]]:
    """Find out what is compared with what, and what a reader must know of it."""
    notes = []
    reference = options.base
    if os.path.isfile(reference):  # noqa: PTH113 - no error for what cannot be a file's name
        run = read_run(Path(reference))
        if not run.commit.known:
            raise NotMeasurableError(f"{reference} does not say which commit it measured; name a commit")
        if run.commit.dirty:
            notes.append(
                f"the run was made with uncommitted changes; the base is its commit, {run.commit.id[:8]}, alone"
            )
        reference = run.commit.id
    base = find_version(PROJECT, reference)
    new = base if options.self_test else Version(WORKING_TREE, None)
    new = find_version(PROJECT, options.ref) if options.ref else new
    if changes := describe_changes(PROJECT):
        notes.append(f"{changes} are {'not ' if new.commit else ''}measured")
    pythons = _find_python(options.base_python), _find_python(options.new_python)
    if is_same(PROJECT, base, new) and pythons[0] == pythons[1]:
        notes.append("storage/ is the same in both: whatever differs is noise")
    elif options.record or options.self_test:
        raise WrongInputError("only what is the same in both arms can be recorded, or test the gate: HEAD --ref HEAD")
    plan = Plan(PROJECT, base, new, pythons, Selection(options.cutoffs, options.cells), options.stores, options.record)
    return plan, notes


@contextmanager
def end_on_signals() -> Iterator[None]:
    """Turn signals that end a program into an exception, so that no process and no folder is left behind."""

    def end(number: int, _: FrameType | None) -> None:
        raise KeyboardInterrupt(signal.Signals(number).name)

    numbers = [each for each in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(each) is not signal.SIG_IGN]
    before = {number: signal.signal(number, end) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _check_places(options: argparse.Namespace) -> None:
    """Refuse, before anything is measured, places where nothing can be written after it."""
    for path in (options.json, options.markdown, options.record):
        if path is not None and (path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK)):
            raise WrongInputError(f"{path} cannot be written; name a file in a folder that exists")
    if options.stores is not None and not (options.stores.is_dir() and os.access(options.stores, os.W_OK)):
        raise WrongInputError(f"{options.stores} is no folder that stores can be made in; name one that exists")


def _publish(summary: str, annotations: Iterable[str], options: argparse.Namespace) -> None:
    """Show what was found, or why nothing was, where a build is looked at."""
    if os.environ.get("GITHUB_ACTIONS"):
        print_text("".join(f"{line}\n" for line in annotations))
    if options.markdown:
        with options.markdown.open("a", encoding="utf-8") as file:
            file.write(summary)


def _describe_stores(arms: Arms) -> str:
    folder = arms.stores.parent
    doubt = "" if folder == MEMORY else ", on a disk: writing differs by more than small changes do"
    return f"stores were in {folder}{doubt}"


def _find_python(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise WrongInputError(f"{name}: no such interpreter")
    return str(Path(found).absolute())
