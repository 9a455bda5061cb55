"""pytest-benchmark's tables and options: shown if asked for, rejected if they would have no effect."""

from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.tables import IGNORED, are_tables_wanted, check_cells, group_cells, take_regressions
from tests.benchmarks.test_options import collect

VALUES = {"--benchmark-warmup": "on", "--benchmark-precision": "0.02", "--benchmark-confidence": "0.9"}


@pytest.mark.parametrize("name", sorted(IGNORED))
def test_an_option_that_would_have_no_effect_is_rejected_with_the_reason(name: str) -> None:
    ended = collect(f"{name}={VALUES.get(name, '1')}")
    if "unrecognized arguments" in ended.stderr:
        pytest.skip(f"this pytest-benchmark has no {name}")
    assert ended.returncode == pytest.ExitCode.USAGE_ERROR
    assert f"{name[2:]}: it would have no effect: {IGNORED[name]}" in ended.stderr


def test_such_an_option_is_rejected_wherever_it_is_set() -> None:
    words = "benchmark-min-time: it would have no effect"
    assert words in collect(PYTEST_ADDOPTS="--benchmark-min-time=1").stderr
    assert words in collect("-o", "addopts=--benchmark-min-time=1").stderr


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--benchmark-group-by=backend", "benchmark-group-by: 'backend' is unknown: group, name, func, fullname"),
        ("--benchmark-histogram", "benchmark-histogram: pygal is not installed: python -m pip install pygal"),
    ],
    ids=["grouping", "histogram"],
)
def test_an_option_that_would_fail_after_measuring_is_rejected_before(
    option: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.tables.find_spec", lambda _: None)
    ended = collect(option)
    assert ended.returncode == pytest.ExitCode.USAGE_ERROR
    assert words in ended.stderr


def _make_session(**facts: Any) -> SimpleNamespace:  # noqa: ANN401 - whatever a session has
    return SimpleNamespace(**{"group_by": "group", "compare_fail": None, "compared_mapping": {}} | facts)


def test_cells_are_grouped_only_by_parameters_that_they_have() -> None:
    cells: Any = [SimpleNamespace(callspec=SimpleNamespace(params={"cutoff": 10, "backend": "npy"})), object()]
    check_cells(_make_session(group_by="func,param:backend"), cells)
    with pytest.raises(pytest.UsageError, match="no cell has a parameter 'disk', only backend, cutoff"):
        check_cells(_make_session(group_by="param:disk"), cells)


def test_failing_by_a_comparison_needs_a_run_to_compare_with() -> None:
    check_cells(_make_session(compare_fail=["median:5%"], compared_mapping={"0001_run.json": {}}), [])
    with pytest.raises(pytest.UsageError, match="no run to compare with: give --benchmark-compare"):
        check_cells(_make_session(compare_fail=["median:5%"]), [])


def test_cells_without_the_parameter_of_a_grouping_are_in_no_table() -> None:
    cells = [
        {"name": f"test_{name}", "fullname": f"test_{name}", "group": "read", "params": params}
        for name, params in (("copy", None), ("read", {"backend": "npy"}), ("store", {"backend": "png"}))
    ]
    by_backend = {group: [cell["name"] for cell in own] for group, own in group_cells(None, cells, "param:backend")}
    assert by_backend == {"backend=npy": ["test_read"], "backend=png": ["test_store"]}
    (group,) = group_cells(None, cells, "group")
    assert group[0] == "read"
    assert len(group[1]) == 3


@pytest.mark.parametrize(
    ("arguments", "addopts", "wanted"),
    [
        (["benchmarks", "--benchmark-only", "--benchmark-json=x.json"], "", False),
        (["benchmarks", "--benchmark-sort=name"], "", True),
        (["benchmarks", "--benchmark-columns", "median"], "", True),
        (["benchmarks"], "--benchmark-compare", True),
    ],
    ids=["other options", "with =", "with a blank", "environment"],
)
def test_tables_appear_if_their_options_are_given(
    arguments: list[str],
    addopts: str,
    wanted: bool,  # noqa: FBT001 - a parameter
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTEST_ADDOPTS", addopts)
    config: Any = SimpleNamespace(
        option=SimpleNamespace(tables=False), invocation_params=SimpleNamespace(args=arguments)
    )
    assert are_tables_wanted(config) is wanted
    config.option.tables = True
    assert are_tables_wanted(config)


def test_regressions_are_taken_from_pytest_benchmark() -> None:
    session = SimpleNamespace(performance_regressions=[("test_read", "median is 2 s")])
    assert take_regressions(session) == ["test_read: median is 2 s"]
    assert take_regressions(session) == []
