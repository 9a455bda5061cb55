"""Fixtures of the faults: how far a harness goes, where its stores are, and where its counts go."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.options import read_options
from tests.faults.extent import Extent
from tests.faults.strace import find_obstacle
from tests.support.backends import EXAMPLE, EXAMPLES

FOLDER = Path(__file__).parent
MEMORY = Path("/dev/shm")  # noqa: S108 - in memory a sync takes no time; what is killed there is killed as anywhere


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Try samples with three backends, unless the command line names some: slow tests try more cases with all."""
    spared = {item for item in items if not config.option.backends and item.path.parent == FOLDER and is_spared(item)}
    items[:] = [item for item in items if item not in spared]
    config.hook.pytest_deselected(items=list(spared))


def is_spared(item: pytest.Item) -> bool:
    """Check whether a test is the sample of a backend that is no example."""
    params = item.callspec.params if hasattr(item, "callspec") else {}
    return params.get("extent") == "sample" and params.get("backend", EXAMPLE) not in EXAMPLES


@pytest.fixture(params=["sample", pytest.param("all", marks=pytest.mark.slow)])
def extent(request: pytest.FixtureRequest) -> Extent:
    """Have a test run for a sample, and for everything if asked for."""
    return Extent(
        sample=request.param == "sample",
        full=request.config.getoption("--faults") == "full",
        backends=len(read_options(request.config).backends),
    )


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Make an empty folder, in memory where there is such a file system."""
    made = Path(tempfile.mkdtemp(dir=MEMORY if MEMORY.is_dir() else tmp_path))
    yield made
    shutil.rmtree(made)


@pytest.fixture
def traced() -> None:
    """Skip where no system call can be traced."""
    if reason := find_obstacle():
        pytest.skip(reason)
