"""How often comparisons err: seeded processes of known scatter and drift, compared as a session does it."""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest

from reports.compare.comparison import Row, choose_cells, judge_cells
from reports.compare.statistics import Process
from reports.noise import Thresholds

CELLS = {f"cell{number}": 10.0 ** (number % 4 - 4) for number in range(12)}  # seconds
REFERENCES = dict.fromkeys(("copy", "write", "read", "hash", "interpret"), 1e-3)
COUNT = 20  # comparisons of each kind
Draw = Callable[[], dict[str, float]]


def make_draw(random: np.random.Generator, slow: Mapping[str, float], drift: float) -> Draw:
    """Make a function that draws a process: cells scatter by 2 to 12 %, and the machine's speed by 10 %."""
    scatters = dict(zip(CELLS, np.geomspace(0.02, 0.12, len(CELLS)), strict=True)) | dict.fromkeys(REFERENCES, 0.05)

    def draw() -> dict[str, float]:
        speed = drift + random.normal(0, 0.1)
        times = {**CELLS, **REFERENCES}
        noise = {cell: math.exp(speed + random.normal(0, scatters[cell])) for cell in times}
        return {cell: seconds * noise[cell] * slow.get(cell, 1.0) for cell, seconds in times.items()}

    return draw


def compare_as_a_session(base: Sequence[Process], draw: Draw) -> dict[str, Row]:
    """Compare with a base, and draw doubtful cells again as long as a session may."""
    new = [draw()]

    def judge() -> tuple[Row, ...]:
        return judge_cells(base, new, REFERENCES, dict.fromkeys(CELLS, Thresholds()))[0]

    for cells in choose_cells(judge, 1, lambda rows: [row.cell for row in rows]):
        process = draw()
        new.append({cell: process[cell] for cell in (*cells, *REFERENCES)})
    return {row.cell: row for row in judge()}


@pytest.mark.parametrize("drift", [0.0, math.log(2), -math.log(1.5)], ids=["no drift", "twice as slow", "faster"])
def test_no_cell_is_called_slower_without_a_change(drift: float) -> None:
    random = np.random.default_rng(1)
    for _ in range(COUNT):
        base = [make_draw(random, {}, 0.0)() for _ in range(10)]
        rows = compare_as_a_session(base, make_draw(random, {}, drift))
        assert not [row for row in rows.values() if row.verdict == "regression"]
        assert sum(row.verdict == "ok" for row in rows.values()) >= 3, "calm cells are certain to be unchanged"


@pytest.mark.parametrize(("factor", "least"), [(1.2, 0.55), (1.5, 0.9), (1.65, 0.95), (3.0, 1.0)])
def test_a_slower_cell_is_found_or_inconclusive_but_never_ok(factor: float, least: float) -> None:
    random, found = np.random.default_rng(2), 0
    cells = [cell for cell, seconds in CELLS.items() if seconds * (factor - 1) > 25e-6]
    for number in range(COUNT):
        base = [make_draw(random, {}, 0.0)() for _ in range(10)]
        slow = cells[number % len(cells)]
        rows = compare_as_a_session(base, make_draw(random, {slow: factor}, 0.0))
        assert rows[slow].verdict != "ok", slow
        found += rows[slow].verdict == "regression"
        assert [cell for cell, row in rows.items() if row.verdict == "regression" and cell != slow] == []
    assert found >= least * COUNT


def test_a_change_of_every_cell_is_found_and_is_no_drift() -> None:
    random = np.random.default_rng(3)
    found = []
    for _ in range(COUNT):
        base = [make_draw(random, {}, 0.0)() for _ in range(10)]
        rows = compare_as_a_session(base, make_draw(random, dict.fromkeys(CELLS, 1.3), 0.2))
        found.append(np.mean([row.verdict == "regression" for row in rows.values()]))
        assert not [row for row in rows.values() if row.verdict == "ok"]
    assert np.mean(found) > 0.85


def test_a_base_of_one_process_is_never_called_ok_and_shows_what_it_says() -> None:
    random = np.random.default_rng(4)
    cell = "cell3"
    for _ in range(COUNT):
        base = [make_draw(random, {}, 0.0)()]
        rows = compare_as_a_session(base, make_draw(random, {cell: 2.9}, 0.0))
        assert rows[cell].verdict == "regression"
        assert rows[cell].detectable < 2.9
