"""What a bucket costs, as page, table and the end of a session say it."""

from pathlib import Path
from typing import Any

import pytest

from reports.answer import make_answer
from reports.page.figures import draw_rates
from reports.page.tables import tabulate_bucket, tabulate_bucket_costs
from reports.reading import read_run
from reports.remote import Bucket, find_buckets
from reports.table import make_table
from tests.support.remote_runs import make_remote_cells, make_remote_run
from tests.support.runs import run_of, save

CHOICE = (
    "From a bucket (SeaweedFS, 20 ms a request), take npy and shuffle within a window: 100,000 images/s, "
    "0.90 times a plain download's."
)
SENTENCES = (
    CHOICE,
    "Shuffling as a whole takes 5.00 times as long, with 750 times the requests.",
    "From the second epoch on, the local cache gives 200,000 images/s.",
)


@pytest.fixture
def bucket(tmp_path: Path) -> Bucket:
    return read_bucket(tmp_path, make_remote_run("lmdb", "npy"))


def read_bucket(folder: Path, document: dict[str, Any]) -> Bucket:
    (found,) = find_buckets(read_run(save(document, folder)))
    return found


def leave_out(document: dict[str, Any], *names: str) -> dict[str, Any]:
    """Leave out the cells whose ids have one of these words."""
    cells = [cell for cell in document["benchmarks"] if not any(name in cell["name"] for name in names)]
    return run_of(cells)


def set_time(document: dict[str, Any], words: str, seconds: float) -> None:
    (cell,) = [cell for cell in document["benchmarks"] if words in cell["name"]]
    cell["stats"]["data"] = [seconds] * 3


def test_the_fastest_epoch_decides_and_is_compared_with_a_download(bucket: Bucket) -> None:
    assert [*bucket.backends] == ["npy", "lmdb"]
    assert bucket.sentences == SENTENCES


def test_an_order_that_costs_nothing_is_the_whole_shuffle(tmp_path: Path) -> None:
    one, other, *_ = read_bucket(tmp_path, make_remote_run("lmdb", latency=0)).sentences
    assert one.startswith("From a bucket (SeaweedFS), take lmdb and shuffle as a whole: 62,500 images/s")
    assert other == "Shuffling within a window is as fast."


def test_a_window_may_take_longer(tmp_path: Path) -> None:
    document = make_remote_run("npy")
    set_time(document, "shuffled-bucket", 0.5)
    assert read_bucket(tmp_path, document).sentences[1] == "Shuffling within a window takes 2.00 times as long."


def test_without_a_proxy_nothing_is_counted(tmp_path: Path) -> None:
    found = read_bucket(tmp_path, make_remote_run("npy", counted=False))
    assert found.sentences[1] == "Shuffling as a whole takes 5.00 times as long."
    assert {row[2].text for row in tabulate_bucket_costs(found).rows if "shuffled" not in row[0].text} == {
        "not counted"
    }
    assert {entry.text for row in tabulate_bucket(found).rows for entry in row[-2:]} == {"-"}


def test_each_payload_is_named_and_has_a_bucket_of_its_own(tmp_path: Path) -> None:
    cells = [cell for payload in ("pixels", "encoded") for cell in make_remote_cells("npy", payload=payload)]
    found = find_buckets(read_run(save(run_of(cells), tmp_path)))
    assert [each.title for each in found] == [
        "SeaweedFS, 20 ms a request, image files, 100,000 images",
        "SeaweedFS, 20 ms a request, pixels, 100,000 images",
    ]
    assert [" for image files " in found[0].sentences[0], " for pixels " in found[1].sentences[0]] == [True, True]


def test_cells_that_are_missing_leave_out_what_they_would_say(tmp_path: Path) -> None:
    document = leave_out(make_remote_run("npy"), "download", "cache", "shuffled", "requests")
    found = read_bucket(tmp_path, document)
    assert found.sentences == (
        "From a bucket (SeaweedFS, 20 ms a request), take npy and shuffle within a window: 100,000 images/s.",
    )
    rates = draw_rates(found)
    assert rates is not None
    assert rates.message == "npy gives 100,000 images a second"
    assert [cost.way.name for cost in found.costs] == ["save", "windowed epoch"] * 2


def test_a_bucket_without_epochs_has_neither_sentence_nor_figure(tmp_path: Path) -> None:
    found = read_bucket(tmp_path, leave_out(make_remote_run("npy"), "epoch"))
    assert (found.sentences, draw_rates(found)) == ((), None)


def test_a_backend_without_epochs_is_last(tmp_path: Path) -> None:
    document = make_remote_run("npy", "lmdb")
    document["benchmarks"] = [
        cell for cell in document["benchmarks"] if "epoch[npy" not in cell["name"] and "save[npy" not in cell["name"]
    ]
    found = read_bucket(tmp_path, document)
    assert [*found.backends] == ["lmdb", "npy"]
    assert [entry.text for entry in tabulate_bucket(found).rows[1]][:3] == ["npy", "-", "1.00 s"]


def test_latency_that_is_no_number_counts_as_none(tmp_path: Path) -> None:
    document = make_remote_run("npy")
    for cell in document["benchmarks"]:
        cell["params"]["latency"] = "soon"
    assert read_bucket(tmp_path, document).latency == 0


def test_the_figure_has_a_bar_for_each_way(bucket: Bucket) -> None:
    rates = draw_rates(bucket)
    assert rates is not None
    assert rates.message == "npy gives 100,000 images a second, 97.7 times as many as single requests, 32 at once"
    assert rates.rows[3] == ("windowed epoch", "100,000/s", 50.0)
    assert len(rates.rows) == 7


def test_a_shuffled_epoch_of_many_images_is_projected_to_a_request_each(bucket: Bucket) -> None:
    rows = [[entry.text for entry in row] for row in tabulate_bucket_costs(bucket).rows]
    assert rows[1] == ["1 million: windowed epoch", "10.0 s", "400", "3.14 GB"]
    assert rows[2] == ["1 million: shuffled epoch", "977 s", "1,000,000", "3.14 GB"]
    assert rows[5] == ["100 million: shuffled epoch", "27.1 h", "100,000,000", "314 GB"]


def test_a_shuffled_epoch_that_fetches_whole_parts_is_projected_in_proportion(tmp_path: Path) -> None:
    rows = tabulate_bucket_costs(read_bucket(tmp_path, make_remote_run("lmdb"))).rows
    assert [entry.text for entry in rows[2]] == ["1 million: shuffled epoch", "16.0 s", "450", "3.14 GB"]


def test_the_table_of_a_bucket_says_what_epochs_fetch(bucket: Bucket) -> None:
    table = tabulate_bucket(bucket)
    assert table.columns[-1] == "fetched, shuffled epoch"
    assert [row[-1].text for row in table.rows] == ["30,000 requests, 1.02x", "45 requests, 1.02x"]


def test_tables_and_the_end_of_a_session_have_the_sentences(tmp_path: Path) -> None:
    run = read_run(save(make_remote_run("npy"), tmp_path))
    _, text = make_answer(run)
    assert " ".join(SENTENCES) in " ".join(text.split())
    table = make_table(run)
    assert "### From a bucket: SeaweedFS, 20 ms a request, 100,000 images\n\nFrom a bucket (SeaweedFS" in table
    assert "requests | fetched/used | flag" in table
