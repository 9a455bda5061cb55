"""Comparing a session with an earlier run: finding that run, refusing it, and choosing what to measure again.

This module, `benchmarks.session` and `benchmarks.ending` are the only ones of `benchmarks` that use `reports`.
"""

import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.options import BASELINES, Options
from benchmarks.run_info import count_processors, find_file_system, hash_definition, list_libraries
from fixtures.image_set import COUNT, IMAGES
from reports.compare.comparison import Comparison, compare_runs, find_other_libraries
from reports.compare.text import describe_differences
from reports.noise import Thresholds
from reports.reading import make_machine, read_run
from reports.run import BrokenRunError, ImageSet, Run
from reports.text import escape_name

Rounds = Mapping[str, Sequence[float]]  # by cell


def name_baseline(root: Path, name: str) -> Path:
    """Name the file of a baseline, and make its folder."""
    if not re.fullmatch(r"\w[\w.-]{0,99}", name):
        raise pytest.UsageError(f"save-baseline: {name!r} isn't a name: use letters, digits, dots, - and _")
    path = root / BASELINES / f"{name}.json"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise pytest.UsageError(
            escape_name(f"save-baseline: {path.parent} can't be made ({error.strerror})")
        ) from error
    return path


def read_base(config: pytest.Config) -> Run | None:
    """Read the run to compare with, named by its file or as a baseline; None if there should be none."""
    name = config.option.compare_with
    if not name:
        return None
    baseline = config.rootpath / BASELINES / f"{name}.json"
    try:
        return read_run(baseline if baseline.is_file() and not Path(name).is_file() else Path(name))
    except BrokenRunError as error:
        names = sorted(path.stem for path in baseline.parent.glob("*.json")) if not Path(name).exists() else []
        hint = f"; the baselines here are {', '.join(names)}" if names else ""
        raise pytest.UsageError(escape_name(f"compare-with: {error}{hint}")) from error


def describe_now(config: pytest.Config, options: Options, base: Run, cells: Sequence[pytest.Item]) -> Run:
    """Describe this session's run before it is made; what isn't known yet is as in the base."""
    images = config.stash[IMAGES]
    machine = config.pluginmanager.getplugin("pytest-benchmark").get_machine_info()
    stores = Path(config.option.basetemp or os.environ.get("PYTEST_DEBUG_TEMPROOT") or tempfile.gettempdir())
    backends = [name for name in options.backends if name in base.backends]
    libraries = list_libraries(backends, {each.operation for each in base.results})
    definitions = {cell.nodeid: hash_definition(cell) for cell in cells if isinstance(cell, pytest.Function)}
    return replace(
        base,
        complete=True,
        image_set=ImageSet(images.name, config.stash[COUNT], images.sha256),
        machine=make_machine(machine),
        cpu_count=count_processors(),
        store_directory=replace(base.store_directory, file_system=find_file_system(stores)),
        libraries={**base.libraries, **libraries},
        results=tuple(
            replace(each, definition=definitions.get(each.cell, each.definition or "")) for each in base.results
        ),
        references=tuple(
            replace(each, definition=definitions.get(each.cell, each.definition)) for each in base.references
        ),
    )


def refuse_base(config: pytest.Config, base: Run, now: Run) -> str:
    """Say why a session can't be compared with the base; empty if it can."""
    differences = compare_runs(base, now, Thresholds.threshold, read_allowed(config)).differences
    if not differences:
        return ""
    return describe_differences(differences, other_libraries=bool(find_other_libraries(base, now)))


def read_allowed(config: pytest.Config) -> tuple[str, ...]:
    """Read which differences the user allows."""
    return (config.option.allow,) if config.option.allow else ()


def compare_now(config: pytest.Config, base: Run, now: Run, first: Rounds, replicates: Sequence[Rounds]) -> Comparison:
    """Compare what the processes of this session have measured so far with the base."""
    measured = replace(
        now,
        results=tuple(replace(each, rounds=tuple(first[each.cell])) for each in now.results if each.cell in first),
        references=tuple(
            replace(each, rounds=tuple(first[each.cell])) for each in now.references if each.cell in first
        ),
        replicates=tuple({cell: tuple(rounds) for cell, rounds in process.items()} for process in replicates),
    )
    return compare_runs(base, measured, Thresholds.threshold, read_allowed(config))
