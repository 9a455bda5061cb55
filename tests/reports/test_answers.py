"""The answer in words: each number can be found again in the run."""

import re
import statistics
from typing import Any

import pytest

from reports.page.tables import tabulate_answer
from reports.reading import read_run
from reports.recommendations import Answer, Use, answer_uses
from reports.run import Result
from reports.text import format_number, format_time
from tests.support.results import BUFFERED, COLD, DURABLE, make_result, make_store, wrap_results
from tests.support.runs import make_run, save

TIMED = {
    "Scan everything": "read_many",
    "Shuffled training": "read_epoch",
    "One random image": "read_single",
    "Write once": "store_many",
}


def _answer(*results: Result) -> dict[str, Use]:
    """Answer the uses of a run, by their titles."""
    return {use.title: use for use in answer_uses(wrap_results(*results))}


def _scan(*results: Result) -> Answer:
    (answer,) = _answer(*results)["Scan everything"].answers
    return answer


def _measure(document: dict[str, Any], operation: str, **wanted: object) -> dict[str, float]:
    """Find the medians of cells in the JSON of a run by hand: backend -> seconds."""
    found = {}
    for cell in document["benchmarks"]:
        facts, axes = cell["extra_info"], cell["params"]
        if (facts["operation"], facts["store_images"]) == (operation, 1000) and wanted.items() <= axes.items():
            found[facts["backend"]] = statistics.median(cell["stats"]["data"])
    return found


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """Make a run that measured everything."""
    return make_run(durable=True, cold=True, workers=(1, 2))


@pytest.fixture(scope="module")
def uses(document: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Use]:
    """Answer its uses, by their titles."""
    run = read_run(save(document, tmp_path_factory.mktemp("run")))
    return {use.title: use for use in answer_uses(run)}


def test_there_is_an_answer_for_each_use(uses: dict[str, Use]) -> None:
    assert list(uses) == [*TIMED, "Least disk", "Few files"]
    assert all(use.answers and not use.missing for use in uses.values())


@pytest.mark.parametrize(("title", "operation"), TIMED.items())
def test_a_time_is_the_median_of_the_rounds_and_its_ratio_that_of_medians(
    title: str, operation: str, document: dict[str, Any], uses: dict[str, Use]
) -> None:
    axis = "durability" if operation == "store_many" else "cache"
    ways = ("buffered", "durable") if operation == "store_many" else ("warm", "cold")
    assert [answer.circumstances for answer in uses[title].answers] == [f"1,000 images ({way})" for way in ways]
    for way, answer in zip(ways, uses[title].answers, strict=True):
        medians = _measure(document, operation, **{axis: way})
        order = sorted(medians, key=medians.__getitem__)
        assert [place.backend for place in answer.places] == order
        for place, row in zip(answer.places, tabulate_answer(answer).rows, strict=True):
            assert place.value == pytest.approx(medians[place.backend])
            assert row[1].text == format_time(medians[place.backend])
            assert place.ratio == pytest.approx(medians[place.backend] / medians[order[0]])


def test_the_number_in_each_sentence_stands_in_its_table(uses: dict[str, Use]) -> None:
    sentences = 0
    for answer in (answer for use in uses.values() for answer in use.answers):
        rows = {row[0].text: [entry.text for entry in row[1:]] for row in tabulate_answer(answer).rows}
        leaders = [name for name, row in rows.items() if row[2].startswith("1")]
        assert sorted(leaders) == re.findall(r"png|lmdb|hdf5", answer.headline)
        for name, number, best in re.findall(
            r"(\w+), the next, \D+ ([\d.,]+) times as \w+ as (\w+)\.", answer.sentence
        ):
            assert rows[name][1] == number
            assert rows[name][2].startswith("2")
            assert rows[best][1] == "1.00"
            sentences += 1
    assert sentences >= 7


def test_the_least_disk_is_that_of_buffered_stores(document: dict[str, Any], uses: dict[str, Use]) -> None:
    (answer,) = uses["Least disk"].answers
    assert answer.circumstances == "1,000 images"
    assert {row[0].text: row[1].text for row in tabulate_answer(answer).rows} == {
        cell["extra_info"]["backend"]: f"{cell['extra_info']['allocated_bytes'] / 1000:,.0f}"
        for cell in document["benchmarks"]
        if cell["extra_info"]["operation"] == "store_many" and cell["params"]["cutoff"] == 1000
    }
    assert answer.headline == "hdf5"
    ratio = format_number((12288 + 4118000) / (12288 + 3104000))
    assert answer.sentence == f"lmdb and png, the next, take at least {ratio} times as much as hdf5."


def test_files_are_counted() -> None:
    stores = [make_result("png", 1.0, operation="store_many", axes=BUFFERED, disk=(9, 2000))]
    stores += [make_result("lmdb", 1.0, operation="store_many", axes=BUFFERED, disk=(9, 2))]
    (answer,) = _answer(*stores)["Few files"].answers
    assert (answer.headline, answer.sentence) == ("lmdb", "png, the next, has 1,000 times as many as lmdb.")
    assert [row[1].text for row in tabulate_answer(answer).rows] == ["2", "2,000"]


def test_what_the_noise_explains_is_a_named_tie_in_no_order() -> None:
    answer = _scan(make_result("png", 1.0), make_result("lmdb", 1.05), make_result("hdf5", 0.99))
    assert answer.headline == "hdf5, lmdb and png tie"
    assert answer.sentence == "No difference beyond the noise."
    assert [row[3].text for row in tabulate_answer(answer).rows] == ["1 (tie)"] * 3


def test_behind_a_tie_stands_the_next() -> None:
    answer = _scan(make_result("png", 3.0), make_result("lmdb", 1.05), make_result("hdf5", 1.0))
    assert answer.headline == "hdf5 and lmdb tie"
    assert answer.sentence == "png, the next, takes 3.00 times as long as hdf5."
    assert [row[3].text for row in tabulate_answer(answer).rows] == ["1 (tie)", "1 (tie)", "2"]


def test_those_that_tie_behind_the_best_are_named_together() -> None:
    answer = _scan(make_result("png", 3.0), make_result("lmdb", 3.1), make_result("hdf5", 1.0), make_result("raw", 9.0))
    assert (answer.headline, answer.sentence) == (
        "hdf5",
        "lmdb and png, the next, take at least 3.00 times as long as hdf5.",
    )
    assert [row[3].text for row in tabulate_answer(answer).rows] == ["1", "2 (tie)", "2 (tie)", "3"]


def test_who_ties_with_a_noisy_best_but_is_beaten_by_another_is_not_ahead() -> None:
    noisy, steady = make_result("hdf5", [0.051, 0.052, 0.837]), make_result("lmdb", [0.064, 0.076, 0.1])
    answer = _scan(noisy, steady, make_result("png_stored", [0.79, 0.81, 0.82]))
    assert answer.headline == "hdf5 and lmdb tie"
    assert answer.sentence == "png_stored, the next, takes 15.6 times as long as hdf5."


def test_what_decides_on_a_tie_stands_in_the_table() -> None:
    answer = _scan(make_result("png", [3.0] * 4 + [3.1]), make_result("lmdb", [1.0, 2.0]))
    assert [row[4].text for row in tabulate_answer(answer).rows] == [
        "1.10 s to 1.90 s, 2 rounds, unstable",
        "3.00 s to 3.06 s, 5 rounds",
    ]


def test_one_that_leads_alone_is_said_to_lead() -> None:
    answer = _scan(make_result("png", 3.0), make_result("lmdb", 1.0))
    assert answer.headline == "lmdb"
    assert [row[3].text for row in tabulate_answer(answer).rows] == ["1", "2"]


def test_an_unstable_backend_ties_where_a_stable_one_does_not() -> None:
    results = [make_result("png", 1.0), make_result("lmdb", 1.15), make_result("hdf5", [1.15, 1.15])]
    answer = _scan(*results)
    assert answer.headline == "hdf5 and png tie"
    assert answer.sentence == "lmdb, the next, takes 1.15 times as long as png."


def test_sizes_within_one_percent_tie() -> None:
    stores = [make_store("png", 1.0, 4_100_000), make_store("lmdb", 1.0, 4_120_000), make_store("hdf5", 1.0, 8_200_000)]
    (answer,) = _answer(*stores)["Least disk"].answers
    assert (answer.headline, answer.sentence) == (
        "lmdb and png tie",
        "hdf5, the next, takes 2.00 times as much as png.",
    )


def test_a_store_of_no_bytes_yet_is_of_unknown_size() -> None:
    (answer,) = _answer(make_store("png", 1.0, 0), make_store("lmdb", 1.0, 4_120_000))["Least disk"].answers
    assert (answer.headline, answer.sentence) == ("lmdb", "No other backend was measured.")
    assert answer.absent == ("png",)
    assert _answer(make_store("png", 1.0, 0))["Least disk"].answers == ()


def test_the_only_backend_is_better_than_none() -> None:
    answer = _scan(make_result("png", 1.0))
    assert (answer.headline, answer.sentence, answer.absent) == ("png", "No other backend was measured.", ())


def test_backends_are_compared_where_two_were_measured_and_the_others_are_named() -> None:
    results = [make_result(name, 1.0 * count, count) for name in ("png", "lmdb") for count in (10, 100)]
    answer = _scan(*results, make_result("png", 9.0, 1000), make_result("hdf5", 1.0, 10))
    assert answer.circumstances == "100 images (warm)"
    assert [place.backend for place in answer.places] == ["lmdb", "png"]
    assert answer.absent == ("hdf5",)


def test_what_was_not_measured_is_said_with_the_option_that_measures_it() -> None:
    uses = _answer(make_result("png", 1.0), make_store("png", 1.0, 1))
    assert uses["Scan everything"].missing == ("cold: not measured in this run (--cold measures it)",)
    assert uses["Write once"].missing == ("durable: not measured in this run (--durable measures it)",)
    uses = _answer(make_result("png", 1.0, axes=COLD), make_store("png", 1.0, 1, axes=DURABLE))
    assert uses["Scan everything"].missing == ("warm: not measured in this run",)
    assert uses["Write once"].missing == ("buffered: not measured in this run",)


def test_what_was_not_measured_at_all_has_no_answer() -> None:
    uses = _answer(make_result("png", 1.0, operation="an_unknown_one"))
    assert list(uses) == [*TIMED, "Least disk", "Few files"]
    assert not any(use.answers or use.missing for use in uses.values())


def test_warm_and_cold_are_two_answers() -> None:
    results = [make_result("png", 1.0), make_result("lmdb", 2.0), make_result("png", 9.0, axes=COLD)]
    warm, cold = _answer(*results, make_result("lmdb", 3.0, axes=COLD))["Scan everything"].answers
    assert (cold.circumstances, cold.headline) == ("1,000 images (cold)", "lmdb")
    assert (warm.circumstances, warm.headline) == ("1,000 images (warm)", "png")
    assert cold.sentence == "png, the next, takes 3.00 times as long as lmdb."
    assert warm.sentence == "lmdb, the next, takes 2.00 times as long as png."


def test_buffered_and_durable_stores_are_two_answers_of_time_and_one_of_size() -> None:
    results = [make_store("png", 1.0, 100), make_store("png", 5.0, 300, axes=DURABLE)]
    uses = _answer(*results, make_store("lmdb", 4.0, 200, axes=DURABLE))
    assert [answer.headline for answer in uses["Write once"].answers] == ["png", "lmdb"]
    (size,) = uses["Least disk"].answers
    assert [place.backend for place in size.places] == ["png"], "durable stores are another group"
    assert size.absent == ("lmdb",)


def test_long_names_are_cut_alike_in_headline_sentence_and_table() -> None:
    fast, slow = "fast" * 3000, "slow" * 3000
    answer = _scan(make_result(fast, 1.0), make_result(slow, 2.0))
    names = [row[0].text for row in tabulate_answer(answer).rows]
    assert answer.headline == names[0]
    assert answer.sentence == f"{names[1]}, the next, takes 2.00 times as long as {names[0]}."
    assert max(map(len, names)) == 40
