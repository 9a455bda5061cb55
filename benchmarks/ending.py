"""The end of a session: what it found, whether that is slower than before, where it is saved, and what to type next."""

import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_benchmark.storage.file import FileStorage

from benchmarks.baseline import read_allowed
from benchmarks.session import SESSION
from benchmarks.tables import are_tables_wanted, take_regressions
from reports.answer import make_answer
from reports.compare.comparison import compare_runs
from reports.compare.text import make_verdicts
from reports.errors import WrongInputError
from reports.noise import Thresholds
from reports.page.command import write_page
from reports.reading import read_run
from reports.run import BrokenRunError, Run
from reports.text import escape_name


def finish(config: pytest.Config) -> int:
    """Find the answer of the run that was saved, compare it with the base, and write its page.

    Return the exit code of a fine session.
    """
    session = config.stash[SESSION]
    if session.saved is not None:
        _find_answer(config, session.saved)
    session.regressions = take_regressions(config.pluginmanager.getplugin("pytest-benchmark"))
    code = 1 if session.regressions else 0
    if session.base is not None:
        base_code, session.verdicts = _compare(config, session.base)
        code = code or base_code
    if config.option.page and not config.option.collectonly:
        page_code, session.page = _write_page(config)
        code = code or page_code
    return code or (3 if session.rescued else 0)


def _find_answer(config: pytest.Config, path: Path) -> None:
    """Find the answer of the run that was saved; it replaces tables that nobody asked for."""
    session, plugin = config.stash[SESSION], config.pluginmanager.getplugin("pytest-benchmark")
    try:
        session.answer = make_answer(read_run(path))
    except BrokenRunError as error:
        session.answer = "no answer", f"{escape_name(error)}\n"
    else:
        plugin.quiet = plugin.quiet or not are_tables_wanted(config)


def _compare(config: pytest.Config, base: Run) -> tuple[int, str]:
    path = config.stash[SESSION].saved
    if path is None:
        return 3, "no run was saved that could be compared: measure with --benchmark-only\n"
    try:
        comparison = compare_runs(base, read_run(path), Thresholds.threshold, read_allowed(config))
    except BrokenRunError as error:
        return 3, f"{error}\n"
    return comparison.choose_exit_code(config.option.compare_missing), make_verdicts(comparison)


def _write_page(config: pytest.Config) -> tuple[int, str]:
    path, out = config.stash[SESSION].saved, config.option.page
    if path is None:
        return 3, "no page: no run was saved; measure with --benchmark-only"
    try:
        base = config.stash[SESSION].base
        write_page([path], None if base is None else base.path, out, read_allowed(config))
    except (WrongInputError, OSError) as error:
        return 3, f"no page: {error}"
    return 0, f"page written to {out}"


def show_reports(config: pytest.Config, terminal: pytest.TerminalReporter) -> None:
    """Show the answer of this run, and how it compares with the base."""
    session = config.stash[SESSION]
    if session.answer is not None:
        title, text = session.answer
        terminal.section(title)
        terminal.write(text)
    if session.regressions:
        terminal.section("slower than --benchmark-compare-fail allows")
        terminal.write("".join(f"{escape_name(line)}\n" for line in session.regressions))
    if session.base is not None and session.verdicts:
        terminal.section(f"compared with {session.base.path.name}")
        terminal.write(session.verdicts)


def show_files(config: pytest.Config) -> None:
    """Print where the page and the run are, and what to type next."""
    session, terminal = config.stash.get(SESSION, None), config.pluginmanager.getplugin("terminalreporter")
    if session is None:  # the options were wrong
        return
    lines, path = [*session.rescued, *filter(None, [session.page])], session.saved
    if session.baseline is not None and path is not None:
        step = f"--compare-with={session.baseline.stem} compares a session with it"
        lines.append(f"baseline saved as {session.baseline}; {step}")
    if path is not None:
        kind = "run" if session.saved_complete else "INCOMPLETE run"
        lines.append(f"{kind} saved as {shorten_path(path)}")
        lines += [f"{start} {step}" for start, step in zip(("next:", "     "), _list_steps(config, path), strict=False)]
    for line in lines:
        terminal.write_line(escape_name(line))


def _list_steps(config: pytest.Config, path: Path) -> Iterator[str]:
    """List what to type next: what makes a page, and what compares runs that pytest-benchmark wouldn't find."""
    if not config.option.page:
        yield f"python -m reports page {shlex.quote(str(shorten_path(path)))} --out report.html"
    files = config.pluginmanager.getplugin("pytest-benchmark").storage
    if isinstance(files, FileStorage) and path.is_relative_to(files.path):
        runs = [file.name for file in files.query("[0-9][0-9][0-9][0-9]_*") if file.parent == path.parent]
        numbers = [name.partition("_")[0] for name in runs[-2:]]
        folder = shlex.quote(str(shorten_path(files.path)))
        yield f"python -m pytest_benchmark --storage={folder} compare {' '.join(numbers)}"


def shorten_path(path: Path) -> Path:
    """Make a path relative to the folder in which pytest was started, if it is there."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
