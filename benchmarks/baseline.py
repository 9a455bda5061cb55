"""Comparing a session with an earlier run: finding that run, refusing it, and choosing what to measure again.

This module, `benchmarks.session` and `benchmarks.ending` are the only ones of `benchmarks` that use `reports`.
"""

import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.options import BASELINES, BUDGET, refuse_empty
from benchmarks.run_info import (
    count_processors,
    find_file_system,
    hash_definition,
    list_libraries,
    name_operation,
    read_threshold,
)
from fixtures.image_set import COUNT, IMAGES
from reports.compare.comparison import Comparison, compare_runs, find_differences, find_other_libraries
from reports.compare.text import describe_differences
from reports.noise import Thresholds
from reports.reading import make_machine, read_run
from reports.run import BrokenRunError, ImageSet, Result, Run
from reports.text import escape_name

Rounds = Mapping[str, Sequence[float]]  # by cell


def check_baselines(config: pytest.Config) -> None:
    """Refuse options that say nothing, and those that need a run if there will be none."""
    for name in ("save-baseline", "compare-with", "replicates"):
        refuse_empty(config, name)
        if config.getoption(f"--{name}") and (cause := _find_obstacle(config)):
            raise pytest.UsageError(f"{name}: with {cause}, nothing is measured: leave one of the two out")
    for name, default in (("budget", BUDGET), ("allow", None), ("compare-missing", "fail")):
        if config.getoption(f"--{name}") != default and not config.option.compare_with:
            raise pytest.UsageError(f"{name}: there is nothing to compare with: add --compare-with, or leave it out")


def _find_obstacle(config: pytest.Config) -> str:
    """Find the option because of which pytest-benchmark measures nothing; empty if it measures."""
    option = config.option
    causes = {
        "--numprocesses": config.getoption("dist", "no") != "no" or "PYTEST_XDIST_WORKER" in os.environ,
        "--benchmark-disable": option.benchmark_disable and not option.benchmark_enable,
        "--benchmark-skip": option.benchmark_skip and not option.benchmark_only,
    }
    return next((name for name, holds in causes.items() if holds), "")


def name_baseline(config: pytest.Config) -> Path | None:
    """Name the file of the baseline to save, and make its folder; None if there is no baseline to save."""
    name = config.option.save_baseline
    if not name:
        return None
    if config.option.benchmark_json:
        raise pytest.UsageError("save-baseline: the run has one file: leave --benchmark-json out")
    if not re.fullmatch(r"\w[\w.-]{0,99}", name):
        raise pytest.UsageError(f"save-baseline: {name!r} isn't a name: use up to 100 letters, digits, dots, - and _")
    path: Path = config.rootpath / BASELINES / f"{name}.json"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            path.stat()  # its name may be too long
    except OSError as error:
        raise pytest.UsageError(escape_name(f"save-baseline: {path} can't be saved ({error.strerror})")) from error
    return path


def read_base(config: pytest.Config) -> Run | None:
    """Read the run to compare with, named by its file or as a baseline; None if there should be none."""
    name = config.option.compare_with
    if not name:
        return None
    baseline = config.rootpath / BASELINES / f"{name}.json"
    try:
        base = read_run(baseline if _is_file(baseline) and not _is_file(Path(name)) else Path(name))
    except BrokenRunError as error:
        names = sorted(path.stem for path in baseline.parent.glob("*.json")) if not _is_file(Path(name)) else []
        hint = f"; the baselines here are {', '.join(names)}" if names else ""
        raise pytest.UsageError(escape_name(f"compare-with: {error}{hint}")) from error
    _refuse_replacing(config, base)
    return base


def _is_file(path: Path) -> bool:
    """Whether this is an ordinary file; a path that is too long is none."""
    try:
        return path.is_file()
    except OSError:
        return False


def _refuse_replacing(config: pytest.Config, base: Run) -> None:
    """Refuse to save the run as the file of the base: a slow run would be what the next ones are compared with."""
    path, same = config.option.benchmark_json, False
    with suppress(OSError):  # usually, the file isn't there yet
        same = path is not None and path.samefile(base.path)
    if same:
        option = "save-baseline" if config.option.save_baseline else "benchmark-json"
        raise pytest.UsageError(f"{option}: it is what the run is compared with: save the run under another name")


def describe_now(config: pytest.Config, base: Run, cells: Sequence[pytest.Item]) -> Run:
    """Describe the run of this session's cells before it is made; what isn't known yet is as in the base."""
    images = config.stash[IMAGES]
    machine = config.pluginmanager.getplugin("pytest-benchmark").get_machine_info()
    stores = Path(config.option.basetemp or os.environ.get("PYTEST_DEBUG_TEMPROOT") or tempfile.gettempdir())
    functions = [cell for cell in cells if isinstance(cell, pytest.Function)]
    results = tuple(_make_result(cell) for cell in functions if "cell" in cell.fixturenames)
    definitions = {cell.nodeid: hash_definition(cell) for cell in functions}
    return replace(
        base,
        complete=True,
        image_set=ImageSet(images.name, config.stash[COUNT], images.sha256),
        machine=make_machine(machine),
        cpu_count=count_processors(),
        store_directory=replace(base.store_directory, file_system=find_file_system(stores)),
        libraries=list_libraries({each.backend for each in results}, {name_operation(cell) for cell in functions}),
        results=results,
        references=tuple(
            replace(each, definition=definitions[each.cell]) for each in base.references if each.cell in definitions
        ),
        floors=tuple(
            replace(each, definition=definitions[each.cell]) for each in base.floors if each.cell in definitions
        ),
    )


def _make_result(cell: pytest.Function) -> Result:
    """Describe a cell of a backend before it is measured, as far as runs are compared by it."""
    return Result(
        cell=cell.nodeid,
        operation=name_operation(cell),
        backend=str(cell.callspec.params["backend"]),
        images=0,
        store_images=0,
        bytes=0,
        params=(),
        rounds=(),
        disk=None,
        definition=hash_definition(cell),
        threshold=read_threshold(cell).get("threshold"),
    )


def refuse_base(config: pytest.Config, base: Run, now: Run) -> str:
    """Say why a session can't be compared with the base; empty if it can."""
    differences, others = find_differences(base, now), find_other_libraries(base, now)
    if "libraries" in read_allowed(config):
        differences = [each for each in differences if each not in others]
    return describe_differences(differences, other_libraries=set(differences) <= set(others)) if differences else ""


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
