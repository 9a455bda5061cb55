"""Composition: which options there are, which fixtures are loaded, what is measured, what goes into a run's JSON."""

import shlex
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from pytest_benchmark.storage.file import FileStorage

from benchmarks.cells import cell
from benchmarks.options import DEFAULT_CUTOFFS, Options, add_options, choose_cutoffs, count_images, read_options
from benchmarks.run import Progress, describe_run
from benchmarks.stores import STORES, stores
from benchmarks.workers import STARTS, choose_counts
from fixtures.image_set import COUNT, DOUBLED, SOURCE, find_source, image_set
from storage import UNAVAILABLE

__all__ = ["cell", "image_set", "stores"]  # the fixtures

OPTIONS = pytest.StashKey[Options]()
PROGRESS = pytest.StashKey[Progress]()
SAVED = pytest.StashKey[bool]()
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
    config.stash[OPTIONS] = options
    config.stash[SOURCE] = source
    config.stash[COUNT] = count_images(options, DOUBLED * source.count)
    config.stash[PROGRESS] = Progress()
    marker = "default_cutoffs(*images): the cutoffs of a benchmark unless --cutoffs names others"
    config.addinivalue_line("markers", marker)
    if config.option.benchmark_storage == RUNS:  # relative to the folder that pytest was started in
        config.option.benchmark_storage = f"file://{config.rootpath / RUNS.removeprefix('file://./')}"
    if config.option.benchmark_only:
        config.option.benchmark_autosave = "run"  # and a number before it
        config.option.verbose = config.option.verbose or 1  # a line a cell: which one is running, how many are done


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Say which images this session uses, and which backends it lacks."""
    source = config.stash[SOURCE]
    images = f"images: {source.name}, {config.stash[COUNT]:,} of {DOUBLED * source.count:,}"
    return [images, *(f"no backend {name}: {reason}" for name, reason in UNAVAILABLE.items())]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make a cell of every backend, cutoff and so on that a benchmark asks for."""
    options, source = metafunc.config.stash[OPTIONS], metafunc.config.stash[SOURCE]
    marker = metafunc.definition.get_closest_marker("default_cutoffs")
    cutoffs = choose_cutoffs(options, DOUBLED * source.count, marker.args if marker else DEFAULT_CUTOFFS)
    if "workers" in metafunc.fixturenames:
        cutoffs = (max(cutoffs),)  # an epoch of few images says nothing about workers
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
    """Note which cells are to be measured."""
    session.config.stash[PROGRESS].intended = [
        item.nodeid for item in session.items if "benchmark" in getattr(item, "fixturenames", ())
    ]


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
    """Add what the suite knows of the run."""
    source = config.stash[SOURCE]
    output_json["run"] = describe_run(
        progress=config.stash[PROGRESS],
        cells=output_json["benchmarks"],
        images={"name": source.name, "count": config.stash[COUNT], "sha256": source.sha256},
        stores=config.stash[STORES],
        command=shlex.join(["python", "-m", "pytest", *config.invocation_params.args]),
    )
    config.stash[SAVED] = output_json["run"]["complete"]


def pytest_unconfigure(config: pytest.Config) -> None:
    """End with one line: where the run is, and what to type next."""
    session, terminal = map(config.pluginmanager.getplugin, ("pytest-benchmark", "terminalreporter"))
    if SAVED in config.stash and isinstance(session.storage, FileStorage):
        path = config.option.benchmark_json
        if session.save or session.autosave:
            path = max(session.storage.query(), key=lambda path: path.stat().st_mtime_ns)
        path = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
        kind = "run" if config.stash[SAVED] else "INCOMPLETE run"
        terminal.write_line(f"{kind} saved as {path}; next: python -m reports table {path}")
