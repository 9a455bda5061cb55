"""`python -m reports gate --self-test` and `--replay`: what they print."""

import argparse
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from reports.cli import print_text, read_count, show_progress
from reports.gate.background_load import CONDITIONS
from reports.gate.pairs import Plan
from reports.gate.replay import Recording, read_recordings
from reports.gate.self_test import FACTOR, SIZES, Account, Trial, run_trials, take_account
from reports.noise import Thresholds
from reports.text import escape_text, format_time, name_cell, write_table

REPLAYS = 1_000

Accounts = Sequence[tuple[Recording, Account]]


def add_options(group: argparse._ArgumentGroup) -> None:
    """Add the options of the self-test to a group of the gate's parser."""
    group.add_argument(
        "--self-test",
        action="store_true",
        help="run the gate on BASE against itself, as it is and with one slower cell; then replay that",
    )
    group.add_argument(
        "--runs", type=read_count, default=1, help="real runs of either sort, in each condition (default: %(default)s)"
    )
    group.add_argument(
        "--conditions",
        type=_read_conditions,
        default=("idle",),
        metavar="NAME,...",
        help=f"what else the machine does: {', '.join(CONDITIONS)} (default: idle)",
    )
    group.add_argument(
        "--replay", type=Path, metavar="RECORD", help="run the gate on what --record wrote, again and again"
    )
    group.add_argument(
        "--replays", type=read_count, default=REPLAYS, help="how often, for each sort and size (default: %(default)s)"
    )


def show_self_test(options: argparse.Namespace, plan: Plan, rules: Thresholds) -> None:
    """Run the self-test and print what it shows: one line a run, a table of the runs, what replays of them show."""
    trials = []
    with tempfile.TemporaryDirectory(prefix="gate-record-") as folder:
        record = options.record or Path(folder) / "blocks.jsonl"
        plan = replace(plan, record=record)
        for trial in run_trials(plan, rules, options.budget, options.conditions, options.runs, show_progress):
            trials.append(trial)
            show_progress("")
            print_text(f"{trial.describe()}\n")
        print_text(f"\n{make_trial_table(trials)}\n\n")
        show_replay(record, rules, options.replays)


def show_replay(path: Path, rules: Thresholds, replays: int) -> None:
    """Replay a recording and print what it shows, one condition after the other.

    Raises
    ------
    WrongInputError
        There is no such recording.
    """
    accounts = [(recording, take_account(recording, rules, replays)) for recording in read_recordings(path)]
    print_text(f"{make_replay_table(accounts)}\n\n{make_cell_table(accounts)}\n")


def make_trial_table(trials: Sequence[Trial]) -> str:
    """Show for each condition how many real runs were right, and how long they took."""
    rows: list[tuple[str, ...]] = [("condition", "slower", "runs", "found", "false alarms", "median", "longest")]
    groups: dict[tuple[str, str], list[Trial]] = {}
    for trial in trials:
        groups.setdefault((trial.condition, f"one cell {FACTOR}x" if trial.slowed else "nothing"), []).append(trial)
    for names, chosen in groups.items():
        seconds = [trial.outcome.seconds for trial in chosen]
        counts = len(chosen), sum(trial.found for trial in chosen), sum(bool(trial.false_alarms) for trial in chosen)
        times = f"{statistics.median(seconds):.0f} s", f"{max(seconds):.0f} s"
        rows.append((*names, *map(str, counts), *times))
    return write_table(rows)


def make_replay_table(accounts: Accounts) -> str:
    """Show for each condition how many replays were wrong without a change, and how many found which slowdown."""
    rows = [("condition", "blocks", "new / base", "false runs", *(f"{size}x" for size in SIZES), f"all {FACTOR}x")]
    for recording, account in accounts:
        found = [f"{account.found[size]:.1%}" if size in account.found else "" for size in SIZES]
        alarms = f"{account.false_runs:,} of {account.replays:,}"
        named = f"{account.named:.0%} of {account.long}"
        counts = str(2 * len(recording.pairs)), f"{recording.bias:.4f}", alarms
        rows.append((escape_text(recording.condition), *counts, *found, named))
    return write_table(rows)


def make_cell_table(accounts: Accounts) -> str:
    """Show for each cell how long it takes, and the smallest slowdown that it can show under each condition."""
    rows = [("cell", "seconds", *(escape_text(recording.condition) for recording, _ in accounts))]
    for cell, seconds in accounts[0][0].medians.items():
        sizes = [_describe_size(account, cell) for _, account in accounts]
        rows.append((escape_text(name_cell(cell)), format_time(seconds), *sizes))
    return write_table(rows)


def _describe_size(account: Account, cell: str) -> str:
    if cell not in account.smallest:
        return ""
    size = account.smallest[cell]
    return "more" if size is None else f"{size}x"


def _read_conditions(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(text.split(",")))
    if not CONDITIONS.keys() >= set(names):
        raise argparse.ArgumentTypeError(f"{text!r}: conditions are {', '.join(CONDITIONS)}")
    return names
