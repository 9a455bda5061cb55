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
from reports.files import append_file, replace_file
from reports.gate import calibration
from reports.gate.decision import run_gate
from reports.gate.session import MEMORY, Plan, Selection, prepare_sides
from reports.gate.text import Finding, annotate, choose_exit_code, make_annotations, make_document, make_summary
from reports.gate.worktrees import WORKING_TREE, describe_changes, find_version, is_same
from reports.noise import Thresholds
from reports.reading import read_run
from reports.text import escape_text

PROJECT = Path(__file__).parents[2]
CUTOFFS = (10, 100, 1_000)
CELLS = "not workers"  # the scheduler moves processes around, which differs more than any change
BUDGET = 600  # seconds


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the gate to its parser."""
    add = parser.add_argument
    base = "a git reference, or the JSON of a run, which stands for its commit (default: HEAD)"
    add("base", nargs="?", default="HEAD", metavar="BASE", help=base)
    add("--ref", metavar="OTHER", help="compare with this git reference, not with the working tree")
    add("--missing", choices=("fail", "warn"), default="fail", help="cells that only BASE has (fail)")
    add("--strict", action="store_true", help="end with 1 if a cell stays inconclusive")

    add = parser.add_argument_group("what is measured").add_argument
    add("--cells", default=CELLS, metavar="EXPRESSION", help="as for pytest's -k (default: %(default)s)")
    add("--cutoffs", type=read_counts, default=CUTOFFS, metavar="N,N,...", help="images (default: 10,100,1000)")
    budget = "for the whole run (default: %(default)s)"
    add("--budget", type=read_seconds, default=BUDGET, metavar="SECONDS", help=budget)
    add("--base-python", default=sys.executable, metavar="PYTHON", help="the interpreter of BASE")
    add("--new-python", default=sys.executable, metavar="PYTHON", help="that of the other side")
    add("--stores", type=Path, metavar="DIR", help="where stores go (default: memory, else a disk)")

    add = parser.add_argument_group("what counts as slower").add_argument
    alpha = "how often a run without a change may fail (default: %(default)s)"
    add("--alpha", type=read_probability, default=Thresholds.alpha, help=alpha)
    threshold = "the smallest slowdown that counts (default: %(default)s)"
    add("--threshold", type=read_fraction, default=Thresholds.threshold, help=threshold)

    add = parser.add_argument_group("what is written").add_argument
    add("--json", type=Path, metavar="OUT", help="all verdicts as JSON")
    add("--markdown", type=Path, metavar="OUT", help="the summary, appended to a file")
    add("--record", type=Path, metavar="OUT", help="what each pair measured, appended to a file")

    calibration.add_options(parser.add_argument_group("the gate's test of itself"))


def show_gate(options: argparse.Namespace) -> int:
    """Run the gate and print what it found; return the exit code."""
    if importlib.util.find_spec("scipy") is None:
        raise NotMeasurableError('the gate needs SciPy: python -m pip install -e ".[gate]"')
    _check_places(options)
    thresholds = Thresholds(options.threshold, options.alpha)
    if options.replay:
        calibration.show_replay(options.replay, thresholds, options.replays)
        return 0
    plan, notes = make_plan(options)
    with end_on_signals():
        if options.self_test:
            calibration.show_self_test(options, plan, thresholds)
            return 0
        finding = _measure(options, plan, notes, thresholds)
    summary = make_summary(finding)
    print_text(summary)
    if options.json:
        replace_file(options.json, make_document(finding))
    _publish(summary, make_annotations(finding), options)
    return finding.exit_code


def _measure(options: argparse.Namespace, plan: Plan, notes: list[str], thresholds: Thresholds) -> Finding:
    try:
        with prepare_sides(plan) as sides:
            outcome = run_gate(sides.measure, thresholds, options.budget, show_progress)
    except NotMeasurableError as problem:
        summary = f"## Gate: not measurable\n\n{escape_text(str(problem), 1_000)}\n"
        _publish(summary, [annotate("error", "not measurable", str(problem))], options)
        raise
    finally:
        show_progress("")
    folder = sides.stores.parent
    doubt = "" if folder == MEMORY else ", on a disk: writing differs by more than small changes do"
    notes = [*notes, f"stores were in {folder}{doubt}", *outcome.libraries]
    code = choose_exit_code(outcome, strict=options.strict, allow_missing=options.missing == "warn")
    return Finding(plan.baseline.name, plan.candidate.name, tuple(notes), outcome, code)


def make_plan(options: argparse.Namespace) -> tuple[Plan, list[str]]:
    """Find out what is compared with what, and what a reader must know about it."""
    notes = []
    reference = options.base
    if os.path.isfile(reference):  # noqa: PTH113 - unlike Path, it accepts what can't be a file's name
        commit = read_run(Path(reference)).commit
        if not commit.known:
            raise NotMeasurableError(f"{reference} doesn't say which commit it measured; name a commit")
        if commit.dirty:
            notes.append(f"the run had uncommitted changes; the base is its commit {commit.id[:8]} without them")
        reference = commit.id
    baseline = find_version(PROJECT, reference)
    candidate = baseline if options.self_test else WORKING_TREE
    candidate = find_version(PROJECT, options.ref) if options.ref else candidate
    if changes := describe_changes(PROJECT):
        notes.append(f"{changes} are {'not ' if candidate.commit else ''}measured")
    pythons = _find_python(options.base_python), _find_python(options.new_python)
    if is_same(PROJECT, baseline, candidate) and pythons[0] == pythons[1]:
        notes.append("storage/ is the same in both: every difference is noise")
    elif options.record or options.self_test:
        raise WrongInputError(
            "a recording and a self-test need the same storage on both sides, such as HEAD --ref HEAD"
        )
    selection = Selection(options.cutoffs, options.cells)
    return Plan(PROJECT, baseline, candidate, pythons, selection, options.stores, options.record), notes


@contextmanager
def end_on_signals() -> Iterator[None]:
    """Raise an exception at signals that end a program, so that no process and no folder is left behind."""

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
    """Refuse unwritable places before anything is measured."""
    for path in (options.json, options.markdown, options.record):
        if path is not None and (path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK)):
            raise WrongInputError(f"{path} can't be written; name a file in a folder that exists")
        if path is not None and path.exists() and not path.is_file():
            raise WrongInputError(f"{path} isn't an ordinary file; name another place")
    for path in (options.markdown, options.record):
        if path is not None and path.is_symlink():
            raise WrongInputError(f"{path} is a link, and nothing is appended through one; name the file itself")
    if options.stores is not None and not (options.stores.is_dir() and os.access(options.stores, os.W_OK)):
        raise WrongInputError(f"{options.stores} isn't a writable folder; name one that exists")


def _publish(summary: str, annotations: Iterable[str], options: argparse.Namespace) -> None:
    """Show the result, or why there is none, where a build is looked at."""
    if os.environ.get("GITHUB_ACTIONS"):
        print_text("".join(f"{line}\n" for line in annotations))
    if options.markdown:
        append_file(options.markdown, summary)


def _find_python(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise WrongInputError(f"{name}: no such interpreter")
    return str(Path(found).absolute())
