"""What a cell is, as a digest, and the marker that says when it counts as slower."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from benchmarks.definition import SHARED, hash_definition, read_threshold

Make = Callable[..., pytest.Function]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Make what stands in for a cell that pytest has collected."""

    def make_item(source: str = "pass", mark: pytest.Mark | None = None, **params: str | int) -> pytest.Function:
        path = tmp_path / f"test_{len(list(tmp_path.iterdir()))}.py"
        path.write_text(source, encoding="ascii")
        callspec = SimpleNamespace(params=params)
        item = SimpleNamespace(path=path, nodeid="a", callspec=callspec, get_closest_marker={"threshold": mark}.get)
        return cast("pytest.Function", item)

    return make_item


def test_a_definition_is_sixteen_digits_and_stays(make: Make) -> None:
    digest = hash_definition(make(backend="png", cutoff=10))
    assert len(digest) == 16
    assert int(digest, 16) >= 0
    assert hash_definition(make(cutoff=10, backend="png")) == digest, "neither order nor place matter"


def test_a_definition_follows_the_benchmark_and_its_params(make: Make) -> None:
    items = [make(cutoff=10), make("return", cutoff=10), make(cutoff=100), make(cutoff="10"), make(count=10)]
    assert len({hash_definition(item) for item in items}) == len(items)


def test_a_definition_follows_what_measures_all_cells(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert all(path.is_file() for path in SHARED)
    before = hash_definition(make(cutoff=10))
    for place, path in enumerate(SHARED):
        changed = tmp_path / path.name
        changed.write_bytes(path.read_bytes() + b"\n")
        monkeypatch.setattr("benchmarks.definition.SHARED", (*SHARED[:place], changed, *SHARED[place + 1 :]))
        assert hash_definition(make(cutoff=10)) != before


def test_a_file_that_is_edited_while_it_runs_changes_nothing(make: Make) -> None:
    item = make(cutoff=10)
    before = hash_definition(item)
    item.path.write_text("edited", encoding="ascii")
    assert hash_definition(item) == before


def test_a_threshold_is_said_where_there_is_a_marker(make: Make) -> None:
    assert read_threshold(make()) == {}
    assert read_threshold(make(mark=pytest.mark.threshold(0.25).mark)) == {"threshold": 0.25}
    assert read_threshold(make(mark=pytest.mark.threshold(1).mark)) == {"threshold": 1.0}


@pytest.mark.parametrize("shares", [(), (0,), (10,), ("0.1",), (0.1, 0.2), (float("nan"),)], ids=repr)
def test_a_marker_without_a_share_is_refused(shares: tuple[object, ...], make: Make) -> None:
    with pytest.raises(pytest.UsageError, match=r"^a: threshold takes one share between 0 and 10, such as 0\.2$"):
        read_threshold(make(mark=pytest.mark.threshold(*shares).mark))
