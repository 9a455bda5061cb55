"""`python -m reports gate`: its options, and what it prints."""

import argparse
import importlib.util
import os
import shutil
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import FrameType

from reports.cli import print_text, read_counts, read_fraction, read_probability, read_seconds, show_progress
from reports.errors import NotMeasurableError, WrongInputError
from reports.files import append_file, replace_file
from reports.gate.affected import Affected, find_affected, trace
from reports.gate.decision import NOTHING, Outcome, run_gate
from reports.gate.environments import Library, make_pythons, read_library
from reports.gate.session import MEMORY, PHOTO_CUTOFFS, PHOTOS, Plan, Selection, Sides, prepare_sides
from reports.gate.syncs import compare_syncs, find_obstacle
from reports.gate.text import Finding, annotate, choose_exit_code, make_annotations, make_document, make_summary
from reports.gate.worktrees import WORKING_TREE, Code, describe_changes, find_code, find_version, is_same
from reports.noise import Thresholds
from reports.reading import read_run
from reports.text import escape_text

PROJECT = Path(__file__).parents[2]
CUTOFFS = (10, 1_000)
PAYLOADS = ("encoded", "pixels")
CELLS = "not workers and not dataloader"  # the scheduler moves processes around, which differs more than any change
BUDGET = 600  # seconds


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the gate to its parser."""
    add = parser.add_argument
    base = "a git reference, or the JSON of a run, which stands for its commit (default: HEAD)"
    add("base", nargs="?", default="HEAD", metavar="BASE", help=base)
    add("--ref", metavar="OTHER", help="compare with this git reference, not with the working tree")
    add("--missing", choices=("fail", "warn"), default="fail", help="cells that only BASE has (fail)")
    add("--strict", action="store_true", help="end with 1 if a cell stays inconclusive")

    add = parser.add_argument_group("what is compared").add_argument
    library = "the same storage/ with two versions of a library, such as h5py==3.15.1,3.16.0"
    add("--library", type=read_library, metavar="NAME==OLD,NEW", help=library)
    package = (
        "a package's folder or a module's file, in another repository, whose backends are compared: see --backends"
    )
    add("--package", type=Path, metavar="PATH", help=package)
    add("--base-python", metavar="PYTHON", help="the interpreter of BASE (default: this one)")
    add("--new-python", metavar="PYTHON", help="that of the other side (default: this one)")

    _add_choice(parser)
    add = parser.add_argument_group("what counts as slower").add_argument
    alpha = "how often a run without a change may fail (default: %(default)s)"
    add("--alpha", type=read_probability, default=Thresholds.alpha, help=alpha)
    threshold = "the smallest slowdown that counts (default: %(default)s)"
    add("--threshold", type=read_fraction, default=Thresholds.threshold, help=threshold)

    add = parser.add_argument_group("what is written").add_argument
    add("--json", type=Path, metavar="OUT", help="all verdicts as JSON")
    add("--markdown", type=Path, metavar="OUT", help="the summary, appended to a file")


def _add_choice(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("what is measured").add_argument
    add("--all", action="store_true", help="all cells, even those that the change can't affect")
    add("--backends", type=read_names, default=(), metavar="NAME,NAME,...", help="as for benchmarks (default: all)")
    add("--cells", default=CELLS, metavar="EXPRESSION", help="as for pytest's -k (default: %(default)s)")
    add("--cutoffs", type=read_counts, metavar="N,N,...", help="images (default: 10,1000; of photos 10)")
    images = "cells of photos instead, as for benchmarks: standin, or a folder of a few (default: cells of standin, in "
    images += "addition to those of CIFAR-10, if what differs handles image files)"
    add("--images", type=_read_images, default=os.environ.get("IMAGES", ""), metavar="standin|FOLDER", help=images)
    payloads = "what is stored of --images (default: encoded,pixels)"
    add("--payloads", type=_read_payloads, metavar="encoded,pixels", help=payloads)
    budget = "for the whole run (default: %(default)s)"
    add("--budget", type=read_seconds, default=BUDGET, metavar="SECONDS", help=budget)
    add("--stores", type=Path, metavar="DIR", help="where stores go (default: memory, else a disk)")


def read_names(text: str) -> tuple[str, ...]:
    """Read names, separated by commas, without blanks and repeats."""
    if names := tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip())):
        return names
    raise argparse.ArgumentTypeError(f"{text!r} names nothing")


def _read_images(text: str) -> str:
    if text in {"", PHOTOS}:
        return text
    path = Path(text).expanduser()
    if path.exists():
        return str(path.absolute())  # sessions run in another folder
    raise argparse.ArgumentTypeError(f"{text!r} is neither {PHOTOS} nor a folder or file here")


def _read_payloads(text: str) -> tuple[str, ...]:
    payloads = read_names(text)
    if set(payloads) <= set(PAYLOADS):
        return payloads
    raise argparse.ArgumentTypeError(f"{text!r} isn't encoded, pixels, or both: encoded,pixels")


def show_gate(options: argparse.Namespace) -> int:
    """Run the gate and print what it found; return the exit code."""
    need_scipy()
    _check_pairs(options)
    _check_places(options)
    plan, notes = make_plan(options)
    with end_on_signals(), ExitStack() as stack:
        if options.library:
            show_progress("installing both versions of the library")
            plan = replace(plan, pythons=stack.enter_context(make_pythons(options.library)))
        finding = _measure(options, plan, notes, Thresholds(options.threshold, options.alpha))
    summary = make_summary(finding)
    print_text(summary)
    if options.json:
        replace_file(options.json, make_document(finding))
    _publish(summary, make_annotations(finding), options)
    return finding.exit_code


def need_scipy() -> None:
    """Refuse to start without SciPy."""
    if importlib.util.find_spec("scipy") is None:
        raise NotMeasurableError('the gate needs SciPy: python -m pip install -e ".[gate]"')


def _measure(options: argparse.Namespace, plan: Plan, notes: list[str], thresholds: Thresholds) -> Finding:
    try:
        with prepare_sides(plan) as sides:
            notes = [*notes, sides.affected.describe()]
            outcome = NOTHING
            if sides.affected:
                outcome = run_gate(sides.measure, thresholds, options.budget, show_progress, sides.controls)
                outcome, obstacle = _compare_syncs(sides, outcome)
                notes += [f"syncs weren't counted: {obstacle}"] if obstacle else []
    except NotMeasurableError as problem:
        summary = f"## Gate: not measurable\n\n{escape_text(str(problem), 1_000)}\n"
        _publish(summary, [annotate("error", "not measurable", str(problem))], options)
        raise
    finally:
        show_progress("")
    folder = sides.stores.parent
    doubt = "" if folder == MEMORY else ", on a disk: writing differs by more than small changes do"
    images = [f"images: {each}" for each in sides.images.values()]
    notes = [*notes, *images, f"stores were in {folder}{doubt}", *outcome.libraries]
    code = choose_exit_code(outcome, strict=options.strict, allow_missing=options.missing == "warn")
    return Finding(plan.baseline.name, plan.candidate.name, tuple(notes), outcome, code)


def _compare_syncs(sides: Sides, outcome: Outcome) -> tuple[Outcome, str]:
    """Add to an outcome which side syncs more often, or say why that isn't known."""
    obstacle = find_obstacle()
    if not obstacle:
        show_progress("counting syncs")
        try:
            return replace(outcome, syncs=compare_syncs(sides.count_syncs)), ""
        except NotMeasurableError as problem:
            obstacle = str(problem)
    return outcome, obstacle


def make_plan(options: argparse.Namespace) -> tuple[Plan, list[str]]:
    """Find out what is compared with what, and what a reader must know about it."""
    notes = []
    reference, images = options.base, options.images
    if os.path.isfile(reference):  # noqa: PTH113 - unlike Path, it accepts what can't be a file's name
        run = read_run(Path(reference))
        commit, sample = run.commit, run.image_set.sample
        if not commit.known:
            raise NotMeasurableError(f"{reference} doesn't say which commit it measured; name a commit")
        if commit.dirty:
            notes.append(f"the run had uncommitted changes; the base is its commit {commit.id[:8]} without them")
        if sample and not images and run.image_set.generated:
            images = PHOTOS
        elif sample and not images:
            notes.append(f"the run measured {run.image_set.name}; --images=FOLDER measures them here")
        reference = commit.id
    if options.package and not options.backends:
        raise WrongInputError("--package needs --backends: the modules or entry points in it that are backends")
    code = find_code(options.package) if options.package else Code(PROJECT)
    baseline = find_version(code, reference)
    candidate = find_version(code, options.ref) if options.ref else baseline if options.library else WORKING_TREE
    if changes := describe_changes(code):
        notes.append(f"{changes} are {'not ' if candidate.commit else ''}measured")
    pythons = _find_python(options.base_python), _find_python(options.new_python)
    library: Library | None = options.library
    if is_same(code, baseline, candidate) and pythons[0] == pythons[1] and not library:
        notes.append(f"{code.path}/ is the same in both: every difference is noise")
    selection = _make_selection(options, images)
    find = partial(_find_affected, options, pythons)
    return Plan(PROJECT, code, baseline, candidate, pythons, selection, options.stores, find), notes


def _make_selection(options: argparse.Namespace, images: str) -> Selection:
    if options.payloads and not images:
        raise WrongInputError("--payloads is for --images: name them, too, such as --images=standin")
    cutoffs = options.cutoffs or (PHOTO_CUTOFFS if images else CUTOFFS)
    payloads = (options.payloads or PAYLOADS) if images else ()
    return Selection(cutoffs, options.cells, backends=options.backends, images=images, payloads=payloads)


def _find_affected(options: argparse.Namespace, pythons: tuple[str, str], old: Path, new: Path) -> Affected:
    if options.all:
        return Affected.all_for("--all")
    if options.package:
        return Affected(options.backends, encoded="backends of another package can store them")
    if options.library:
        modules = options.library.find_modules()
        found = trace(modules, old, new)
        kept = found.keep(options.backends, old, new)
        return kept if found or kept else Affected.all_for(f"no backend imports {' or '.join(modules)} itself")
    if pythons[0] != pythons[1]:
        return Affected.all_for("the interpreters differ")
    found = find_affected(old, new)
    return found.keep(options.backends, old, new) if found else found


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


def _check_pairs(options: argparse.Namespace) -> None:
    """Refuse options of which one would be ignored."""
    others = {"--ref": options.ref, "--base-python": options.base_python, "--new-python": options.new_python}
    if options.library and (given := [name for name, value in others.items() if value]):
        raise WrongInputError(f"--library compares two versions of a library; leave {given[0]} out")
    if options.json and options.markdown and options.json.resolve() == options.markdown.resolve():
        raise WrongInputError("--json and --markdown name the same file; name two")


def _check_places(options: argparse.Namespace) -> None:
    """Refuse unwritable places before anything is measured."""
    for path in (options.json, options.markdown):
        if path is not None and (path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK)):
            raise WrongInputError(f"{path} can't be written; name a file in a folder that exists")
        if path is not None and path.exists() and not path.is_file():
            raise WrongInputError(f"{path} isn't an ordinary file; name another place")
    if options.markdown is not None and options.markdown.is_symlink():
        raise WrongInputError(
            f"{options.markdown} is a link, and nothing is appended through one; name the file itself"
        )
    if options.stores is not None and not (options.stores.is_dir() and os.access(options.stores, os.W_OK)):
        raise WrongInputError(f"{options.stores} isn't a writable folder; name one that exists")


def _publish(summary: str, annotations: Iterable[str], options: argparse.Namespace) -> None:
    """Show the result, or why there is none, where a build is looked at."""
    if os.environ.get("GITHUB_ACTIONS"):
        print_text("".join(f"{line}\n" for line in annotations))
    if options.markdown:
        append_file(options.markdown, summary)


def _find_python(name: str | None) -> str:
    if name is None:
        return sys.executable
    found = shutil.which(name)
    if found is None:
        raise WrongInputError(f"{name}: no such interpreter")
    return str(Path(found).absolute())
