"""The Markdown table: its numbers, its words, and hostile names."""

import html
import re
import statistics
from pathlib import Path
from typing import Any

import pytest

from reports.reading import read_run
from reports.table import make_table
from reports.text import shorten_text
from tests.support.properties import given, settings, st
from tests.support.runs import make_cell, make_run, run_of, save

_SECONDS = {"s": 1.0, "ms": 1e-3, "µs": 1e-6, "ns": 1e-9}
_Tables = dict[str, list[dict[str, str]]]


def _show(document: object, folder: Path) -> str:
    """Make the table of a run's JSON."""
    return make_table(read_run(save(document, folder)))


def _parse(markdown: str) -> _Tables:
    """Read Markdown back: heading of each table -> its rows, column by column, unescaped."""
    tables: _Tables = {}
    _, stores, *blocks = markdown.split("\n### ")
    assert stores.startswith("The stores\n")
    for block in blocks:
        heading, _, rest = block.partition("\n")
        rows = [re.split(r"(?<!\\)(?:\\\\)*\|", line)[1:-1] for line in rest.splitlines() if line.startswith("|")]
        names = [cell.strip() for cell in rows[0]]
        tables[heading] = [dict(zip(names, map(_unescape, row), strict=True)) for row in rows[2:]]
    return tables


def _unescape(cell: str) -> str:
    return html.unescape(re.sub(r"\\(.)", r"\1", cell.strip()))


def _seconds(cell: str) -> float:
    number, unit = cell.split()
    return float(number.replace(",", "")) * _SECONDS[unit]


def _number(cell: str) -> float:
    return float(cell.replace(",", "").removesuffix("x"))


def test_each_row_follows_from_its_rounds(tmp_path: Path) -> None:
    document = make_run()
    rows = _parse(_show(document, tmp_path))["store_many (buffered)"]
    stores = [cell for cell in document["benchmarks"] if cell["group"] == "store_many"]
    cells = {(cell["extra_info"]["backend"], cell["extra_info"]["images"]): cell for cell in stores}
    medians = {key: statistics.median(cell["stats"]["data"]) for key, cell in cells.items()}
    assert {(row["backend"], _number(row["images"])) for row in rows} == cells.keys()
    for row in rows:
        key = row["backend"], int(_number(row["images"]))
        low, _, high = statistics.quantiles(cells[key]["stats"]["data"], method="inclusive")
        fastest = min(median for (_, images), median in medians.items() if images == key[1])
        assert _seconds(row["median"]) == pytest.approx(medians[key], rel=0.006)
        assert _seconds(row["IQR"]) == pytest.approx(high - low, rel=0.006)
        assert _number(row["images/s"]) == pytest.approx(key[1] / medians[key], rel=0.006)
        assert _number(row["x slower"]) == pytest.approx(medians[key] / fastest, abs=0.051)
        on_disk = cells[key]["extra_info"]["allocated_bytes"] / key[1]
        assert _number(row["bytes/image on disk"]) == pytest.approx(on_disk, abs=0.51)
        assert row["flag"] == ""


def test_the_fastest_of_each_number_of_images_comes_first(tmp_path: Path) -> None:
    rows = _parse(_show(make_run(), tmp_path))["read_many"]
    assert [row["images"] for row in rows] == ["10"] * 3 + ["100"] * 3 + ["1,000"] * 3
    assert [row["x slower"] for row in rows[::3]] == ["1.0x"] * 3
    ratios = [_number(row["x slower"]) for row in rows]
    assert ratios[6:] == sorted(ratios[6:])


def test_columns_depend_on_the_operation(tmp_path: Path) -> None:
    tables = _parse(_show(make_run(), tmp_path))
    with_disk = {heading for heading, rows in tables.items() if "bytes/image on disk" in rows[0]}
    assert with_disk == {"store_single (buffered)", "store_many (buffered)"}
    rows = tables["read_single"]
    assert {row["images"] for row in rows} == {"1"}
    assert [row["in store"] for row in rows if row["x slower"] == "1.0x"] == ["10", "100", "1,000"]


def test_the_stores_of_a_run_come_first(tmp_path: Path) -> None:
    heading, stores, *_ = _show(make_run(), tmp_path).split("\n### ")
    assert heading.startswith("## Run of")
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in stores.splitlines() if line.startswith("|")]
    assert lines[0] == ["backend", "what it is", "kept by", "licence", "choose it for", "not for"]
    assert not any(rule.endswith(":") for rule in lines[1]), "words are aligned left"
    assert [line[0] for line in lines[2:]] == ["hdf5", "lmdb", "png", "tape"]


def test_each_operation_and_its_parameters_have_a_table_in_the_order_of_the_experiment(tmp_path: Path) -> None:
    document = make_run(["png", "lmdb"], durable=True)
    document["benchmarks"].insert(0, make_cell("a_new_one", "tape", 7))
    ways: list[dict[str, Any]] = [{"cache": cache, "workers": n} for cache in ("warm", "cold") for n in (10, 2)]
    document["benchmarks"] += [make_cell("read_epoch_workers", "png", 10, start="fork", **way) for way in ways]
    assert list(_parse(_show(document, tmp_path))) == [
        *("store_single (buffered)", "store_single (durable)", "read_single"),
        *("store_many (buffered)", "store_many (durable)", "read_many", "read_epoch"),
        *(f"read_epoch_workers ({cache}, start fork, workers {n})" for cache in ("warm", "cold") for n in (2, 10)),
        "a_new_one",
    ]


def test_only_unstable_cells_are_flagged_and_explained(tmp_path: Path) -> None:
    assert "unstable" not in _show(make_run(), tmp_path)
    document = make_run(["png", "lmdb"], [10])
    document["benchmarks"][0]["stats"]["data"] = [1.0, 2.0]
    markdown = _show(document, tmp_path)
    flagged = [row["backend"] for rows in _parse(markdown).values() for row in rows if row["flag"] == "unstable"]
    assert flagged == ["png"]
    assert markdown.splitlines()[-1].startswith("unstable: IQR above 10 % of the median, or fewer than 3 rounds.")


def test_the_heading_names_run_images_and_machine(tmp_path: Path) -> None:
    document = make_run()
    document["run"]["cpu_count"] = 1
    heading = _show(document, tmp_path).partition("\n### ")[0].splitlines()
    assert heading[:6] == [
        "## Run of 2026-11-21 06:39, commit 01234567 (stand-in images)",
        "",
        "- Images: standin, 100,000 images, SHA-256 ab12cd34ab12",
        "- Machine: AMD EPYC 9654 96-Core Processor, 1 core, Linux 6.18.44, ext4",
        "- Libraries: python 3.11.7, numpy 2.4.6",
        "- Complete run: 39 cells measured",
    ]


def test_the_heading_lists_missing_cells(tmp_path: Path) -> None:
    document = make_run()
    document["run"] |= {
        "complete": False,
        "intended": [*document["run"]["intended"], "never"],
        "failed": {"benchmarks/test_many.py::test_read_many[png-10]": "AssertionError:\n  pixels differ"},
        "skipped": {"benchmarks/test_many.py::test_read_many[png-9]": "no room on the disk"},
    }
    heading = _show(document, tmp_path).partition("\n### ")[0]
    assert "(stand-in images, incomplete run)" in heading.splitlines()[0]
    assert "- **Incomplete run**: 39 cells measured, 1 never run\n" in heading
    assert "- Failed: benchmarks/test_many.py::test_read_many[png-10]: AssertionError: pixels differ\n" in heading
    assert "- Skipped: benchmarks/test_many.py::test_read_many[png-9]: no room on the disk\n" in heading


def test_columns_are_aligned_and_numbers_to_the_right(tmp_path: Path) -> None:
    markdown = _show(make_run(), tmp_path)
    for block in markdown.split("\n\n"):
        assert len({len(line) for line in block.splitlines() if line.startswith("|")}) <= 1, "equally long lines"
    lines = markdown.splitlines()
    header, rules, row = lines[lines.index("### store_many (buffered)") + 2 :][:3]
    aligned = dict(zip((cell.strip() for cell in header.split("|")), rules.split("|"), strict=True))
    left = {name for name, rule in aligned.items() if name and not rule.strip().endswith("-:")}
    assert left == {"backend", "flag"}
    assert row.startswith("| lmdb    |     10 |")


_HOSTILE = [
    *("a|b", "a\\|b", "a\\", "`code`", "<script>alert(1)</script>", "line\nbreak\r\n\n# heading"),
    *("[link](https://example.org)", "![image](x)", "**bold** _it_ ~~gone~~", "&lt;&#124;", "\x1b[31mred", "$x_1$"),
]


@pytest.mark.parametrize("name", _HOSTILE)
def test_a_hostile_name_is_shown_as_text(name: str, tmp_path: Path) -> None:
    document = run_of([make_cell("read_many", name, 10), make_cell(name, "png", 10, param=name)])
    document["run"] |= {"failed": {name: name}, "libraries": {name: name}}
    document["machine_info"]["cpu"]["brand_raw"] = document["commit_info"]["id"] = name
    document["run"]["image_set"]["name"] = document["run"]["store_directory"]["file_system"] = name
    markdown = _show(document, tmp_path)
    tables = _parse(markdown)
    assert tables["read_many"][0]["backend"] == shorten_text(name, 40)
    assert len(tables) == 2
    assert "<" not in markdown
    assert not re.search(r"(?<!\\)`|\x1b|(?<!\\)\]\(", markdown)
    assert len(re.findall(r"^#", markdown, re.MULTILINE)) == 4, "one title and one heading a table"
    assert len(re.findall(r"^- ", markdown, re.MULTILINE)) == 5, "a name starts no list"


@given(name=st.text(min_size=1))
@settings(max_examples=50)
def test_any_name_comes_back_from_its_cell(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("name")
    rows = _parse(_show(run_of([make_cell("read_many", name, 10)]), folder))["read_many"]
    assert [row["backend"] for row in rows] == [shorten_text(name, 40).strip()]


@given(chosen=st.data())
@settings(max_examples=40)
def test_a_run_without_any_of_its_cells_has_a_table(
    chosen: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    document = make_run(["png", "lmdb"], [10, 1000], durable=True)
    document["benchmarks"] = chosen.draw(
        st.lists(st.sampled_from(document["benchmarks"]), min_size=1, unique_by=lambda cell: str(cell["fullname"]))
    )
    markdown = _show(document, tmp_path_factory.mktemp("fewer"))
    assert sum(map(len, _parse(markdown).values())) == len(document["benchmarks"])
