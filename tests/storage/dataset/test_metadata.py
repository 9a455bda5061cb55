"""Metadata: a table with a row per image, kept exactly, with and without pyarrow."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import storage
from storage import BackendUnavailableError, CorruptStoreError, InvalidInputError
from storage.dataset import metadata, writer
from storage.dataset.conversion import convert
from storage.sources.opening import open_source
from tests.support.datasets import find_beside, flip_bit, rewrite_beside, rewrite_details
from tests.support.image_sets import make_set
from tests.support.open_files import list_names
from tests.support.properties import given, settings, st

COUNT = 6
IMAGES, LABELS = make_set(COUNT, 5, 7)
TABLE: dict[str, list[Any]] = {
    "caption": ["a cat", "", 'naïve "dog"\n', None, "\0", "e"],
    "size": [0, -(2**63), 2**63 - 1, 1, 2, None],
    "score": [0.5, -0.0, 1e300, float("inf"), 3.0, None],
    "is good": [True, False, None, True, True, False],
    "boxes": [[[1, 2, 3, 4]], [], [[], [5]], None, [[6]], [None]],
    "unknown": [None] * COUNT,
}


@pytest.fixture(params=["arrow", "jsonl"])
def suffix(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Write tables with pyarrow, or as if it weren't installed."""
    if request.param == "arrow":
        pytest.importorskip("pyarrow", reason="pyarrow isn't installed")
    else:
        monkeypatch.setattr(metadata, "_find_pyarrow", lambda: None)
    return str(request.param)


@pytest.fixture
def saved(suffix: str, tmp_path: Path) -> Path:
    storage.save(tmp_path / "set", IMAGES, LABELS, "npy", metadata=TABLE)
    assert find_beside(tmp_path / "set", suffix).exists()
    return tmp_path / "set"


def test_a_table_is_read_as_it_was_saved(saved: Path) -> None:
    with storage.open(saved) as reader:
        assert reader.metadata == TABLE
        assert [type(value) for value in reader.metadata["is good"][:2]] == [bool, bool]
    assert storage.check(saved).is_whole


VALUES = st.none() | st.text(st.characters(exclude_categories=["Cs"])), st.none() | st.floats(allow_nan=False)
INTEGERS = st.integers(-(2**63), 2**63 - 1)
LISTS = st.lists(INTEGERS | st.none()) | st.none()
COLUMNS = st.integers(0, 5).flatmap(
    lambda count: st.dictionaries(
        st.text(st.characters(categories=["L", "N"]), min_size=1),
        st.one_of(*(st.lists(each, min_size=count, max_size=count) for each in (*VALUES, INTEGERS, LISTS))),
        min_size=1,
    )
)


@pytest.mark.parametrize("with_pyarrow", [True, False])
@settings(max_examples=40)
@given(columns=COLUMNS)
def test_any_table_is_parsed_as_it_was_written(columns: dict[str, list[Any]], *, with_pyarrow: bool) -> None:
    count = len(next(iter(columns.values())))
    checked = metadata.check_columns(columns, count)
    assert checked == columns
    with pytest.MonkeyPatch.context() as patch:
        if not with_pyarrow:
            patch.setattr(metadata, "_find_pyarrow", lambda: None)
        written = metadata.format_columns(checked)
        assert metadata.parse_columns(Path("set"), *written, count) == columns


def test_a_table_survives_conversion_appending_and_compacting(
    saved: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    twice = {name: values * 2 for name, values in TABLE.items()}
    storage.append(saved, IMAGES, LABELS, metadata=TABLE)
    monkeypatch.setattr(writer, "PART", 4 * IMAGES[0].nbytes)
    rewrites: list[Callable[[], object]] = [
        lambda: None,
        lambda: storage.compact(saved),
        lambda: convert_in_place(saved),
    ]
    for rewrite in rewrites:
        rewrite()
        with storage.open(saved) as reader:
            assert reader.metadata == twice
    assert len(list(saved.glob(f"*.{suffix}"))) == 3


def convert_in_place(path: Path) -> None:
    with open_source(path) as source:
        convert(source, path, "png", overwrite=True, progress=lambda *_: None)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ([1], "metadata is a list"),
        ({5: [1] * COUNT}, "metadata has a column 5"),
        ({"a\n": [1] * COUNT}, r"metadata has a column 'a\\n'"),
        ({"a": "abcdef"}, "the column 'a' is a str"),
        ({"a": 7}, "the column 'a' is a int"),
        ({"a": [1] * 5}, "the column 'a' has 5 values for 6 images"),
        ({"a": [1, 2.5, 3, 4, 5, 6]}, "the column 'a' mixes float and int"),
        ({"a": [1, True, 3, 4, 5, 6]}, "the column 'a' mixes bool and int"),
        ({"a": [1, [1], 3, 4, 5, 6]}, "the column 'a' mixes int and list of int"),
        ({"a": [2**63] * COUNT}, "the column 'a' has a value 9223372036854775808"),
        ({"a": [{}] * COUNT}, "the column 'a' has a value {}"),
        ({"a": [np.bytes_(b"x")] * COUNT}, "the column 'a' has a value "),
        ({"a": [[np.datetime64(0, "D")]] * COUNT}, "the column 'a' has a value "),
        ({"a": ["\ud800"] * COUNT}, "the column 'a' has text that isn't Unicode"),
        ({"a": [[[[[[[[[[1]]]]]]]]]] * COUNT}, "the column 'a' has a value "),
    ],
    ids=str,
)
def test_what_is_no_table_of_plain_values_is_refused(table: Any, message: str, tmp_path: Path) -> None:  # noqa: ANN401
    with pytest.raises(InvalidInputError, match=message):
        storage.save(tmp_path / "set", IMAGES, LABELS, "npy", metadata=table)
    assert list_names(tmp_path) == []


def test_a_column_may_be_an_array(tmp_path: Path) -> None:
    boxes = np.arange(2 * COUNT, dtype=np.float32).reshape(COUNT, 2)
    storage.save(tmp_path / "set", IMAGES, LABELS, "npy", metadata={"box": boxes})
    with storage.open(tmp_path / "set") as reader:
        assert reader.metadata == {"box": boxes.tolist()}


def test_values_of_numpy_are_accepted_in_lists_as_in_arrays(saved: Path) -> None:
    given: dict[str, list[Any]] = {
        "score": [np.float32(0.5)] * COUNT,
        "size": [np.int64(7), None, *[np.uint8(3)] * 4],
        "good": [[np.bool_(1)], (), *[[True]] * 4],
        "box": [np.arange(4, dtype=np.int16)] * COUNT,
    }
    storage.save(saved, IMAGES, LABELS, "npy", metadata=given, overwrite=True)
    with storage.open(saved) as reader:
        assert reader.metadata == {
            "score": [0.5] * COUNT,
            "size": [7, None, 3, 3, 3, 3],
            "good": [[True], [], *[[True]] * 4],
            "box": [[0, 1, 2, 3]] * COUNT,
        }


def test_lists_of_nothing_but_none_are_read_however_many_they_are(saved: Path) -> None:
    given: dict[str, list[Any]] = {"unknown": [[None] * 5000] * COUNT} | {
        f"empty {number}": [None] * COUNT for number in range(99)
    }
    storage.save(saved, IMAGES, LABELS, "npy", metadata=given, overwrite=True)
    with storage.open(saved) as reader:
        assert reader.metadata == given


@pytest.mark.parametrize("is_new", [True, False], ids=["with a summary", "of an earlier version"])
@pytest.mark.parametrize(
    ("table", "message"),
    [
        (None, "the columns of its metadata are others: give these columns: caption, size"),
        ({"caption": ["x"] * COUNT}, "the columns of its metadata are others"),
        (TABLE | {"size": ["x"] * COUNT}, "the column 'size' mixes int and str"),
    ],
    ids=["none", "fewer", "type"],
)
def test_another_table_is_not_appended(table: Any, message: str, saved: Path, *, is_new: bool) -> None:  # noqa: ANN401
    if not is_new:
        rewrite_details(saved, summary=None)
    with pytest.raises(InvalidInputError, match=message):
        storage.append(saved, IMAGES, LABELS, metadata=table)
    with storage.open(saved) as reader:
        assert reader.metadata == TABLE


def test_the_type_of_a_column_is_that_of_its_first_value_in_any_part(tmp_path: Path) -> None:
    path = tmp_path / "set"
    storage.save(path, IMAGES, LABELS, "npy", metadata={"a": [None] * COUNT, "b": [[]] * COUNT})
    storage.append(path, IMAGES[:1], LABELS[:1], metadata={"b": [[3]], "a": ["text"]})
    storage.append(path, IMAGES[:1], LABELS[:1], metadata={"a": [None], "b": [[]]})
    tables: Any = (({"a": [3], "b": [[3]]}, "int and str"), ({"a": ["x"], "b": [["x"]]}, "list of int and list"))
    for table, found in tables:
        with pytest.raises(InvalidInputError, match=f"mixes {found}"):
            storage.append(path, IMAGES[:1], LABELS[:1], metadata=table)
    with storage.open(path) as reader:
        assert reader.metadata == {"a": [None] * COUNT + ["text", None], "b": [[]] * COUNT + [[3], []]}


def test_a_dataset_without_a_table_takes_none(tmp_path: Path) -> None:
    storage.save(tmp_path / "set", IMAGES, LABELS, "npy")
    with pytest.raises(InvalidInputError, match="are others: give these columns: none"):
        storage.append(tmp_path / "set", IMAGES, LABELS, metadata=TABLE)
    with storage.open(tmp_path / "set") as reader:
        assert reader.metadata == {}


def test_a_damaged_table_is_refused_and_listed(saved: Path, suffix: str) -> None:
    path = find_beside(saved, suffix)
    flip_bit(path, 40)
    with (
        storage.open(saved) as reader,
        pytest.raises(CorruptStoreError, match=rf"^{saved}: the file {path.name} is dam"),
    ):
        dict(reader.metadata)
    assert list(storage.check(saved).files) == [path.name]


def make_table(change: Callable[[Any], bytes]) -> bytes:
    return change(pytest.importorskip("pyarrow", reason="pyarrow isn't installed"))


def write_arrow(pyarrow: Any, table: Any, **options: Any) -> bytes:  # noqa: ANN401
    sink = pyarrow.BufferOutputStream()
    with pyarrow.ipc.new_file(sink, table.schema, options=pyarrow.ipc.IpcWriteOptions(**options)) as file:
        file.write_table(table)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def make_column(make: Callable[[Any], Any]) -> bytes:
    return make_table(lambda pa: write_arrow(pa, pa.table({"a": make(pa)})))


WRONG: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "compressed": (
        "arrow",
        lambda: make_table(lambda pa: write_arrow(pa, pa.table({"a": ["x" * 999] * COUNT}), compression="zstd")),
        "a compressed table",
    ),
    "dictionary": (
        "arrow",
        lambda: make_table(lambda pa: write_arrow(pa, pa.table({"a": pa.array(["x"] * COUNT).dictionary_encode()}))),
        "a message of type dictionary",
    ),
    "rows": ("arrow", lambda: make_table(lambda pa: write_arrow(pa, pa.table({"a": [1, 2]}))), "hasn't 6 rows"),
    "many rows": ("arrow", lambda: make_column(lambda pa: pa.nulls(1 << 30)), "hasn't 6 rows"),
    "many values": (
        "arrow",
        lambda: make_column(lambda pa: pa.ListArray.from_arrays([0, *[1 << 30] * COUNT], pa.nulls(1 << 30))),
        "1,073,741,830 values in ",
    ),
    "runs": (
        "arrow",
        lambda: make_column(lambda pa: pa.RunEndEncodedArray.from_arrays(pa.array([COUNT], pa.int32()), ["x"])),
        "a column of type run_end_encoded",
    ),
    "views of lists": (
        "arrow",
        lambda: make_column(
            lambda pa: pa.ListViewArray.from_arrays(
                [0] * COUNT, pa.array([1 << 30] * COUNT, pa.int32()), pa.nulls(1 << 30)
            )
        ),
        "a column of type list_view",
    ),
    "lists of one size": (
        "arrow",
        lambda: make_column(lambda pa: pa.FixedSizeListArray.from_arrays(pa.nulls(COUNT << 20), 1 << 20)),
        "a column of type fixed_size_list",
    ),
    "dates": (
        "arrow",
        lambda: make_column(lambda pa: pa.array([0] * COUNT, pa.timestamp("s"))),
        "a column of type time",
    ),
    "unsigned": (
        "arrow",
        lambda: make_column(lambda pa: pa.array([[2**63]] * COUNT, pa.list_(pa.uint64()))),
        "type uint64",
    ),
    "mappings": ("arrow", lambda: make_column(lambda pa: pa.array([{"b": 1}] * COUNT)), "a column of type struct"),
    "deep": ("arrow", lambda: make_column(lambda pa: pa.array([[[[[[[[[[1]]]]]]]]]] * COUNT)), "a column of type list"),
    "two of a name": (
        "arrow",
        lambda: make_table(lambda pa: write_arrow(pa, pa.table([[1] * COUNT] * 2, names=["a", "a"]))),
        "impossible names of columns",
    ),
    "a control character": (
        "arrow",
        lambda: make_table(lambda pa: write_arrow(pa, pa.table({"a\x1b": [1] * COUNT}))),
        "impossible names of columns",
    ),
    "two lines of a name": ("jsonl", lambda: b'["a", "a"]\n' + b'{"a": 1}\n' * COUNT, "impossible names of columns"),
    "a mapping": ("jsonl", lambda: b'["a"]\n' + b'{"a": {"x": 1}}\n' * COUNT, "the column 'a' has a value"),
    "no table": ("arrow", lambda: b"ARROW1\0\0" + b"\xff" * 40, "can't be read"),
    "nothing": ("arrow", lambda: b"", "can't be read"),
    "no JSON": ("jsonl", lambda: b"{\n", "can't be read"),
    "no lines": ("jsonl", lambda: b"", "can't be read"),
    "a list": ("jsonl", lambda: b'["a"]\n' + b"[1]\n" * COUNT, "can't be read"),
    "a number": ("jsonl", lambda: b"5\n", "can't be read"),
    "missing": ("jsonl", lambda: b'["a"]\n' + b"{}\n" * COUNT, "can't be read"),
    "fewer": ("jsonl", lambda: b'["a"]\n{"a": 1}\n', "hasn't 6 rows"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_hostile_table_is_refused(name: str, tmp_path: Path) -> None:
    suffix, make, message = WRONG[name]
    storage.save(tmp_path / "set", IMAGES, LABELS, "npy")
    find_beside(tmp_path / "set", suffix).touch()
    rewrite_beside(tmp_path / "set", suffix, make())
    with (
        storage.open(tmp_path / "set") as reader,
        pytest.raises(CorruptStoreError, match=f"{tmp_path}/set: .*{message}"),
    ):
        dict(reader.metadata)
    assert list(storage.check(tmp_path / "set").files) == [find_beside(tmp_path / "set", suffix).name]


def test_parts_with_different_columns_are_refused(saved: Path, suffix: str) -> None:
    storage.append(saved, IMAGES, LABELS, metadata=TABLE)
    storage.save(saved.with_name("other"), IMAGES, LABELS, "npy", metadata={"other": [1] * COUNT})
    rewrite_beside(saved, suffix, find_beside(saved.with_name("other"), suffix).read_bytes())
    with storage.open(saved) as reader, pytest.raises(CorruptStoreError, match="its parts have different columns"):
        list(reader.metadata["other"])
    assert list(storage.check(saved).files) == [find_beside(saved, suffix, 1).name]


def test_a_table_of_some_parts_alone_is_refused_and_listed(saved: Path) -> None:
    storage.append(saved, IMAGES, LABELS, metadata=TABLE)
    beside = json.loads(find_beside(saved, "json").read_text())["beside"]
    rewrite_details(saved, beside={name: file for name, file in beside.items() if name not in {"arrow", "jsonl"}})
    with (
        storage.open(saved) as reader,
        pytest.raises(CorruptStoreError, match="have metadata, and some don't"),
    ):
        dict(reader.metadata)
    assert not storage.check(saved).is_whole


def test_a_table_of_arrow_needs_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow isn't installed")
    storage.save(tmp_path / "set", IMAGES, LABELS, "npy", metadata=TABLE)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with storage.open(tmp_path / "set") as reader:
        assert reader[0][1] == LABELS[0]
        with pytest.raises(BackendUnavailableError, match="needs pyarrow: python -m pip install pyarrow"):
            dict(reader.metadata)


def test_details_that_lose_a_table_lose_nothing_else(saved: Path, suffix: str) -> None:
    beside = json.loads(find_beside(saved, "json").read_text())["beside"]
    del beside[suffix]
    rewrite_details(saved, beside=beside)
    with storage.open(saved) as reader:
        assert (reader.metadata, reader.targets) == ({}, LABELS.tolist())
