"""Composition: which options there are, which fixtures are loaded, what is measured, what goes into a run's JSON."""

import gc
import os
import shlex
import tempfile
from collections.abc import Generator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pytest_benchmark.storage.file import FileStorage

from benchmarks.cell import cell
from benchmarks.definition import MARKER, hash_definition
from benchmarks.directories import STORES, stores
from benchmarks.options import DEFAULT_CUTOFFS, Options, add_options, choose_cutoffs, count_images, read_options
from benchmarks.run_info import (
    Progress,
    count_processors,
    describe_run,
    find_file_system,
    list_libraries,
    round_to_clock,
)
from benchmarks.workers import STARTS, choose_counts
from fixtures.image_set import COUNT, DOUBLED, SOURCE, find_source, image_set
from reports.compare.comparison import compare_runs, find_differences
from reports.compare.text import describe_differences, make_verdicts
from reports.errors import WrongInputError
from reports.noise import Thresholds
from reports.page.command import check_place, write_page
from reports.reading import make_machine, read_run
from reports.run import BrokenRunError, ImageSet, Run

__all__ = ["cell", "image_set", "stores"]  # the fixtures

OPTIONS = pytest.StashKey[Options]()
PROGRESS = pytest.StashKey[Progress]()
SAVED = pytest.StashKey[bool]()
BASE = pytest.StashKey[Run]()
VERDICTS = pytest.StashKey[str]()
PAGE = pytest.StashKey[str]()
RUNS = "file://./reports/runs"  # as in pyproject.toml


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the suite's options."""
    add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Settle what this session measures, before pytest-benchmark reads its own options."""
    options = read_options(config)
    try:
        source = find_source(options.cifar10)
    except (OSError, ValueError) as error:
        raise pytest.UsageError(f"cifar10: {error}") from error
    if config.option.compare_with:
        try:
            config.stash[BASE] = read_run(config.option.compare_with)
        except BrokenRunError as error:
            raise pytest.UsageError(f"compare-with: {error}") from error
    if config.option.page:
        try:
            check_place(config.option.page, _list_inputs(config))
        except (WrongInputError, OSError) as error:
            raise pytest.UsageError(f"page: {error}") from error
    config.stash[OPTIONS] = options
    config.stash[SOURCE] = source
    config.stash[COUNT] = count_images(options, DOUBLED * source.count)
    config.stash[PROGRESS] = Progress()
    for marker in ("default_cutoffs(*images): the cutoffs of a benchmark unless --cutoffs names others", MARKER):
        config.addinivalue_line("markers", marker)
    if config.option.benchmark_storage == RUNS:  # relative to the folder that pytest was started in
        config.option.benchmark_storage = f"file://{config.rootpath / RUNS.removeprefix('file://./')}"
    if config.option.benchmark_only:
        config.option.benchmark_autosave = "run"  # and a number before it
        config.option.verbose = config.option.verbose or 1  # a line a cell: which one is running, how many are done


def _list_inputs(config: pytest.Config) -> list[Path]:
    """List the runs that a page must not replace: the base, and this session's own."""
    return [path for path in (config.option.compare_with, config.option.benchmark_json) if path]


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Say which images this session uses, and which backends it lacks."""
    source = config.stash[SOURCE]
    images = f"images: {source.name}, {config.stash[COUNT]:,} of {DOUBLED * source.count:,}"
    unavailable = config.stash[OPTIONS].unavailable
    return [images, *(f"no backend {name}: {reason}" for name, reason in unavailable.items())]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make a cell of every backend, cutoff and so on that a benchmark asks for."""
    options, source = metafunc.config.stash[OPTIONS], metafunc.config.stash[SOURCE]
    marker = metafunc.definition.get_closest_marker("default_cutoffs")
    cutoffs = choose_cutoffs(options, DOUBLED * source.count, marker.args if marker else DEFAULT_CUTOFFS)
    if {"workers", "dataset"} & set(metafunc.fixturenames):
        cutoffs = (max(cutoffs),)  # few images say nothing about workers, nor of what proof costs an image
    parameters: dict[str, tuple[str | int, ...]] = {
        "backend": options.backends,
        "cutoff": cutoffs,
        "durability": options.durabilities,
        "workers": choose_counts(),
        "start": STARTS,
        "cache": options.caches,
    }
    for name, values in parameters.items():
        if name in metafunc.fixturenames:
            ids = [pytest.HIDDEN_PARAM if value in {"buffered", "warm"} else str(value) for value in values]
            metafunc.parametrize(name, values, ids=ids)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Note which cells are to be measured; end before that where they cannot be compared."""
    gc.collect()
    gc.freeze()  # what a session keeps to its end need not be looked at before each cell: 1 ms in place of 40
    stash = session.config.stash
    cells = [item for item in session.items if "benchmark" in getattr(item, "fixturenames", ())]
    stash[PROGRESS].intended = [item.nodeid for item in cells]
    if BASE in stash:
        differences = find_differences(stash[BASE], _expect_run(session.config, stash[BASE], cells))
        if differences:
            pytest.exit(describe_differences(differences), returncode=3)


def _expect_run(config: pytest.Config, base: Run, cells: Sequence[pytest.Item]) -> Run:
    """Tell what is known of this session's run before it is made; the rest is as in the base."""
    source, backends = config.stash[SOURCE], {result.backend for result in base.results}
    machine = config.pluginmanager.getplugin("pytest-benchmark").get_machine_info()
    stores = Path(config.option.basetemp or os.environ.get("PYTEST_DEBUG_TEMPROOT") or tempfile.gettempdir())
    libraries = list_libraries(name for name in config.stash[OPTIONS].backends if name in backends)
    definitions = {cell.nodeid: hash_definition(cell) for cell in cells if isinstance(cell, pytest.Function)}
    return replace(
        base,
        complete=True,
        image_set=ImageSet(source.name, config.stash[COUNT], source.sha256),
        machine=make_machine(machine),
        cpu_count=count_processors(),
        store_directory=replace(base.store_directory, file_system=find_file_system(stores)),
        libraries={**base.libraries, **libraries},
        results=tuple(
            replace(result, definition=definitions.get(result.cell, result.definition or "")) for result in base.results
        ),
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note why a cell was not measured."""
    report = yield
    progress = item.config.stash[PROGRESS]
    if call.excinfo is not None and item.nodeid in progress.intended:
        reasons = progress.skipped if report.skipped else progress.failed
        reasons[item.nodeid] = call.excinfo.exconly().partition("\n")[0]
    return report


def pytest_benchmark_update_json(config: pytest.Config, output_json: dict[str, Any]) -> None:
    """Add what the suite knows of the run, and leave out digits that the clock does not have."""
    for stats in (each["stats"] for each in output_json["benchmarks"]):
        if "data" in stats:  # a new list: the session's tables are made of the old one
            stats["data"] = round_to_clock(stats["data"])
    source = config.stash[SOURCE]
    output_json["run"] = describe_run(
        progress=config.stash[PROGRESS],
        cells=output_json["benchmarks"],
        images={"name": source.name, "count": config.stash[COUNT], "sha256": source.sha256},
        stores=config.stash[STORES],
        command=shlex.join(["python", "-m", "pytest", *config.invocation_params.args]),
        unavailable=config.stash[OPTIONS].unavailable,
    )
    config.stash[SAVED] = output_json["run"]["complete"]


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Compare the run that was saved with the base, write its page; a session that failed keeps its exit code."""
    if BASE in session.config.stash:
        code, session.config.stash[VERDICTS] = _compare(session.config)
        session.exitstatus = session.exitstatus or code
    if session.config.option.page and not session.config.option.collectonly:
        code, session.config.stash[PAGE] = _write_page(session.config)
        session.exitstatus = session.exitstatus or code


def _compare(config: pytest.Config) -> tuple[int, str]:
    path = _find_saved(config)
    if path is None:
        return 3, "no run was saved that could be compared: measure with --benchmark-only\n"
    try:
        comparison = compare_runs(config.stash[BASE], read_run(path), Thresholds.threshold)
    except BrokenRunError as error:
        return 3, f"{error}\n"
    return comparison.choose_exit_code(config.option.compare_missing), make_verdicts(comparison)


def _write_page(config: pytest.Config) -> tuple[int, str]:
    path, out = _find_saved(config), config.option.page
    if path is None:
        return 3, "no page: no run was saved; measure with --benchmark-only"
    try:
        write_page([path], config.option.compare_with, out)
    except (WrongInputError, OSError) as error:
        return 3, f"no page: {error}"
    return 0, f"page written to {out}"


@pytest.hookimpl(trylast=True)  # below the tables of pytest-benchmark
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Show how this run compares with the base."""
    if VERDICTS in config.stash:
        terminalreporter.section(f"compared with {config.option.compare_with.name}")
        terminalreporter.write(config.stash[VERDICTS])


def pytest_unconfigure(config: pytest.Config) -> None:
    """End with one line or two: where the page and the run are, and how to make the page if there is none."""
    terminal = config.pluginmanager.getplugin("terminalreporter")
    if PAGE in config.stash:
        terminal.write_line(config.stash[PAGE])
    path = _find_saved(config)
    if path is not None:
        path = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
        kind = "run" if config.stash[SAVED] else "INCOMPLETE run"
        step = "" if config.option.page else f"; next: python -m reports page {path} --out report.html"
        terminal.write_line(f"{kind} saved as {path}{step}")


def _find_saved(config: pytest.Config) -> Path | None:
    """Find the run that this session saved."""
    session = config.pluginmanager.getplugin("pytest-benchmark")
    if SAVED not in config.stash or not isinstance(session.storage, FileStorage):
        return None
    saved = session.storage.query() if session.save or session.autosave else [config.option.benchmark_json]
    return max(map(Path, saved), key=lambda path: path.stat().st_mtime_ns)
