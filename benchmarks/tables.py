"""pytest-benchmark's tables, and those of its options that this suite can't follow."""

import os
import shlex
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from typing import Any

import pytest
from pytest_benchmark import plugin

CHOSEN = "--benchmark-min-rounds and --benchmark-max-time choose how many there are, before the first one"
IGNORED = {
    "--benchmark-warmup": "one or two calls always warm a cell up",
    "--benchmark-warmup-iterations": "one or two calls always warm a cell up",
    "--benchmark-min-time": f"a round is always one call; {CHOSEN}",
    "--benchmark-calibration-precision": f"a round is always one call; {CHOSEN}",
    "--benchmark-precision": f"rounds don't depend on each other; {CHOSEN}",
    "--benchmark-confidence": f"rounds don't depend on each other; {CHOSEN}",
}
SHOWN_BY = {
    f"--benchmark-{name}"
    for name in (
        *("columns", "sort", "group-by", "name", "time-unit"),
        *("compare", "compare-fail", "histogram"),
        *("cprofile", "cprofile-loops", "cprofile-top", "verbose"),
    )
}
GROUPINGS = ("group", "name", "func", "fullname", "fullfunc", "param")


def list_given(config: pytest.Config) -> set[str]:
    """List the options on the command line and in PYTEST_ADDOPTS by their names, such as ``--benchmark-sort``."""
    words = [*shlex.split(os.environ.get("PYTEST_ADDOPTS", "")), *map(str, config.invocation_params.args)]
    return {word.partition("=")[0] for word in words}


def check_options(config: pytest.Config) -> None:
    """Reject options of pytest-benchmark that would be ignored, or would fail once everything is measured."""
    given = list_given(config) | {word.partition("=")[0] for word in config.getini("addopts")}
    for name in sorted(given & IGNORED.keys()):
        raise pytest.UsageError(f"{name[2:]}: it would have no effect: {IGNORED[name]}")
    for word in config.option.benchmark_group_by.split(","):
        if word not in GROUPINGS and not word.startswith("param:"):
            raise pytest.UsageError(f"benchmark-group-by: {word!r} is unknown: {', '.join(GROUPINGS)} or param:NAME")
    if config.option.benchmark_histogram and not find_spec("pygal"):
        raise pytest.UsageError("benchmark-histogram: pygal is not installed: python -m pip install pygal pygaljs")


def check_cells(session: Any, cells: Iterable[pytest.Item]) -> None:  # noqa: ANN401 - pytest-benchmark has no types
    """Reject options of pytest-benchmark that the cells of this session, or the runs here, can't satisfy."""
    known = sorted({name for cell in cells if hasattr(cell, "callspec") for name in cell.callspec.params})
    for name in list_parameters(session.group_by):
        if name not in known:
            raise pytest.UsageError(f"benchmark-group-by: no cell has a parameter {name!r}, only {', '.join(known)}")
    if session.compare_fail and not session.compared_mapping:
        raise pytest.UsageError("benchmark-compare-fail: there is no run to compare with: give --benchmark-compare")


def list_parameters(group_by: str) -> list[str]:
    """List the parameters that cells are grouped by."""
    return [word.removeprefix("param:") for word in group_by.split(",") if word.startswith("param:")]


def group_cells(
    config: pytest.Config | None, benchmarks: Iterable[dict[str, Any]], group_by: str
) -> Sequence[tuple[str | None, list[dict[str, Any]]]]:
    """Group cells for tables; those without a parameter that groups are named by are in none."""
    names = set(list_parameters(group_by))
    grouped = [each for each in benchmarks if names <= (each["params"] or {}).keys()]
    groups: Sequence[tuple[str | None, list[dict[str, Any]]]] = plugin.pytest_benchmark_group_stats(
        config, grouped, group_by
    )
    return groups


def are_tables_wanted(config: pytest.Config) -> bool:
    """Whether the user asked for pytest-benchmark's tables; settings of the project don't count."""
    return bool(config.option.tables or list_given(config) & SHOWN_BY)


def take_regressions(session: Any) -> list[str]:  # noqa: ANN401 - pytest-benchmark has no types
    """Take what --benchmark-compare-fail found; pytest-benchmark would end the session with a traceback."""
    lines = [f"{name}: {reason}" for name, reason in session.performance_regressions]
    session.performance_regressions = []
    return lines
