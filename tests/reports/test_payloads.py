"""The answer about payloads: each figure follows from the cells of the run, and what wasn't measured isn't said."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reports.matrix import make_views
from reports.page.tables import tabulate_costs, tabulate_rounds
from reports.payloads import Answer, choose_payloads
from reports.reading import read_run
from reports.recommendations import recommend
from reports.run import Floor, Params, Result, Run, StoreDirectory
from reports.table import make_table
from tests.support.pages import check_soundness, make_html, read_page, read_table
from tests.support.photo_runs import make_photo_run
from tests.support.results import make_result, make_store, wrap_results
from tests.support.runs import find_cell, make_cell, make_run, save

ENCODED, PIXELS = ("payload", "encoded"), ("payload", "pixels")
WARM = ("cache", "warm")


def _decode(backend: str, seconds: float, images: int = 1000, threads: int = 1, cache: str = "warm") -> Result:
    params = (("cache", cache), ENCODED, ("threads", threads))
    return make_result(backend, seconds, images, operation="read_epoch_decoded", params=params)


def _read(backend: str, seconds: float, images: int = 1000, payload: tuple[str, str] = PIXELS) -> Result:
    return make_result(backend, seconds, images, operation="read_epoch", params=(WARM, payload))


def _store(backend: str, seconds: float, size: int, payload: tuple[str, str]) -> Result:
    return make_store(backend, seconds, size, params=(("durability", "buffered"), payload))


def _answer(*results: Result) -> Answer:
    answer = choose_payloads(wrap_results(*results))
    assert answer
    return answer


def _floor(seconds: float, payload: tuple[str, str]) -> Floor:
    params: Params = (payload,)
    return Floor(f"test_floor.py::test_read_epoch[1000-{payload[1]}]", "read_epoch", 1000, params, (seconds,) * 3)


STORES = _store("lmdb", 0.1, 100_000_000, ENCODED), _store("npy", 0.2, 150_000_000, PIXELS)


def test_both_choices_are_named_with_what_they_differ_by() -> None:
    answer = _answer(_decode("lmdb", 2.0), _decode("npy", 4.0), _read("npy", 0.01), _read("lmdb", 0.02), *STORES)
    assert answer.sentences == (
        "Keep the files in lmdb: 500 images/s, decoded by 1 thread.",
        "As pixels in npy: 100,000 images/s (200 times faster) for 1.50 times the disk.",
    )


def test_a_popular_choice_that_is_slower_has_its_price() -> None:
    (choice,) = (answer := _answer(_read("npy", 0.01), _read("png", 3.0))).choices
    assert answer.sentences == (
        "Keep pixels in npy: 100,000 images/s; in png, training is 300 times slower than in npy.",
    )
    assert _answer(_read("npy", 0.01), _read("png", 0.015)).sentences == ("Keep pixels in npy: 100,000 images/s.",)
    assert choice.popular


def test_files_may_be_faster_and_disk_use_unknown() -> None:
    answer = _answer(_decode("lmdb", 2.0), _read("npy", 5.0))
    assert answer.sentences[1] == "As pixels in npy: 200 images/s (2.50 times slower)."
    unknown = _answer(_decode("lmdb", 2.0), _read("npy", 5.0), replace(STORES[0], disk=None), STORES[1])
    assert "disk" not in unknown.sentences[1]


@pytest.mark.parametrize(
    ("result", "sentence"),
    [
        (_decode("lmdb", 2.0), "Keep the files in lmdb: 500 images/s, decoded by 1 thread."),
        (_decode("files", 2.0), "Keep the files as they are (files): 500 images/s, decoded by 1 thread."),
        (_read("npy", 0.01), "Keep pixels in npy: 100,000 images/s."),
    ],
)
def test_one_payload_alone_has_one_sentence(result: Result, sentence: str) -> None:
    assert _answer(result).sentences == (sentence,)


def test_files_are_decoded_by_the_number_of_threads_that_is_fastest() -> None:
    (one,) = _answer(_decode("lmdb", 2.0), _decode("lmdb", 1.0, threads=2), _decode("npy", 2.1)).choices
    assert (one.epoch.backend, one.seconds) == ("lmdb", 0.001)
    assert one.circumstances.endswith("1,000 images in shuffled batches, warm, decoded by 2 threads.")
    (other,) = _answer(_decode("lmdb", 2.0), _decode("lmdb", 9.0, threads=2)).choices
    assert other.circumstances.endswith("decoded by 1 thread.")


def test_backends_that_are_as_fast_are_named_or_counted() -> None:
    (few,) = _answer(*(_decode(name, 2.0) for name in ("lmdb", "npy", "tar"))).choices
    assert few.circumstances.endswith("As fast, within the noise: npy and tar.")
    (many,) = _answer(*(_decode(name, 2.0) for name in "abcdefg")).choices
    assert many.circumstances.endswith("As fast, within the noise: 6 other backends.")


def test_choices_have_the_same_number_of_images() -> None:
    answer = _answer(_decode("lmdb", 2.0), _decode("lmdb", 20.0, 10_000), _read("npy", 0.01), _read("npy", 1.0, 300))
    assert [choice.epoch.images for choice in answer.choices] == [1000, 1000]
    apart = _answer(_decode("lmdb", 2.0), _read("npy", 0.01, 300))
    assert [choice.payload for choice in apart.choices] == ["encoded"]


def test_cold_cells_and_runs_of_arrays_have_no_answer(tmp_path: Path) -> None:
    assert choose_payloads(wrap_results(_decode("lmdb", 2.0, cache="cold"))) is None
    document = make_run(cold=True)
    assert choose_payloads(read_run(save(document, tmp_path))) is None
    (answer,) = read_page(make_html(document, tmp_path)).find("section", id="answer")
    assert not list(answer.find("div", class_="payloads"))
    assert "### The answer" not in make_table(read_run(save(document, tmp_path)))


def _split(*floors: Floor, decoded: float = 2.0, encoded: float = 0.03) -> dict[str, dict[str, float]]:
    results = _decode("lmdb", decoded), _read("lmdb", encoded, payload=ENCODED), _read("npy", 0.05)
    answer = choose_payloads(replace(wrap_results(*results), floors=floors))
    assert answer
    for choice in answer.choices:
        assert sum(part.fraction for part in choice.parts) == pytest.approx(1 if choice.parts else 0)
    return {each.payload: {part.name: round(1e6 * part.seconds) for part in each.parts} for each in answer.choices}


def test_the_backend_is_that_of_the_best_score_in_the_matrix() -> None:
    decoded = [_decode("files", 1.99), _decode("npy", 2.0), _decode("tar", 2.01)]
    stores = [_store(name, each, 10**8, ENCODED) for name, each in (("files", 0.2), ("npy", 0.1), ("tar", 0.3))]
    (choice,) = _answer(*decoded, *stores).choices
    assert (choice.epoch.backend, choice.ties, choice.faster) == ("npy", ("files", "tar"), ())


def test_backends_with_a_faster_epoch_and_a_worse_score_are_named() -> None:
    stores = [_store(name, each, 10**8, PIXELS) for name, each in (("npy", 90.0), ("tar", 1.0), ("raw", 1.0))]
    (choice,) = _answer(_read("npy", 1.0), _read("tar", 1.5), _read("raw", 1.51), *stores).choices
    assert choice.epoch.backend == "tar"
    assert choice.circumstances.endswith("warm. Faster: npy. As fast, within the noise: raw.")


def test_backends_too_noisy_to_rank_do_not_tie() -> None:
    noisy = replace(_read("raw", 1.0), rounds=(1.0, 9.0, 9.0))
    (choice,) = _answer(_read("npy", 1.0), noisy).choices
    assert (choice.epoch.backend, choice.ties, choice.faster) == ("npy", (), ())


def test_without_a_score_the_fastest_is_chosen() -> None:
    stores = _store("tar", 1.0, 10**8, PIXELS), _store("png", 1.0, 10**8, PIXELS)
    (choice,) = _answer(_read("npy", 1.0), _read("hdf5", 0.5), *stores).choices
    assert choice.epoch.backend == "hdf5"


def test_a_backend_without_an_epoch_is_not_chosen() -> None:
    epochs = _decode("npy", 1.0, 100), _decode("npy", 2.0, threads=2)
    (choice,) = _answer(*epochs, _store("tar", 1.0, 10**8, ENCODED)).choices
    assert (choice.epoch.backend, choice.epoch.images) == ("npy", 1000)


def test_an_epoch_is_split_by_its_cells_and_their_floors() -> None:
    assert _split(_floor(0.01, ENCODED), _floor(0.04, PIXELS)) == {
        "encoded": {"moving data": 10, "container": 20, "decoding and scaling": 1970},
        "pixels": {"moving data": 40, "container": 10},
    }


def test_parts_that_cells_do_not_tell_apart_are_one() -> None:
    assert _split(_floor(0.06, ENCODED), _floor(0.06, PIXELS)) == {
        "encoded": {"moving data and container": 30, "decoding and scaling": 1970},
        "pixels": {"moving data and container": 50},
    }
    assert _split(_floor(0.01, ENCODED), decoded=0.02)["encoded"] == {
        "moving data": 10,
        "container and decoding and scaling": 10,
    }
    assert _split(_floor(0.06, ENCODED), decoded=0.02)["encoded"] == {
        "moving data, container and decoding and scaling": 20
    }


def test_what_was_not_measured_is_not_split() -> None:
    assert _split(_floor(0.01, ENCODED)) == {
        "encoded": {"moving data": 10, "container": 20, "decoding and scaling": 1970},
        "pixels": {},
    }
    (choice,) = _answer(_decode("lmdb", 2.0)).choices
    assert choice.parts == ()


def _cost(run: Run) -> list[list[str]]:
    answer = choose_payloads(run)
    assert answer
    return [[entry.text for entry in row] for row in tabulate_costs(answer, run).rows]


def test_costs_grow_in_proportion_and_pixels_are_decoded_first() -> None:
    run = wrap_results(_decode("lmdb", 2.0), _read("npy", 0.01), *STORES)
    roomy = replace(run, store_directory=StoreDirectory("ext4", 10**12), memory_bytes=None)
    assert _cost(roomy) == [
        ["1 million as files in lmdb", "100 GB", "100 s", "2,000 s"],
        ["1 million as pixels in npy", "150 GB", "2,200 s, with decoding", "10.0 s"],
        ["100 million as files in lmdb", "10.0 TB, more than is free here", "2.78 h", "55.6 h"],
        ["100 million as pixels in npy", "15.0 TB, more than is free here", "61.1 h, with decoding", "1,000 s"],
    ]


def test_costs_say_what_is_unknown_and_what_memory_can_not_hold() -> None:
    rows = _cost(wrap_results(_decode("lmdb", 2.0), _read("npy", 0.01), STORES[0]))
    assert rows[0][3] == "2,000 s, if memory held them"
    assert rows[1] == ["1 million as pixels in npy", "unknown", "not measured", "10.0 s"]
    alone = wrap_results(_read("npy", 0.01), STORES[1])
    assert _cost(alone)[0][2] == "200 s, if memory held them"


def test_the_page_begins_with_the_answer_and_shows_what_an_epoch_is_made_of(tmp_path: Path) -> None:
    document = make_photo_run()
    page = read_page(make_html(document, tmp_path))
    check_soundness(page)
    (section,) = page.find("section", id="answer")
    text = "".join(each.text for each in section.find("p", class_="payload"))
    pattern = (
        r"Keep the files in (\w+): ([\d,]+) images/s, decoded by 2 threads\."
        r"As 224 x 224 pixels in (\w+): ([\d,]+) images/s \(([\d.,]+) times faster\) for 1\.51 times the disk\."
    )
    found = re.match(pattern, text)
    assert found, text
    files, slow, pixels, fast, _ = found.groups()
    for name, speed in (
        (f"test_read_epoch_decoded[{files}-1000-encoded-2]", slow),
        (f"test_read_epoch[{pixels}-1000-pixels]", fast),
    ):
        rounds = sorted(find_cell(document, name)["stats"]["data"])
        assert float(speed.replace(",", "")) == pytest.approx(1000 / rounds[2], rel=0.01)
    legends = [
        [each.text.partition(":")[0] for each in bar.find("li")] for bar in page.find("figure") if list(bar.find("li"))
    ]
    assert legends == [["moving data", "container", "decoding and scaling"], ["moving data", "container"]]
    for bar in (bar for parts in page.find("div", class_="parts") for bar in parts.find("svg", class_="bar")):
        widths = [float(part.attributes["width"]) for part in bar.find("rect")]
        assert sum(widths) == pytest.approx(100, abs=0.01)
    (projection,) = page.find("section", id="projection")
    head, *rows = read_table(next(projection.find("table")))
    assert (head, len(rows)) == (["images", "disk", "time to write", "an epoch"], 4)


def test_the_table_has_the_answer_of_the_page(tmp_path: Path) -> None:
    document: dict[str, Any] = make_photo_run()
    run = read_run(save(document, tmp_path))
    answer = choose_payloads(run)
    assert answer
    text = make_table(run)
    assert text.index(" ".join(answer.sentences)) < text.index("### The stores")
    assert all(f"- {choice.circumstances}\n" in text for choice in answer.choices)


def test_decoding_and_pytorch_are_use_cases_if_they_were_measured() -> None:
    params: Params = (WARM, PIXELS, ("workers", 2))
    results = [_decode("lmdb", 2.0), _decode("npy", 4.0)]
    results += [make_result(name, 1.0, operation="read_epoch_dataloader", params=params) for name in ("lmdb", "npy")]
    found = {case.title: case.recommendations for case in recommend(wrap_results(*results))}
    assert [(dict(each.params)["threads"], each.select_tier(0)) for each in found["Training on files"]] == [
        (1, ["lmdb"])
    ]
    assert [(each.params, each.select_tier(0)) for each in found["PyTorch"]] == [(params, ["lmdb", "npy"])]
    assert not {"Training on files", "PyTorch"} & {case.title for case in recommend(wrap_results(_read("npy", 1.0)))}


def test_start_up_of_workers_is_shown_beside_their_cells(tmp_path: Path) -> None:
    document = make_photo_run(cutoffs=(10,), payloads=("pixels",))
    assert "start-up" not in make_table(read_run(save(document, tmp_path)))
    cell = make_cell("read_epoch_dataloader", "npy", 10, payload="pixels", cache="warm", workers=2)
    cell["extra_info"]["startup_seconds"] = 0.75
    document["benchmarks"].append(cell)
    run = read_run(save(document, tmp_path))
    header, *rows = (line for line in make_table(run).splitlines() if line.startswith("| ") and "750 ms" in line)
    assert (header.split("|")[1].strip(), rows) == ("npy", [])
    (rounds,) = (table for table in tabulate_rounds(run) if table.caption.endswith("warm"))
    place = rounds.columns.index("start-up")
    assert {row[place].text for row in rounds.rows} == {"-", "750 ms"}


def test_reading_through_an_open_reader_is_a_use_if_it_was_measured() -> None:
    results = [make_result(name, 1.0, operation="read_open_single") for name in ("lmdb", "npy")]
    found = {case.title: case.recommendations for case in recommend(wrap_results(*results))}
    assert found["The same, reader open"][0].select_tier(0) == ["lmdb", "npy"]
    (view,) = make_views(wrap_results(*results)).values()
    assert [use.title for use in view.uses] == ["Random image"]
    assert "The same, reader open" not in {case.title for case in recommend(wrap_results(_read("npy", 1.0)))}


def test_no_table_of_the_page_or_the_command_mixes_payloads(tmp_path: Path) -> None:
    document = make_photo_run()
    run = read_run(save(document, tmp_path))
    for (_, params), results in run.groups.items():
        assert {dict(result.params)["payload"] for result in results} == {dict(params)["payload"]}
    page = read_page(make_html(document, tmp_path))
    captions = [each.text for each in page.find("caption")]
    named = [caption for caption in captions if ("encoded" in caption) != ("pixels" in caption)]
    unnamed = [caption for caption in captions if caption not in named]
    assert len(named) >= 5
    assert {caption.partition(",")[0] for caption in unnamed} == {
        "What so many such images would take",
    }, "these name the payload in each row or above"
