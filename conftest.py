"""The hooks of the suite. The code behind them is in `benchmarks.session` and `benchmarks.ending`."""

from collections.abc import Generator, Iterable, Sequence
from typing import Any

import pytest

from benchmarks.cell import cell
from benchmarks.directories import stores
from benchmarks.ending import finish, show_files, show_reports
from benchmarks.options import add_options
from benchmarks.remote import remote, remote_cell
from benchmarks.session import (
    complete_json,
    configure,
    describe_session,
    describe_status,
    measure_again,
    note_outcome,
    parametrize,
    select_cells,
    spread_references,
    start_measuring,
)
from benchmarks.tables import group_cells
from benchmarks.workers import torch
from fixtures.image_set import image_set, payload, photos, session_images

__all__ = [  # the fixtures
    "cell",
    "image_set",
    "payload",
    "photos",
    "remote",
    "remote_cell",
    "session_images",
    "stores",
    "torch",
]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the suite's options."""
    add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Settle what is measured; this runs before pytest-benchmark reads its options."""
    configure(config)


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Describe the images, and the backends that are missing."""
    return describe_session(config)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make the cells of a benchmark."""
    parametrize(metafunc)


@pytest.hookimpl(trylast=True)  # after the cells that weren't chosen have left
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out what has no cells, and spread the reference cells over the session."""
    items[:] = spread_references(select_cells(items))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Note which cells will be measured."""
    start_measuring(session.config, session.items)


@pytest.hookimpl(wrapper=True)
def pytest_runtestloop(session: pytest.Session) -> Generator[None, object, object]:
    """Measure cells again in further processes, once all were measured in this one."""
    try:
        result = yield
    except KeyboardInterrupt as interrupt:
        raise interrupt.with_traceback(None) from None  # pytest can't print every line that Ctrl-C may arrive in
    if not session.config.option.collectonly:
        measure_again(session)
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note why a cell wasn't measured."""
    report = yield
    note_outcome(item, call, report)
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_report_teststatus(report: pytest.TestReport, config: pytest.Config) -> tuple[str, str, str] | None:
    """Show how long the rest of a session takes."""
    return describe_status(config, report)


def pytest_benchmark_update_json(config: pytest.Config, output_json: dict[str, Any]) -> None:
    """Add the suite's own facts to the JSON of the run."""
    complete_json(config, output_json)


def pytest_benchmark_group_stats(
    config: pytest.Config | None, benchmarks: Iterable[dict[str, Any]], group_by: str
) -> Sequence[tuple[str | None, list[dict[str, Any]]]]:
    """Group cells for pytest-benchmark's tables, also for its own command, which has no configuration."""
    return group_cells(config, benchmarks, group_by)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Find the answer of the run, compare it and write its page; a session that failed keeps its exit code."""
    code = finish(session.config)
    session.exitstatus = session.exitstatus or code


@pytest.hookimpl(trylast=True)  # below the tables of pytest-benchmark
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Show the answer of this run, and how it compares with the base."""
    show_reports(config, terminalreporter)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Print where the run and its page are, and what to type next."""
    show_files(config)
