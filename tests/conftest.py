"""Fixtures of the tests: a backend's module, and a store that it wrote.

And the options of the faults: how many there are, and where they are counted.
"""

import gc
import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage import BACKENDS, Backend
from tests.faults.findings import find_rows
from tests.support.backends import EXAMPLES
from tests.support.image_sets import make_set
from tests.support.servers import bucket, bucket_proxy, bucket_server, own_cache, shared_proxy
from tests.support.threads import new_threads

__all__ = ["bucket", "bucket_proxy", "bucket_server", "new_threads", "own_cache", "shared_proxy"]  # fixtures

FOLDER = Path(__file__).parent
SAMPLED = (
    "tests/benchmarks/test_cell.py::test_no_store",
    "tests/benchmarks/test_page_cache.py",
    "tests/benchmarks/test_workers.py",
    "tests/faults/",
    "tests/storage/backends/test_png.py::test_a_flipped_bit",
    "tests/storage/dataset/",
    "tests/storage/sources/test_opening.py",
    "tests/storage/test_contract_encoded.py::test_a_large_file",
    "tests/storage/test_contract_encoded.py::test_a_store_that_was_cut_short",
    "tests/storage/test_convert_command.py",
    "tests/storage/test_forks.py",
    "tests/storage/test_hostile.py",
    "tests/storage/test_hostile_numbers.py",
    "tests/storage/test_library_errors.py",
    "tests/storage/test_out.py::test_an_unsuitable_array",
    "tests/storage/test_reader.py::test_a_reader_left_open",
    "tests/storage/test_reader.py::test_threads",
    "tests/storage/test_view.py::test_the_map",
    "tests/storage/test_view.py::test_views_survive",
)
"""How the tests begin in which three backends stand for all, unless slow tests are asked for."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of `tests.faults`."""
    group = parser.getgroup("faults", "faults that stores must survive (with -m slow)")
    group.addoption("--faults", choices=("usual", "full"), default="usual", help="how many (default: %(default)s)")
    group.addoption(
        "--faults-report", type=Path, metavar="FAULTS.json", help="write what was tried, and what came of it"
    )


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Write the report of the faults. Processes that share the tests have handed their counts over."""
    if config.option.faults_report:
        reports = [report for group in ("passed", "failed") for report in terminalreporter.getreports(group)]
        text = json.dumps(find_rows(reports), indent=1)
        config.option.faults_report.write_text(f"{text}\n", encoding="utf-8")


@pytest.hookimpl(tryfirst=True)  # before slow tests are deselected
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep only the tests of the backends that the command line names; if it names none, call some of them slow."""
    names = {name.strip() for name in (config.option.backends or "").split(",")} - {""}
    sampled = [item for item in items if not names and item.nodeid.startswith(SAMPLED)]
    for item in sampled:
        if is_about(item, set(BACKENDS) - set(EXAMPLES)):
            item.add_marker(pytest.mark.slow)
    others = [item for item in items if names and FOLDER in item.path.parents and not is_about(item, names)]
    if others:
        items[:] = [item for item in items if item not in set(others)]
        config.hook.pytest_deselected(items=others)


def pytest_collection_finish() -> None:
    """Spare the garbage collector what stays until the end: modules and collected tests."""
    gc.collect()
    gc.freeze()


def is_about(item: pytest.Item, backends: set[str]) -> bool:
    """Check whether a test has a backend as a parameter, or is in the file of one."""
    parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
    return item.path.stem.removeprefix("test_") in backends or any(
        isinstance(value, str) and value in backends for value in parameters
    )


@pytest.fixture(autouse=True, scope="session")
def _state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the secret of conversions out of the user's home, let children keep what they compile, and hear Ctrl-C."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # shells ignore it in the background
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        patch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
        yield


@pytest.fixture
def module(backend: str) -> Backend:
    """Turn the name of a backend into its module."""
    return BACKENDS[backend]


@pytest.fixture
def store(module: Backend, tmp_path: Path) -> Path:
    """Make a store of ten images."""
    module.store_many(tmp_path / "store", *make_set(10))
    return tmp_path / "store"
