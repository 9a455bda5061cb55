"""Samples of image files: a report says what was drawn, how large it is, and what was left out and why."""

import re
from pathlib import Path
from typing import Any

import pytest

from reports.compare.comparison import compare_runs
from reports.page.contents import describe_comparison, describe_history, list_facts, list_warnings
from reports.reading import read_run
from reports.run import BrokenRunError
from reports.sample import MAX_LISTED, Sample
from reports.table import make_table
from tests.support.pages import check_soundness, make_html, read_page
from tests.support.photo_runs import make_photo_run
from tests.support.runs import make_run, save


@pytest.fixture
def document() -> dict[str, Any]:
    """Make a run of image files."""
    return make_photo_run()


def _read_sample(document: dict[str, Any], folder: Path) -> Sample:
    sample = read_run(save(document, folder)).image_set.sample
    assert sample
    return sample


def test_numbers_are_rounded_and_reasons_stay_whole(document: dict[str, Any], tmp_path: Path) -> None:
    reason = "it has a long reason, which nobody may cut off after forty letters"
    document["run"]["image_set"]["unusable"]["reasons"] = {reason: 2}
    sample = _read_sample(document, tmp_path)
    assert (sample.found, sample.classes, sample.side, sample.formats) == (1002, 8, 224, {"jpg": 990, "webp": 10})
    assert sample.file_bytes == (108146, 2265, 25340, 99470, 198956, 606460)
    assert sample.unusable.reasons == {reason: 2}


def test_page_and_table_describe_the_sample(document: dict[str, Any], tmp_path: Path) -> None:
    run = read_run(save(document, tmp_path))
    facts, table = dict(list_facts(run)), make_table(run)
    assert facts["Sample"] == "1,000 of 1,002 files, in 8 classes; seed 0"
    assert facts["Formats"] == "990 jpg, 10 webp"
    assert facts["File sizes"] == (
        "108 kB on average; 25.3 kB, 99.5 kB and 199 kB at 10, 50 and 90 %; 2.27 kB to 606 kB"
    )
    assert facts["Left out"] == "2 files (1: it isn't an image file; 1: it has transparency)"
    for name in ("Sample", "Formats", "File sizes", "Widths", "Heights", "Pixels", "Scaled to", "Left out"):
        assert f"- {name}: {facts[name]}\n" in table


def test_page_and_table_say_that_only_the_first_images_were_measured(document: dict[str, Any], tmp_path: Path) -> None:
    assert "Measured" not in dict(list_facts(read_run(save(document, tmp_path))))
    document["run"]["image_set"]["count"] = 100
    run = read_run(save(document, tmp_path))
    assert dict(list_facts(run))["Measured"] == "the first 100 of these 1,000"
    assert "- Measured: the first 100 of these 1,000\n" in make_table(run)
    (header,) = read_page(make_html(document, tmp_path)).find("header")
    assert "2 files left out. Measured: the first 100 of these 1,000. SHA-256" in header.text


def test_the_sample_says_what_limited_it(document: dict[str, Any], tmp_path: Path) -> None:
    document["run"]["image_set"]["limits"] = ["at most 10,000 images are drawn", "at most 2 GB of files are kept"]
    limits = "at most 10,000 images are drawn; at most 2 GB of files are kept"
    assert _read_sample(document, tmp_path).facts["Sample"] == f"1,000 of 1,002 files, in 8 classes; {limits}; seed 0"


def test_the_table_lists_each_file_that_was_left_out(document: dict[str, Any], tmp_path: Path) -> None:
    table = make_table(read_run(save(document, tmp_path)))
    listed = "- photos/notes.txt: it isn't an image file\n- photos/logo.png: it has transparency\n"
    assert table.endswith(f"### Left out\n\n{listed}")
    document["run"]["image_set"]["unusable"] = {"count": 0, "reasons": {}, "files": []}
    assert "### Left out" not in make_table(read_run(save(document, tmp_path)))


def test_many_reasons_are_counted_not_cut(document: dict[str, Any], tmp_path: Path) -> None:
    document["run"]["image_set"]["unusable"] |= {"count": 10, "reasons": {"a": 4, "b": 3, "c": 1, "d": 1}}
    sample = _read_sample(document, tmp_path)
    assert sample.facts["Left out"] == "10 files (4: a; 3: b; 1: c; 2 for other reasons)"


def test_a_sample_of_pixels_says_that_they_are_as_they_were(document: dict[str, Any], tmp_path: Path) -> None:
    same = {"widths": 40, "heights": 32, "pixels": 1280, "file_bytes": 15360}
    summaries = {name: dict.fromkeys(("mean", "0", "0.1", "0.5", "0.9", "1"), value) for name, value in same.items()}
    own = {"side": None, "found": 5000, "formats": {"float32, 3 channels": 1000}, **summaries}
    document["run"]["image_set"] |= own | {"unusable": {"count": 0, "reasons": {}, "files": []}}
    sample = _read_sample(document, tmp_path)
    assert sample.sentence == "1,000 of 5,000 images: 1,000 float32, 3 channels; 40 x 32 pixels, 15.4 kB each."
    assert sample.facts == {
        "Sample": "1,000 of 5,000 images, in 8 classes; seed 0",
        "Formats": "1,000 float32, 3 channels",
        "Size": "40 x 32 pixels, 15.4 kB an image; not scaled",
    }
    (header,) = read_page(make_html(document, tmp_path)).find("header")
    assert sample.sentence in header.text


def test_a_page_begins_with_the_sample_and_lists_what_was_left_out(document: dict[str, Any], tmp_path: Path) -> None:
    page = read_page(make_html(document, tmp_path))
    check_soundness(page)
    (header,) = page.find("header")
    assert "1,000 of 1,002 files: 990 jpg, 10 webp; 108 kB on average" in header.text
    assert "2 files left out. SHA-256 cd34ab12cd34." in header.text
    (run,) = page.find("section", id="run")
    (listed,) = (each for each in run.find("details") if "Files left out: 2" in each.text)
    assert [each.text for each in listed.find("li")] == [
        "photos/notes.txt: it isn't an image file",
        "photos/logo.png: it has transparency",
    ]
    (method,) = page.find("section", id="method")
    assert "byte for byte" in method.text
    assert "The images are small" not in method.text


def test_a_sample_of_which_nothing_is_left_out_says_so(document: dict[str, Any], tmp_path: Path) -> None:
    document["run"]["image_set"]["unusable"] = {"count": 0, "reasons": {}, "files": []}
    document["run"]["image_set"]["classes"] = 1
    sample = _read_sample(document, tmp_path)
    assert (sample.facts["Left out"], list(sample.left_out)) == ("0 files", [])
    assert sample.facts["Sample"].endswith("in 1 class; seed 0")
    assert "left out" not in sample.sentence
    page = read_page(make_html(document, tmp_path))
    assert not [each for each in page.find("summary") if "left out" in each.text]


def test_the_list_of_files_left_out_is_limited_and_counts_the_rest(document: dict[str, Any], tmp_path: Path) -> None:
    files = [[f"{number}.txt", "it isn't an image file"] for number in range(1000)]
    document["run"]["image_set"]["unusable"] |= {"count": 5000, "files": files}
    listed = list(_read_sample(document, tmp_path).left_out)
    assert len(listed) == MAX_LISTED + 1
    assert listed[-1] == f"and {5000 - MAX_LISTED:,} more"


def test_stand_in_photos_are_compared_with_photos(document: dict[str, Any], tmp_path: Path) -> None:
    document["run"]["image_set"]["name"] = "standin"
    ((warning, words),) = list_warnings(read_run(save(document, tmp_path)))
    assert (warning, "ImageNet" in words) == ("Stand-in images.", True)


def test_runs_of_different_samples_are_never_compared(document: dict[str, Any], tmp_path: Path) -> None:
    base = read_run(save(document, tmp_path))
    again = compare_runs(base, base, 0.1)
    assert again.differences == ()
    assert {row.cell.rpartition("-")[2] for row in again.rows} >= {"encoded]", "pixels]"}
    document["run"]["image_set"]["sha256"] = "00" * 32
    other = read_run(save(document, tmp_path))
    compared = compare_runs(base, other, 0.1)
    words = f"images: photos/ {base.image_set.sha256} in the base, photos/ {other.image_set.sha256} in the new run"
    assert (compared.differences, compared.rows, compared.choose_exit_code("warn")) == ((words,), (), 3)
    assert describe_comparison(base, other).words == f"The runs cannot be compared: {words}."
    assert describe_history([base, other]).words == "No other run can be compared with this one."


def test_a_run_of_arrays_has_no_sample(tmp_path: Path) -> None:
    run = read_run(save(make_run(), tmp_path))
    assert run.image_set.sample is None
    assert "Sample" not in dict(list_facts(run))
    (header,) = read_page(make_html(make_run(), tmp_path)).find("header")
    assert "SHA-256" not in header.text


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("found", "many", "image_set.found is missing or not a count"),
        ("seed", "lucky", "image_set.seed is missing or not a count"),
        ("side", "wide", "image_set.side is missing or not a count"),
        ("formats", {"jpg": "all"}, "image_set.formats.jpg is missing or not a count"),
        ("widths", [], "image_set.widths is missing or not an object"),
        ("heights", {}, "image_set.heights.mean is missing or not a count"),
        ("pixels", dict.fromkeys(("mean", "0", "0.1", "0.5", "0.9", "1"), float("nan")), "image_set.pixels.mean"),
        ("file_bytes", dict.fromkeys(("mean", "0", "0.1", "0.5", "0.9", "1"), -1), "image_set.file_bytes.mean"),
        ("unusable", {"count": 1, "reasons": {}, "files": [1]}, "image_set.unusable.files[0] is missing or not a list"),
    ],
)
def test_a_damaged_sample_is_named(
    field: str, value: object, words: str, document: dict[str, Any], tmp_path: Path
) -> None:
    document["run"]["image_set"][field] = value
    with pytest.raises(BrokenRunError, match=re.escape(words)):
        read_run(save(document, tmp_path))
