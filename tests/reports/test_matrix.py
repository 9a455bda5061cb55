"""The matrix of a page: which states it has, and how each backend does in each use."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from reports.matrix import PROJECTED, USES, View, make_views
from reports.noise import UNKNOWN_SCATTER
from reports.reading import read_run
from reports.run import Params, Result
from tests.support.photo_runs import make_photo_run
from tests.support.results import BUFFERED, COLD, WARM, make_result, make_store, wrap_results
from tests.support.runs import make_run, save


def _view(*results: Result, key: str = "") -> View:
    """Make the view of one state, or the default one."""
    views = make_views(wrap_results(*results))
    return views[key] if key else next(iter(views.values()))


def _find_cells(view: View, use: str) -> dict[str, tuple[float, str]]:
    return {row.backend: (row.cells[use].ratio, row.cells[use].standing) for row in view.rows if use in row.cells}


def _read_all(backend: str, seconds: float, images: int = 1000) -> list[Result]:
    """Make a cell for each use; reading one image takes a thousandth."""
    reads = [make_result(backend, seconds, images, operation=name) for name in ("read_many", "read_epoch")]
    single = make_result(backend, seconds / images, 1, operation="read_single", store_images=images)
    return [*reads, single, make_store(backend, seconds, 3000 * images, images=images)]


def test_each_use_is_compared_with_its_best_backend_in_time_or_size_for_an_image() -> None:
    fast, small = _read_all("fast", 1.0), _read_all("small", 4.0)
    small[-1] = make_store("small", 4.0, 1_000_000)
    view = _view(*fast, *small)
    assert [use.name for use in view.uses] == ["train", "scan", "disk", "write", "open", "files"]
    ratios = {row.backend: {name: cell.ratio for name, cell in row.cells.items()} for row in view.rows}
    assert ratios["small"] == {"train": 4, "scan": 4, "disk": 1, "write": 4, "open": 4, "files": 1}
    assert ratios["fast"] == {"train": 1, "scan": 1, "disk": 3, "write": 1, "open": 1, "files": 1}
    texts = {row.backend: {name: cell.text for name, cell in row.cells.items()} for row in view.rows}
    assert texts["fast"]["scan"] == texts["fast"]["open"] == "1.00 ms"
    assert (texts["fast"]["disk"], texts["fast"]["files"]) == ("3.00 kB", "1 file")
    assert [row.firsts for row in view.rows] == [5, 2]
    assert view.list_leaders(USES[2]) == ["small"]


def test_of_backends_that_tie_in_a_use_those_with_the_best_scores_are_shown() -> None:
    one, two, three = _read_all("one", 1.05), _read_all("two", 1.0), _read_all("three", 1.02)
    two[-1], three[-1] = make_store("two", 9.0, 9_000_000), make_store("three", 3.0, 3_000_000)
    view = _view(*one, *two, *three, *_read_all("four", 4.0))
    assert [row.backend for row in view.rows][:3] == ["one", "three", "two"]
    assert [backend for backend, _ in view.choose_top(USES[0])] == ["one", "three", "two"]
    assert [backend for backend, _ in view.rank(USES[0])][:3] == ["two", "three", "one"]


def test_only_real_ties_are_first_and_noise_is_named() -> None:
    noisy = [0.9, 0.9, 4.0, 8.0, 8.0]
    results = [
        make_result("best", 1.0),
        make_result("close", 1.05),
        make_result("far", 5.0),
        make_result("wild", noisy),
    ]
    view = _view(*results)
    assert _find_cells(view, "scan") == {
        "best": (1.0, "best"),
        "close": (1.05, "best"),
        "wild": (4.0, "noisy"),
        "far": (5.0, "behind"),
    }
    assert [row.backend for row in view.rows if row.cells["scan"].unstable] == ["wild"]


def test_colours_follow_the_logarithm_of_the_ratio() -> None:
    results = [make_result(f"{ratio}", float(ratio)) for ratio in (1, 2, 4, 20, 40, 200, 400, 40_000)]
    heats = {row.backend: row.cells["scan"].heat for row in _view(*results).rows}
    assert [heats[name] for name in ("2", "4", "20", "40", "200", "400", "40000")] == [1, 2, 3, 4, 5, 6, 6]


def test_rows_are_sorted_by_the_weighted_geometric_mean_of_ratios() -> None:
    slow, fast = _read_all("slow", 8.0), _read_all("fast", 1.0)
    fast[-1] = make_store("fast", 1.0, 6_000_000)
    view = _view(*slow, *fast)
    weights = {use.name: use.weight for use in view.uses}
    assert sum(use.weight for use in USES) == 100
    assert [row.backend for row in view.rows] == ["fast", "slow"]
    for row in view.rows:
        product = math.prod(cell.ratio ** (weights[name] / sum(weights.values())) for name, cell in row.cells.items())
        assert row.score == pytest.approx(product)


def test_a_backend_without_a_weighted_use_has_no_score_and_comes_last() -> None:
    view = _view(*_read_all("all", 9.0), make_result("some", 1.0), make_result("other", 1.0))
    assert [(row.backend, row.score is None) for row in view.rows] == [("all", False), ("other", True), ("some", True)]


def test_a_use_without_a_weight_alone_gives_no_score() -> None:
    view = _view(make_result("npy", 1.0, operation="read_epoch_dataloader"))
    assert [use.name for use in view.uses] == ["torch"]
    assert view.rows[0].score is None
    assert view.unmeasured == [use.title for use in USES if use.weight]


def test_the_default_state_compares_most_and_then_most_images() -> None:
    results = [*_read_all("png", 1.0, 10), *_read_all("png", 1.0, 100), make_result("png", 1.0, 1000)]
    views = make_views(wrap_results(*results, make_result("png", 1.0, 100, params=COLD)))
    assert next(iter(views)) == "100/warm/one/"
    assert set(views) == {f"{images}/warm/one/" for images in (10, 100, 1000, PROJECTED)} | {
        f"{images}/cold/one/" for images in (10, 100)
    }
    assert views["100/warm/one/"].title == "100 images, warm cache, one worker"


def test_cold_reads_don_t_mix_with_warm_ones() -> None:
    results = [make_result(name, seconds) for name, seconds in (("png", 1.0), ("npy", 2.0))]
    cold = [make_result(name, seconds, params=COLD) for name, seconds in (("png", 9.0), ("npy", 3.0))]
    assert _find_cells(_view(*results, *cold), "scan")["npy"] == (2.0, "behind")
    assert _find_cells(_view(*results, *cold, key="1000/cold/one/"), "scan")["png"] == (3.0, "behind")
    assert _view(*cold).state.cache == "cold", "what isn't there isn't offered"


def _work(backend: str, seconds: float, workers: int, start: str = "fork") -> Result:
    params: Params = (*WARM, ("start", start), ("workers", workers))
    return make_result(backend, seconds, operation="read_epoch_workers", params=params)


def test_all_workers_are_as_many_as_were_measured_and_started_by_fork() -> None:
    alone = make_result("npy", 8.0, operation="read_epoch")
    more = [_work("npy", 5.0, 2), _work("npy", 3.0, 4), _work("npy", 4.0, 4, "spawn"), _work("npy", 9.0, 1)]
    texts = {
        key: _view(alone, *more, key=key).rows[0].cells["train"].text for key in ("1000/warm/one/", "1000/warm/all/")
    }
    assert texts == {"1000/warm/one/": "8.00 ms", "1000/warm/all/": "3.00 ms"}
    only_one = make_views(
        wrap_results(alone, _work("npy", 9.0, 1), make_result("npy", 1.0, params=(("workers", "x"),)))
    )
    assert {view.state.workers for view in only_one.values()} == {"one"}


def test_training_on_image_files_includes_decoding_and_payloads_don_t_mix(tmp_path: Path) -> None:
    run = read_run(save(make_photo_run(), tmp_path))
    views = make_views(run)
    assert next(iter(views)) == "1000/warm/one/encoded"
    pixels, encoded, threaded = (
        views[f"1000/warm/{workers}"] for workers in ("one/pixels", "one/encoded", "all/encoded")
    )
    assert encoded.title == "1,000 images, encoded, warm cache, decoded by 1 thread to train"
    assert [{row.backend for row in view.rows} for view in (pixels, encoded)] == [
        {"lmdb", "npy"},
        {"files", "lmdb", "npy"},
    ]
    one, two = (view.rank(USES[0])[0][1].value for view in (encoded, threaded))
    assert one == pytest.approx(1e-3, rel=0.1)
    assert two == pytest.approx(0.5e-3, rel=0.1)


def test_two_million_images_are_projected_where_there_is_a_line() -> None:
    counts = (10, 100, 1000)
    reads = {"fast": 1e-6, "close": 1.08e-6, "vague": 1.15e-6, "slow": 9e-6}
    results = [make_result(name, each * count, count) for name, each in reads.items() for count in counts]
    results += [make_store("fast", 1e-6 * count, 4000 * count, images=count) for count in counts]
    results += [make_result("fast", 1e-4, 1, operation="read_single", store_images=count) for count in counts]
    view = _view(*results, key=f"{PROJECTED}/warm/one/")
    assert view.title == "2,000,000 images, projected, warm cache, one worker"
    assert [use.name for use in view.uses] == ["scan", "disk", "write"], "one image and files aren't projected"
    cells = _find_cells(view, "scan")
    standings = {name: standing for name, (_, standing) in cells.items()}
    assert standings == {"fast": "best", "close": "best", "vague": "noisy", "slow": "behind"}
    assert cells["slow"][0] == pytest.approx(9)
    assert math.exp(UNKNOWN_SCATTER) < cells["vague"][0]
    (scan,) = (row.cells["scan"] for row in view.rows if row.backend == "fast")
    assert scan.text == "1.00 µs", "of an image"
    assert scan.reason == "", "24 GiB hold two million of 4 kB"


def test_a_projection_past_the_limit_of_the_machine_says_so() -> None:
    run = wrap_results(*(make_result("npy", 1e-6 * count, count) for count in (10, 100, 1000)))
    view = make_views(replace(run, memory_bytes=10**9))[f"{PROJECTED}/warm/one/"]
    assert view.rows[0].cells["scan"].reason == "memory: 1.00 GB"


def test_a_run_without_any_use_has_no_view() -> None:
    assert make_views(wrap_results(make_result("png", 1.0, operation="an_unknown_one"))) == {}


def test_stores_of_no_bytes_have_no_size() -> None:
    view = _view(make_store("png", 1.0, 0), make_result("npy", 1.0, operation="store_many", params=BUFFERED))
    assert [use.name for use in view.uses] == ["write", "files"]


def test_a_run_of_everything_has_a_view_of_each_combination(tmp_path: Path) -> None:
    views = make_views(read_run(save(make_run(durable=True, cold=True, workers=(1, 2)), tmp_path)))
    assert len(views) == 2 * 2 * 4, "caches, workers, numbers of images"
    assert next(iter(views)) == "1000/warm/one/"
