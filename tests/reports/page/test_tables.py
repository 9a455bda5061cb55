"""The tables of a page: their entries, the numbers they are sorted by, and their small drawings."""

import re
from dataclasses import replace

import pytest

from reports.compare.comparison import compare_runs
from reports.figures.plan import Subplot
from reports.page import tables
from reports.projection import project_run
from reports.run import Result
from tests.support.properties import given, st
from tests.support.results import BUFFERED, COLD, DURABLE, WARM, make_result, make_store, wrap_results

WIDTH, HEIGHT = tables.STRIP


def _texts(table: tables.Table) -> list[list[str]]:
    assert all(len(row) == len(table.columns) for row in table.rows)
    return [[entry.text for entry in row] for row in table.rows]


def _numbers(table: tables.Table, column: str) -> list[float | None]:
    place = table.columns.index(column)
    return [row[place].number for row in table.rows]


def test_the_table_of_a_subplot_has_its_exact_numbers() -> None:
    lines = {"png": [(10, 1.0, 2.5, 300.0), (1000, 4.0, 4.0, 4.0)], "lmdb": [(1000, 0.5, 0.5, 0.5)]}
    table = tables.tabulate_subplot("Time to read", Subplot("to read (warm)", "seconds", lines))
    assert table.caption == "Time to read: to read (warm), seconds by number of images"
    assert table.columns == ("backend", "10", "1,000")
    assert _texts(table) == [["png", "2.50 (1.00 to 300)", "4.00"], ["lmdb", "-", "0.50"]]
    assert _numbers(table, "10") == [2.5, None]
    assert _numbers(table, "1,000") == [4.0, 0.5]


def test_a_subplot_of_single_values_has_a_column_for_x() -> None:
    lines = {"lmdb": [(10, 1.0, 2.0, 3.0)], "png": [(2000, 2.0, 2.0, 2.0)]}
    table = tables.tabulate_subplot("Disk use", Subplot("", "bytes", lines))
    assert (table.caption, table.columns) == ("Disk use", ("backend", "number of images", "bytes"))
    assert _texts(table) == [["lmdb", "10", "2.00 (1.00 to 3.00)"], ["png", "2,000", "2.00"]]


def test_each_cell_is_shown_with_its_rounds() -> None:
    stable = replace(make_result("png", [2.0, 1.9, 2.1, 2.0]), peak_bytes=3_000_000)
    unstable = make_result("lmdb", [0.001, 0.002], operation="store_many", disk=(4000, 1))
    (table,) = tables.tabulate_rounds(wrap_results(stable, unstable))
    assert [row[:-1] for row in _texts(table)] == [
        ["test_store_many[lmdb-1000-warm]", "2", "1.50 ms", "500 µs", "666,667", "unstable", "-", "4.00 kB", "-"],
        ["test_read_many[png-1000-warm]", "4", "2.00 s", "50.0 ms", "500", "stable", "3.00 MB", "-", "-"],
    ]
    assert _numbers(table, "median") == pytest.approx([0.0015, 2.0])
    assert _numbers(table, table.columns[-1]) == pytest.approx([0.001 / 0.0015, 0.95]), "sorted by the quickest round"
    assert all(row[-1].ticks for row in table.rows)
    assert table.results == (unstable, stable)


def _read_strip(result: Result) -> dict[int, int]:
    """Read the ticks of a strip: place -> height."""
    path = tables.draw_strip(result)
    assert re.fullmatch(r"M\d+,\d+v-\d+(m\d+,\d+v-\d+)*", path)
    ticks, place, height = {}, 0, 0
    for right, down, up in re.findall(r"(\d+),(\d+)v-(\d+)", path):
        place, height = place + int(right), height + int(down)
        assert height == HEIGHT, "each tick starts at the bottom"
        ticks[place] = int(up)
        height -= int(up)
    return ticks


def test_a_strip_reaches_from_half_to_twice_the_median() -> None:
    strip = _read_strip(make_result("png", [0.01, 0.5, 1.0, 1.0, 1.0, 2**0.5, 90.0]))
    assert strip == {1: 2 + round(6 * (2 / 3) ** 0.5), 50: 8, 75: 5, 99: 5}


@given(st.lists(st.floats(1e-12, 1e9), min_size=1, max_size=50))
def test_each_round_has_a_tick_inside_the_strip(rounds: list[float]) -> None:
    strip = _read_strip(make_result("png", rounds))
    assert all(1 <= place <= WIDTH - 1 for place in strip)
    assert all(2 < height <= HEIGHT for height in strip.values())
    assert max(strip.values()) == HEIGHT
    assert len(strip) <= len(rounds)


def test_a_projection_is_shown_with_its_line_its_intervals_and_its_limit() -> None:
    run = wrap_results(*(make_store("png", 1.1e-3 + 2e-6 * n, 4000 * n, images=n) for n in (10, 100, 1000)))
    seconds, size = map(tables.tabulate_sweep, project_run(run))
    assert seconds.caption == "Time to store (buffered), projected from up to 1,000 images"
    assert size.caption == "Bytes on disk, allocated, projected from up to 1,000 images"
    millions, hundred = "2,000,000 images", "100,000,000 images"
    assert seconds.columns == ("backend", millions, hundred, "valid up to", "fixed", "each image", "worst misfit")
    estimates = ["4.00 s (3.28 s to 4.89 s)", "200 s (164 s to 244 s), past the limit"]
    assert _texts(seconds) == [["png", *estimates, "6,400,000 (memory: 25.8 GB)", "1.10 ms", "2.00 µs", "0 %"]]
    assert _texts(size)[0][1] == "8.00 GB (8.00 GB to 8.00 GB)"
    assert _texts(size)[0][4:] == ["0", "4.00 kB", "0 %"]
    assert "memory" not in _texts(size)[0][3], "memory doesn't limit disk use"
    assert _numbers(seconds, "valid up to") == [24 * 2**30 // 4000]
    assert _numbers(seconds, millions) == pytest.approx([4.0011])
    reads = wrap_results(*(make_result("png", 1.1e-3 + 2e-6 * n, n) for n in (10, 100, 1000)))
    (unlimited,) = map(tables.tabulate_sweep, project_run(replace(reads, memory_bytes=None)))
    assert _texts(unlimited)[0][2:4] == ["200 s (164 s to 244 s)", "unknown"]


def test_a_comparison_starts_with_slower_cells_and_ends_with_unpaired_ones() -> None:
    names = [f"backend{number}" for number in range(12)]
    factors = dict.fromkeys(names, 1.0) | {"backend3": 0.01, "backend7": 100.0}
    results = [make_result(name, 1.0) for name in names]
    replicate = {result.cell: result.rounds for result in results}
    base = replace(wrap_results(*results, make_result("gone", 1.0)), replicates=(replicate,) * 9)
    news = [make_result(name, factor) for name, factor in factors.items()]
    replicate = {result.cell: result.rounds for result in news}
    noisy = tuple(replicate | {news[9].cell: (factor,)} for factor in (1.0, 90.0, 0.01))
    new = replace(wrap_results(*news, make_result("come", 2.0)), replicates=noisy)
    (table,) = tables.tabulate_comparison(compare_runs(base, new, 5))
    rows = _texts(table)
    assert [row[0].partition("[")[2].partition("-")[0] for row in rows[:3]] == ["backend7", "backend3", "backend9"]
    assert [row[-1] for row in rows] == ["regression", "improvement", "inconclusive", *["ok"] * 9, "missing", "new"]
    assert rows[0][1:4] == ["1.00 s", "100 s", "100"]
    assert re.fullmatch(r"above \d\d\.\d", rows[0][4])
    assert rows[-2][1:] == ["1.00 s", "", "", "", "missing"]
    assert rows[-1][1:] == ["", "2.00 s", "", "", "new"]
    assert _numbers(table, "new / base")[:2] == pytest.approx([100, 0.01])


def test_a_history_shows_each_cell_of_the_last_run_in_all_runs() -> None:
    runs = [
        wrap_results(make_result("png", 1.0), make_result("gone", 1.0)),
        wrap_results(make_result("lmdb", 1.0)),
        wrap_results(make_result("png", 4.0), make_result("lmdb", 1.0)),
        wrap_results(make_result("png", 2.0), make_result("lmdb", 0.1), make_result("come", 1.0)),
    ]
    (table,) = tables.tabulate_history(runs)
    assert table.columns[2:] == ("2026-11-21 06:39",) * 4
    assert [row[2:] for row in _texts(table)] == [
        ["1.00 s", "", "4.00 s", "2.00 s"],
        ["", "1.00 s", "1.00 s", "100 ms"],
        ["", "", "", "1.00 s"],
    ]
    courses = [row[1].ticks for row in table.rows]
    assert courses == ["M2,7.5M66,0.5L98,4.0", "M34,0.5L66,0.5L98,4.0", "M98,4.0"], "half as long is below; gaps stay"
    assert _numbers(table, table.columns[1]) == [2.0, 0.1, 1.0]


def test_cells_measured_in_different_ways_share_no_table() -> None:
    run = wrap_results(*(make_result("png", 1.0, params=each) for each in (WARM, COLD, BUFFERED, DURABLE, ())))
    comparison = tables.tabulate_comparison(compare_runs(run, run, 0.1))
    for parts in (tables.tabulate_rounds(run), tables.tabulate_history([run, run]), comparison):
        ways = [table.caption.rpartition(": ")[2] for table in parts]
        assert sorted(ways) == ["buffered", "cold", "durable", "other", "warm"]
        assert all(len(table.rows) == 1 for table in parts)
