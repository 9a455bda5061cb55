"""The answer of a page in one sentence."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from reports.matrix import View, make_views
from reports.reading import read_run
from reports.sentence import find_catch, write_pitch, write_price, write_sentence
from tests.support.pages import make_html, read_page
from tests.support.photo_runs import make_photo_run
from tests.support.results import make_result, make_store, wrap_results
from tests.support.runs import make_run, save


def _view(**seconds: float) -> View:
    """Make the view of backends that read everything in that many seconds."""
    results = [make_result(name, each) for name, each in seconds.items()]
    return next(iter(make_views(wrap_results(*results)).values()))


@pytest.mark.parametrize(
    ("seconds", "sentence"),
    [
        ({"npy": 1.0}, "Use npy: nothing else was measured."),
        ({"npy": 1.0, "hdf5": 2.0}, "Use npy: first or tied in 1 of 1 uses."),
        ({"npy": 1.0, "hdf5": 1.05}, "Use npy: first or tied in 1 of 1 uses. hdf5 is as good."),
        ({"npy": 1.0, "hdf5": 1.0, "raw": 1.0}, "Use hdf5: first or tied in 1 of 1 uses. npy and raw are as good."),
        ({f"raw{place}": 1.0 for place in range(8)}, "Use raw0: first or tied in 1 of 1 uses. 7 others are as good."),
        (
            {"npy": 1.0, "png": 210.0},
            "Use npy: first or tied in 1 of 1 uses. png only if people must open single files: 210x the best to scan.",
        ),
        (
            {"npy": 1.0, "png": 1.5},
            "Use npy: first or tied in 1 of 1 uses. png costs little: less than 2x the best in time.",
        ),
        ({"npy": 1.0, "png": 1.05}, "Use npy: first or tied in 1 of 1 uses. png is as good."),
        ({"npy": 3.0, "png": 1.0}, "Use png: first or tied in 1 of 1 uses."),
    ],
    ids=["alone", "one", "two", "three", "a crowd", "dear", "cheap", "as good", "popular"],
)
def test_the_sentence_says_what_to_use_what_is_as_good_and_what_the_popular_choice_costs(
    seconds: dict[str, float], sentence: str
) -> None:
    assert write_sentence(_view(**seconds)) == sentence


def test_the_sentence_says_where_a_backend_is_worst_and_what_is_first_there() -> None:
    results = [make_result(name, each, operation="read_epoch") for name, each in (("npy", 1.0), ("tar", 9.0))]
    results += [make_result(name, each) for name, each in (("npy", 3.0), ("tar", 1.0))]
    view = next(iter(make_views(wrap_results(*results)).values()))
    first, second = view.rows
    assert (
        write_pitch(view, first) == "first or tied in 1 of 2 uses; at worst 3.00x the best, to scan, where tar is first"
    )
    assert write_pitch(view, second).endswith("at worst 9.00x the best, to train, where npy is first")
    results += [make_result(f"raw{place}", 1.0) for place in range(2)]
    view = next(iter(make_views(wrap_results(*results)).values()))
    assert write_pitch(view, view.rows[0]) == "first or tied in 1 of 2 uses; at worst 3.00x the best, to scan"


def test_a_use_says_what_its_first_costs_to_train_if_it_is_ten_times_the_best_or_more() -> None:
    epochs = [make_result(name, each, operation="read_epoch") for name, each in (("npy", 1.0), ("gzip", 30.0))]
    stores = [make_store(name, 1.0, size) for name, size in (("npy", 3000), ("gzip", 2000))]
    view = next(iter(make_views(wrap_results(*epochs, *stores)).values()))
    catches = {use.name: find_catch(view, use) for use in view.uses}
    assert catches == {"train": "", "write": "", "disk": "but 30.0x slower to train", "files": ""}
    only_sizes = replace(view, uses=tuple(use for use in view.uses if not use.operations))
    assert find_catch(only_sizes, only_sizes.uses[0]) == ""


def test_the_sentence_says_which_payload_it_is_about(tmp_path: Path) -> None:
    views = make_views(read_run(save(make_photo_run(), tmp_path)))
    words = {name: write_sentence(views[f"1000/warm/one/{name}"]).partition(":")[0] for name in ("encoded", "pixels")}
    assert words == {"encoded": "Use lmdb for image files", "pixels": "Use lmdb for pixels"}


def test_without_a_backend_in_all_uses_there_is_no_advice() -> None:
    results = [make_result("npy", 1.0), make_result("tar", 1.0, operation="read_epoch")]
    view = next(iter(make_views(wrap_results(*results)).values()))
    assert write_sentence(view) == "No backend was measured in all uses with a weight."
    assert write_price(view) == ""


@pytest.mark.parametrize("document", [make_run(durable=True, cold=True), make_photo_run(), make_run(["png", "npy"])])
def test_every_number_of_the_sentence_is_in_the_matrix(document: object, tmp_path: Path) -> None:
    page = read_page(make_html(document, tmp_path))
    (sentence,), (matrix,) = page.find("p", id="sentence"), page.find("table", id="matrix")
    numbers = re.findall(r"\d+ of \d+|[\d,.]+x", sentence.text)
    assert len(numbers) >= 2, sentence.text
    cells = [each.text for tag in ("td", "strong") for each in matrix.find(tag)]
    assert set(numbers) <= set(cells), f"{sentence.text}: not all of {numbers} are in the matrix"
