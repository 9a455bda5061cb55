"""Projections: lines, intervals and limits of made-up sweeps."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from reports import projection
from reports.noise import UNKNOWN_SCATTER
from reports.projection import COUNTS, Limit, Projection, Sweep, project_run
from reports.run import Disk, Params, Result, Run
from tests.support.properties import example, given, st
from tests.support.results import BUFFERED, COLD, DURABLE, WARM, make_result, wrap_results
from tests.support.runs import IMAGE_BYTES

t = pytest.importorskip("scipy.stats", reason="SciPy is not installed: python -m pip install -e '.[gate]'").t

SWEEP = (10, 100, 1_000, 10_000, 100_000)


@pytest.fixture(scope="module")
def run() -> Run:
    """Make a run without results, on a machine without limits."""
    run = wrap_results()
    directory = replace(run.store_directory, free_bytes=2**62, free_inodes=None)
    return replace(run, memory_bytes=None, store_directory=directory)


def _make_cell(
    images: int,
    seconds: float,
    backend: str = "lmdb",
    operation: str = "read_many",
    params: Params = WARM,
    disk: Disk | None = None,
) -> Result:
    result = make_result(backend, seconds, images, operation=operation, params=params)
    return replace(result, rounds=(seconds,), disk=disk)


def _make_cells(counts: Sequence[int], measure: Callable[[int], float]) -> tuple[Result, ...]:
    return tuple(_make_cell(count, measure(count)) for count in counts)


def _store_cells(
    fixed: int, each: int, *, params: Params = BUFFERED, backend: str = "png", files: int = 0
) -> tuple[Result, ...]:
    """Make cells that store; each image takes `each` bytes of disk and adds `files` files."""
    disks = {count: Disk(1, fixed + each * count, 1 + files * count) for count in SWEEP}
    return tuple(_make_cell(count, 1e-5 * count, backend, "store_many", params, disk) for count, disk in disks.items())


def _project_one(run: Run, results: tuple[Result, ...]) -> Projection:
    """Project the cells of one backend and one operation that store nothing."""
    ((only,),) = (sweep.projections for sweep in project_run(replace(run, results=results)))
    return only


def _find_sweep(run: Run, results: tuple[Result, ...], quantity: str, params: Params) -> Sweep:
    sweeps = project_run(replace(run, results=results))
    (found,) = (sweep for sweep in sweeps if (sweep.quantity, sweep.params) == (quantity, params))
    return found


@given(
    fixed=st.floats(1e-6, 1),
    each=st.floats(1e-8, 1e-2),
    counts=st.sets(st.integers(1, 100_000), min_size=3, max_size=12),
)
@example(fixed=3e-4, each=2e-6, counts=set(SWEEP))
def test_an_exact_line_is_found_and_projected_with_the_scatter_of_processes(
    run: Run, fixed: float, each: float, counts: set[int]
) -> None:
    found = _project_one(run, _make_cells(sorted(counts), lambda count: fixed + each * count))
    assert (found.points, found.largest) == (len(counts), max(counts))
    assert found.misfit < 1e-6
    for count in counts:
        assert found.fixed + found.each * count == pytest.approx(fixed + each * count, rel=1e-6)
    for count, estimate in zip(COUNTS, found.estimates, strict=True):
        assert estimate.value == pytest.approx(found.fixed + found.each * count)
        assert estimate.low == pytest.approx(estimate.value * math.exp(-2 * UNKNOWN_SCATTER), rel=1e-3)
        assert estimate.high == pytest.approx(estimate.value * math.exp(2 * UNKNOWN_SCATTER), rel=1e-3)


def test_bytes_without_residuals_are_exact(run: Run) -> None:
    (found,) = _find_sweep(run, _store_cells(8192, 4096), "bytes", ()).projections
    for count, estimate in zip(COUNTS, found.estimates, strict=True):
        assert (estimate.low, estimate.value, estimate.high) == pytest.approx([8192 + 4096 * count] * 3)


def test_residuals_are_relative(run: Run) -> None:
    times = {10: 1e-3, 100: 1.1e-3, 1_000: 2e-3, 10_000: 12e-3, 100_000: 101e-3}
    found = _project_one(run, _make_cells(SWEEP, times.__getitem__))
    assert found.fixed == pytest.approx(1e-3, rel=0.05), "the largest cell alone doesn't show it"
    assert found.each == pytest.approx(1e-6, rel=0.05)


def test_the_misfit_is_that_of_the_worst_point(run: Run) -> None:
    times = dict.fromkeys(SWEEP, 1.0) | {1_000: 2.0}
    found = _project_one(run, _make_cells(SWEEP, times.__getitem__))
    assert found.misfit == pytest.approx(max(abs(1 - (found.fixed + found.each * n) / times[n]) for n in SWEEP))
    assert 0.3 < found.misfit < 0.5


@pytest.mark.parametrize(("noise", "least"), [(0.05, 0.95), (0.15, 0.90), (0.3, 0.85)])
def test_intervals_hold_about_95_percent(run: Run, noise: float, least: float) -> None:
    chance = np.random.default_rng(0)
    inside = [0, 0]
    for _ in range(400):
        errors = dict(zip((*SWEEP, *COUNTS), np.exp(chance.normal(0, noise, 7)).tolist(), strict=True))
        found = _project_one(run, _make_cells(SWEEP, lambda n, errors=errors: errors[n] * (4e-4 + 1e-6 * n)))  # type: ignore[misc]
        for place, (count, estimate) in enumerate(zip(COUNTS, found.estimates, strict=True)):
            inside[place] += estimate.low <= errors[count] * (4e-4 + 1e-6 * count) <= estimate.high
    assert all(count / 400 > least for count in inside), inside
    assert noise < 0.1 or all(count / 400 < 0.97 for count in inside), "too wide"


def test_quantiles_match_student_s_t() -> None:
    table = projection._QUANTILES  # noqa: SLF001 - the numbers themselves
    assert table == pytest.approx([t.ppf(0.975, freedom) for freedom in range(1, len(table) + 1)], abs=5e-4)


def test_more_points_than_quantiles_use_the_last_one(run: Run) -> None:
    times = {count: count * (1.3 if count % 20 else 0.7) for count in range(10, 410, 10)}
    found = _project_one(run, _make_cells(list(times), times.__getitem__))
    least = 1 + 2.228 * math.sqrt(sum((1 - found.each * n / times[n]) ** 2 for n in times) / 38)
    assert least < found.estimates[0].high / found.estimates[0].value < 1.2 * least


@pytest.mark.parametrize(
    ("measure", "fixed", "each"),
    [
        (lambda count: 1e-6 * count - 5e-6, 0, pytest.approx(1e-6, rel=0.5)),
        (lambda count: 1 - 1e-6 * count, pytest.approx(1, rel=0.1), 0),
    ],
    ids=["fixed", "each"],
)
def test_no_parameter_is_negative(run: Run, measure: Callable[[int], float], fixed: float, each: float) -> None:
    found = _project_one(run, _make_cells(SWEEP, measure))
    assert (found.fixed, found.each) == (fixed, each)
    residuals = [1 - (found.fixed + found.each * count) / measure(count) for count in SWEEP]
    for factor in (0.99, 1.01):  # the least squares of what is left
        others = [1 - factor * (found.fixed + found.each * count) / measure(count) for count in SWEEP]
        assert sum(each**2 for each in residuals) < sum(each**2 for each in others)


def test_a_flat_sweep_may_still_grow_past_its_end(run: Run) -> None:
    found = _project_one(run, _make_cells((10, 20, 30), {10: 1.0, 20: 1.1, 30: 0.9}.__getitem__))
    assert found.each == 0
    near, far = found.estimates
    assert near.value == far.value
    assert 0 < far.low < near.low
    assert far.high > COUNTS[-1] / 1_000


@pytest.mark.parametrize("counts", [(10,), (10, 1_000), (10, 10, 10)], ids=["one", "two", "one number"])
def test_fewer_than_three_numbers_of_images_and_other_operations_are_not_projected(
    run: Run, counts: tuple[int, ...]
) -> None:
    few = tuple(_make_cell(count, 1.0, "png") for count in counts)
    single = tuple(_make_cell(count, 1.0, operation="read_single") for count in SWEEP)
    assert project_run(replace(run, results=(*few, *single))) == ()
    sweep = _find_sweep(run, (*few, *_make_cells(SWEEP, float)), "seconds", WARM)
    assert [each.backend for each in sweep.projections] == ["lmdb"]


def test_numbers_of_images_may_hardly_differ(run: Run) -> None:
    found = _project_one(run, _make_cells((2**62, 2**62 + 1, 2**62 + 2), lambda _: 1.0))
    assert found.misfit < 1e-6


def test_backends_are_in_the_order_of_their_times_at_many_images(run: Run) -> None:
    costs = {"hdf5": (1e-3, 1e-6), "png": (1e-5, 1e-4), "lmdb": (1e-4, 2e-6)}
    cells = tuple(_make_cell(n, fixed + each * n, name) for n in SWEEP for name, (fixed, each) in costs.items())
    assert [each.backend for each in _find_sweep(run, cells, "seconds", WARM).projections] == ["hdf5", "lmdb", "png"]


def test_each_group_has_its_own_sweep(run: Run) -> None:
    kinds = {("store_many", BUFFERED): 1.0, ("store_many", DURABLE): 4.0, ("read_many", COLD): 2.0}
    kinds |= {("read_many", WARM): 0.5, ("read_epoch", WARM): 0.7}
    cells = tuple(_make_cell(n, cost * n, "png", *kind) for n in SWEEP for kind, cost in kinds.items())
    sweeps = project_run(replace(run, results=cells))
    assert {(each.operation, each.params): each.projections[0].each for each in sweeps} == pytest.approx(kinds)


def test_disk_use_is_that_of_buffered_stores_if_there_are_any(run: Run) -> None:
    durable = _store_cells(0, 5000, params=DURABLE) + _store_cells(0, 3000, params=DURABLE, backend="hdf5")
    sweep = _find_sweep(run, durable + _store_cells(0, 4000), "bytes", ())
    assert {each.backend: each.each for each in sweep.projections} == pytest.approx({"png": 4000})
    assert sweep.operation == "store_many"


def test_stores_of_no_bytes_are_not_projected(run: Run) -> None:
    sweeps = project_run(replace(run, results=_store_cells(-40_960, 4096)[:3]))
    assert [sweep.quantity for sweep in sweeps] == ["seconds"]


def _limit(run: Run, results: tuple[Result, ...], memory_bytes: int | None = None, **free: int) -> Limit | None:
    """Find the limit of one backend on a machine of that capacity."""
    directory = replace(run.store_directory, **free)  # type: ignore[arg-type]
    sweeps = project_run(replace(run, results=results, memory_bytes=memory_bytes, store_directory=directory))
    (limit,) = {each.limit for sweep in sweeps if sweep.quantity == "seconds" for each in sweep.projections}
    return limit


def test_memory_limits_the_image_set_or_a_larger_store(run: Run) -> None:
    limit = Limit(24 * 10**9 // IMAGE_BYTES, "memory: 24.0 GB")
    assert _limit(run, _make_cells(SWEEP, float), memory_bytes=24 * 10**9) == limit
    assert _limit(run, _store_cells(8192, 4096), memory_bytes=2**29) == Limit(2**17, "memory: 0.54 GB")
    smaller = _limit(run, _store_cells(8192, 1000), memory_bytes=2**29)
    assert smaller == Limit(2**29 // IMAGE_BYTES, "memory: 0.54 GB")


def test_inodes_and_free_disk_limit_a_store(run: Run) -> None:
    many, one = _store_cells(0, 4096, files=2), _store_cells(0, 4096)
    assert _limit(run, many, free_inodes=5_000_001) == Limit(2_500_000, "inodes: 5,000,001 free")
    assert _limit(run, one, free_inodes=5, free_bytes=4096 * 7) == Limit(7, "free disk: 0.00 GB")
    assert _limit(run, _make_cells(SWEEP, float), free_bytes=1) is None, "the size of its store is unknown"


def test_the_tightest_limit_counts_for_every_sweep_of_a_backend(run: Run) -> None:
    cells = (*_store_cells(0, 4096, files=1), *(_make_cell(count, 1.0, "png") for count in SWEEP))
    held = {"memory_bytes": 10**12, "free_bytes": 10**12, "free_inodes": 10**6}
    assert _limit(run, cells, **held) == Limit(10**6, "inodes: 1,000,000 free")
