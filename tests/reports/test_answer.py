"""The answer at the end of a session: the ranks of the page, in lines of 80 columns."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from reports.answer import WIDTH, make_answer
from reports.matrix import make_views
from reports.payloads import choose_payloads
from reports.reading import read_run
from reports.run import Result
from reports.sentence import write_sentence
from tests.support.photo_runs import make_photo_run
from tests.support.results import COLD, make_result, make_store, wrap_results
from tests.support.runs import make_run, save


def _answer(*results: Result) -> list[str]:
    """Answer what to use; return the lines below the sentence."""
    lines = make_answer(wrap_results(*results))[1].splitlines()
    return lines[lines.index("") + 1 :]


def _scan(**backends: float | Sequence[float]) -> list[str]:
    """Answer how to read everything, 1,000 images; return the lines below the header."""
    return _answer(*(make_result(backend, seconds) for backend, seconds in backends.items()))[2:-2]


def test_the_answer_begins_with_the_sentence_of_the_page_and_the_state_that_it_is_about(tmp_path: Path) -> None:
    run = read_run(save(make_run(workers=(1, 2), cold=True), tmp_path))
    view = next(iter(make_views(run).values()))
    assert view.title == "1,000 images, warm cache, one worker"
    sentence = make_answer(run)[1].partition("\n\n")[0]
    assert " ".join(sentence.split()) == f"{write_sentence(view)} ({view.title})"


def test_each_use_has_its_best_backend_with_the_time_of_an_image_and_the_next_one_with_its_ratio() -> None:
    lines = _answer(
        make_result("npy", 0.001), make_result("lmdb", 0.0025), make_result("png", 0.5), make_store("npy", 0.5, 8000)
    )
    assert lines == [
        "use                    images  best, an image takes          next best",
        "--------------------  -------  ----------------------------  -------------------",
        "Scan everything         1,000  npy 1.00 µs                   lmdb 2.50x",
        "Write once              1,000  npy 500 µs                    no other measured",
        "  not measured: lmdb and png",
        "Least disk              1,000  npy 8 bytes                   no other measured",
        "  not measured: lmdb and png",
        "Few files               1,000  npy 1 file in all             no other measured",
        "  not measured: lmdb and png",
        "",
        "noisy: 0 of 4 cells",
    ]


def test_the_best_of_a_use_that_is_far_behind_in_training_says_so() -> None:
    epochs = [make_result(name, each, operation="read_epoch") for name, each in (("npy", 0.001), ("gzip", 0.03))]
    lines = _answer(*epochs, make_store("npy", 1.0, 3000), make_store("gzip", 1.0, 2000))
    place = next(place for place, line in enumerate(lines) if line.startswith("Least disk"))
    assert lines[place + 1] == "  but 30.0x slower to train"
    assert sum("to train" in line for line in lines) == 1, lines


def test_backends_that_tie_are_named_together_and_each_of_the_next_has_its_ratio() -> None:
    assert _scan(npy=0.001, lmdb=0.00105, tar=0.002, png=0.0021) == [
        "Scan everything         1,000  lmdb and npy tie: 1.00 µs     tar 2.00x,",
        "                                                             png 2.10x",
    ]
    assert _scan(npy=0.001, lmdb=0.00105) == [
        "Scan everything         1,000  lmdb and npy tie: 1.00 µs     no other is behind"
    ]


def test_what_only_noise_keeps_in_a_tie_is_too_noisy_to_rank() -> None:
    assert _scan(npy=0.001, lmdb=(0.0009, 0.0009, 0.004, 0.008, 0.008)) == [
        "Scan everything         1,000  npy 1.00 µs",
        "  too noisy to rank: lmdb",
    ]


def test_a_value_stays_in_one_line_with_its_unit() -> None:
    results = [make_store(name, 0.5, 8000) for name in ("npy", "lmdb_packed")]
    assert _answer(*results)[-4:-2] == [
        "Few files               1,000  lmdb_packed and npy           no other is behind",
        "                               tie: 1 file in all",
    ]


def test_a_crowd_is_counted() -> None:
    leaders = {f"store{number}": 0.001 for number in range(6)}
    followers = {f"late{number}": 0.002 for number in range(6)}
    assert _scan(**leaders, **followers) == [
        "Scan everything         1,000  6 backends tie: 1.00 µs       late0 2.00x,",
        "                                                             late1 2.00x,",
        "                                                             late2 2.00x,",
        "                                                             3 others",
    ]


def test_only_ways_that_a_session_is_asked_for_are_named() -> None:
    lines = _answer(*(make_result(name, 0.001, params=way) for name in ("npy", "png") for way in (COLD, ())))
    assert [line[:29] for line in lines[2:4]] == ["Scan everything         1,000", "Scan everything         1,000"]
    assert lines[4] == "(cold)"


def test_a_session_of_one_backend_has_one_table_of_its_cells() -> None:
    noisy = make_result("npy", [0.001, 0.002, 0.009], operation="read_epoch_workers", params=(("start", "fork"),))
    title, text = make_answer(wrap_results(make_result("npy", 0.0005, 1, store_images=1000), noisy))
    assert title == "npy"
    assert text.splitlines() == [
        "operation                                      images    a call  an image  noise",
        "--------------------------------------------  -------  --------  --------  -----",
        "read_many                                       1,000    500 µs    500 µs",
        "read_epoch_workers (start fork)                 1,000   2.00 ms   2.00 µs  noisy",
        "",
        "noisy: 1 of 2 cells (IQR above 10 % of the median, or fewer than 3 rounds)",
    ]


def test_cells_of_no_use_are_listed_with_their_backends() -> None:
    title, text = make_answer(wrap_results(*(make_result(name, 0.002, operation="load") for name in ("npy", "png"))))
    assert title == "what was measured"
    assert text.splitlines()[:4] == [
        "operation                       backend        images    a call  an image  noise",
        "------------------------------  ------------  -------  --------  --------  -----",
        "load                            npy             1,000   2.00 ms   2.00 µs",
        "load                            png             1,000   2.00 ms   2.00 µs",
    ]


def test_the_answer_about_photos_is_that_of_the_page(tmp_path: Path) -> None:
    run = read_run(save(make_photo_run(), tmp_path))
    payloads = choose_payloads(run)
    assert payloads is not None
    title, text = make_answer(run)
    assert title == "what to store"
    words = " ".join(text.split())
    assert words.startswith(" ".join(payloads.sentences))
    assert all(choice.circumstances in words for choice in payloads.choices)


def test_a_title_warns_of_runs_that_say_little() -> None:
    run = wrap_results(make_result("npy", 0.001))
    run = replace(run, complete=False, image_set=replace(run.image_set, name="standin"))
    assert make_answer(run)[0] == "npy (stand-in images, incomplete run)"


@pytest.mark.parametrize("of_photos", [False, True])
def test_no_line_has_more_than_80_columns(of_photos: bool, tmp_path: Path) -> None:  # noqa: FBT001 - a parameter
    names = [f"my_package_with_a_name.of_a_backend_{number}" for number in range(12)]
    usual = make_run(["png", "lmdb", *names], (10, 100_000), durable=True, cold=True, workers=(1, 2))
    run = read_run(save(make_photo_run() if of_photos else usual, tmp_path))
    for part in (run, replace(run, results=tuple(each for each in run.results if each.backend == "lmdb"))):
        assert max(map(len, make_answer(part)[1].splitlines())) <= WIDTH
