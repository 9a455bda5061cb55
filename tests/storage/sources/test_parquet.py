"""Parquet files of image files, as the Hugging Face hub writes them."""

import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import storage
from storage import CorruptStoreError, InvalidInputError, StorageError
from storage.errors import BackendUnavailableError
from storage.sources import parquet
from storage.sources.examination import examine
from storage.sources.opening import open_source
from storage.sources.parquet import ParquetSource
from storage.sources.payload import Payload
from tests.support.image_files import make_picture, save
from tests.support.source_files import make_image_column, write_parquet

pa = pytest.importorskip("pyarrow", reason="pyarrow isn't installed")

pytest_plugins = ["tests.support.command_fixtures"]

COUNT = 25
PNG = save(make_picture(), "png")
FILES = [PNG + b"%d" % number for number in range(COUNT)]
PATHS = [f"{number}.png" for number in range(COUNT)]
LABELS = [number % 2 for number in range(COUNT)]
CLASSES = ("cat", "dog")
FEATURES = {"info": {"features": {"image": {"_type": "Image"}, "label": {"names": CLASSES, "_type": "ClassLabel"}}}}


def make_columns(first: int = 0, last: int = COUNT) -> dict[str, Any]:
    rows = slice(first, last)
    return {"image": make_image_column(FILES[rows], PATHS[rows]), "label": pa.array(LABELS[rows], pa.int64())}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_parquet(tmp_path / "set", make_columns(), FEATURES, row_group_size=10)


def find(path: Path) -> ParquetSource:
    with open_source(path) as source:
        assert isinstance(source, ParquetSource)
        return source


def read(source: ParquetSource, indices: Iterable[int]) -> list[bytes]:
    return [bytes(content) for content in source.read_files(indices) if not isinstance(content, StorageError)]


def refuse(path: Path) -> str:
    with pytest.raises(StorageError) as caught, open_source(path):
        pass
    assert caught.value.store is not None
    return str(caught.value)


def test_a_file_of_the_hub_is_read_with_names_labels_and_classes(path: Path) -> None:
    source = find(path)
    assert source.names is not None
    assert list(source.names) == PATHS
    assert (source.classes, source.labels.tolist()) == (CLASSES, LABELS)
    assert (source.kind, source.metadata, source.problems) == ("encoded", None, ())


@pytest.mark.parametrize("indices", [range(COUNT), range(17, COUNT), [0, 9, 10, 19, 20, 24], [3, 8], []], ids=str)
def test_any_files_are_read_in_order(indices: Iterable[int], path: Path) -> None:
    assert read(find(path), indices) == [FILES[index] for index in indices]


def test_rows_are_taken_to_have_the_same_size(path: Path) -> None:
    sizes = find(path).sizes
    assert (len(sizes), len(set(sizes.tolist()))) == (COUNT, 1)
    assert path.stat().st_size - COUNT < sizes.sum() <= path.stat().st_size


def test_examined_files_tell_which_columns_are_left_out(tmp_path: Path) -> None:
    columns = make_columns() | {"text": pa.nulls(COUNT)}
    with open_source(write_parquet(tmp_path / "set", columns, FEATURES)) as source:
        examined = examine(source, Payload("encoded"), lambda *_: None)
        assert [*examined.list_left_out()] == [*source.list_left_out()] != []


def test_the_shards_of_a_folder_are_one_set(tmp_path: Path) -> None:
    for number, (first, last) in enumerate([(0, 10), (10, 10), (10, COUNT)]):
        name = f"train-{number:05}-of-00003.parquet"
        write_parquet(tmp_path / name, make_columns(first, last), FEATURES, row_group_size=7)
    source = find(tmp_path)
    assert source.labels.tolist() == LABELS
    assert read(source, range(COUNT)) == FILES
    assert read(source, [9, 10, 24]) == [FILES[9], FILES[10], FILES[24]]
    for file in tmp_path.iterdir():
        source = find(tmp_path)
        os.utime(file, ns=(0, 0))
        assert source.identify() != source.identity


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (["train-00000-of-00001", "test-00000-of-00001"], "it has more than one split: "),
        (["train-00000-of-00002", "train-00001-of-00003"], "it has more than one split: "),
        (["train-00000-of-00001", "more"], "it has more than one split: "),
        (["train-00000-of-00003", "train-00002-of-00003"], "it has 2 of the 3 shards of train"),
    ],
)
def test_a_folder_of_something_else_than_one_split_is_refused(names: list[str], reason: str, tmp_path: Path) -> None:
    for name in names:
        write_parquet(tmp_path / f"{name}.parquet", make_columns())
    assert reason in refuse(tmp_path)


def test_columns_that_not_all_shards_have_are_left_out(tmp_path: Path) -> None:
    columns = {"image": pa.array(FILES), "label": LABELS, "size": [0.5] * COUNT}
    write_parquet(tmp_path / "1.parquet", columns | {"more": LABELS, "text": PATHS})
    write_parquet(tmp_path / "2.parquet", columns | {"text": [None] * COUNT})
    source = find(tmp_path)
    assert source.metadata == {"size": [0.5] * 2 * COUNT}
    assert source.left_out == {
        "more": "it isn't of one type in all files",
        "text": "it is of type null",
    }


@pytest.mark.parametrize("label", [PATHS, pa.array(LABELS, pa.int8())], ids=["text", "other numbers"])
def test_shards_with_other_labels_are_refused(label: object, tmp_path: Path) -> None:
    write_parquet(tmp_path / "1.parquet", make_columns())
    write_parquet(tmp_path / "2.parquet", make_columns() | {"label": label})
    assert "2.parquet: its columns aren't those of 1.parquet" in refuse(tmp_path)


@pytest.mark.parametrize(
    ("columns", "features", "labels", "classes", "metadata"),
    [
        ({}, None, None, (), None),
        ({"label": LABELS}, None, LABELS, (), None),
        ({"kind": LABELS}, None, LABELS, (), None),
        ({"caption": ["text"] * COUNT, "score": [0.5] * COUNT}, None, None, (), ["caption", "score"]),
        ({"width": LABELS, "label": LABELS}, FEATURES, LABELS, CLASSES, ["width"]),
        ({"width": LABELS, "height": LABELS}, None, None, (), ["width", "height"]),
        (
            {"width": [9] * COUNT, "fine": LABELS, "coarse": LABELS},
            {
                "info": {
                    "features": {
                        "fine": {"_type": "ClassLabel", "names": CLASSES},
                        "coarse": {"_type": "ClassLabel", "names": ["animal"]},
                    }
                }
            },
            LABELS,
            CLASSES,
            ["width", "coarse"],
        ),
    ],
)
def test_the_column_of_labels_is_found_and_all_others_are_metadata(
    columns: dict[str, list[Any]],
    features: object,
    labels: list[int] | None,
    classes: tuple[str, ...],
    metadata: list[str] | None,
    tmp_path: Path,
) -> None:
    image = {"image": make_image_column(FILES, PATHS)}
    source = find(write_parquet(tmp_path / "set", image | columns, features))
    np.testing.assert_array_equal(source.labels, labels or 0)
    assert source.classes == classes
    assert source.metadata == (None if metadata is None else {name: columns[name] for name in metadata})


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()], ids=str)
def test_strings_in_the_column_label_are_the_names_of_classes(kind: Any, tmp_path: Path) -> None:  # noqa: ANN401 - of pyarrow
    names = ["dog", "cat", "dog"] * 8 + ["ant"]
    columns = make_columns() | {"label": pa.array(names, kind), "width": pa.array(LABELS)}
    source = find(write_parquet(tmp_path / "set", columns, FEATURES))
    assert source.classes == ("ant", "cat", "dog")
    assert [source.classes[label] for label in source.labels] == names
    assert source.metadata == {"width": LABELS}


def test_more_strings_than_there_are_classes_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "MAX_CLASSES", COUNT - 1)
    path = write_parquet(tmp_path / "set", make_columns() | {"label": PATHS})
    assert f"{path}: its column label has 25 distinct strings, more than 24 classes" in refuse(path)


@pytest.mark.parametrize(("names", "twice"), [(["label", "label"], "label"), (["image.bytes", "x"], "image.bytes")])
def test_two_columns_of_one_name_are_refused(names: list[str], twice: str, tmp_path: Path) -> None:
    columns = [make_image_column(FILES, PATHS), pa.array(LABELS), pa.array(LABELS)]
    table = pa.table(columns, names=["image", *names])
    pytest.importorskip("pyarrow.parquet").write_table(table, tmp_path / "set")
    assert f"set: it is a Parquet file, and has 2 columns {twice}: rename all but one" in refuse(tmp_path / "set")


@pytest.mark.parametrize(
    "features",
    [1, [], {"info": 1}, {"info": {"features": {"label": 1}}}]
    + [{"info": {"features": {"label": {"_type": "ClassLabel", "names": names}}}} for names in (1, [1])],
    ids=str,
)
def test_names_of_classes_that_are_none_are_ignored(features: object, tmp_path: Path) -> None:
    source = find(write_parquet(tmp_path / "set", make_columns(), features))
    assert (source.classes, source.labels.tolist()) == ((), LABELS)


@pytest.mark.parametrize(
    ("paths", "metadata"),
    [
        (["same.png"] * COUNT, {"path": ["same.png"] * COUNT}),
        (["/absolute.png", *PATHS[1:]], {"path": ["/absolute.png", *PATHS[1:]]}),
        ([None, *PATHS[1:]], {"path": [None, *PATHS[1:]]}),
        ([None] * COUNT, None),
    ],
    ids=["the same", "absolute", "one is missing", "none"],
)
def test_paths_that_are_no_names_are_metadata(
    paths: list[str | None], metadata: Mapping[str, list[str | None]] | None, tmp_path: Path
) -> None:
    columns = make_columns() | {"image": make_image_column(FILES, paths)}
    source = find(write_parquet(tmp_path / "set", columns))
    assert (source.names, source.metadata) == (None, metadata)


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()], ids=str)
def test_a_binary_column_is_read_as_well(kind: Any, tmp_path: Path) -> None:  # noqa: ANN401 - of pyarrow
    source = find(write_parquet(tmp_path / "set", {"jpg": pa.array(FILES, kind)}))
    assert read(source, [2, 7]) == [FILES[2], FILES[7]]
    assert (source.names, source.labels.tolist()) == (None, [0] * COUNT)


def test_a_struct_without_paths_is_read_as_well(tmp_path: Path) -> None:
    column = pa.array([{"bytes": file} for file in FILES], pa.struct([("bytes", pa.binary())]))
    source = find(write_parquet(tmp_path / "set", {"image": column}))
    assert source.names is None
    assert read(source, [24]) == [FILES[24]]


def test_an_image_whose_content_is_elsewhere_is_a_problem(tmp_path: Path) -> None:
    files = [None, *FILES[1:]]
    path = write_parquet(tmp_path / "set", make_columns() | {"image": make_image_column(files, PATHS)})
    first, second = find(path).read_files([0, 1])
    assert isinstance(first, InvalidInputError)
    assert first.problem == "its content isn't in the file"
    assert second == FILES[1]


@pytest.mark.parametrize(
    ("labels", "kind", "expected", "reason"),
    [
        ([None, *LABELS[1:]], pa.int64(), LABELS, "it has no label"),
        ([1 << 63, *LABELS[1:]], pa.uint64(), LABELS, "its label doesn't fit in 64 bits"),
        ([None, *(CLASSES[label] for label in LABELS[1:])], pa.string(), LABELS, "it has no label"),
    ],
    ids=["no label", "a large label", "no text"],
)
def test_an_image_without_a_label_is_the_only_one_that_cannot_be_used(
    run: Any,  # noqa: ANN401 - a fixture
    labels: list[Any],
    kind: Any,  # noqa: ANN401 - of pyarrow
    expected: list[int],
    reason: str,
    tmp_path: Path,
) -> None:
    path = write_parquet(tmp_path / "set", make_columns() | {"label": pa.array(labels, kind)})
    command = ("convert", path, tmp_path / "new", "--backend", "npy")
    code, out, _ = run(*command)
    assert (code, out.splitlines()[0]) == (1, f"0.png: {reason}")
    assert run(*command, "--on-error=skip")[0] == 0
    with storage.open(tmp_path / "new") as reader:
        assert (list(reader.names), reader.read_labels().tolist()) == (PATHS[1:], expected[1:])
        assert [bytes(file) for file in reader.read_encoded(range(COUNT - 1))[0]] == FILES[1:]
        assert reader.skipped == (("0.png", reason),)


def test_an_empty_file_is_an_empty_set(tmp_path: Path) -> None:
    source = find(write_parquet(tmp_path / "set", make_columns(0, 0), FEATURES))
    assert (len(source.labels), list(source.read_files([]))) == (0, [])


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"label": pa.array(LABELS)}, "no column holds files; it has label int64"),
        (
            {"a": pa.array(FILES), "b": pa.array(FILES)},
            "more than one of its columns holds files: a, b; ",
        ),
        ({"image": pa.array([{"bytes": "text"}] * COUNT)}, "no column holds files; it has image struct<bytes: string>"),
    ],
    ids=["none", "two", "texts"],
)
def test_columns_that_cannot_be_kept_are_refused(columns: dict[str, Any], reason: str, tmp_path: Path) -> None:
    assert reason in refuse(write_parquet(tmp_path / "set", columns))


@pytest.mark.parametrize("codec", ["none", "snappy", "gzip", "brotli", "lz4", "zstd"])
@pytest.mark.parametrize("options", [{"use_dictionary": False}, {"data_page_version": "2.0"}], ids=str)
def test_a_file_is_read_whatever_its_compression_and_pages(codec: str, options: dict[str, Any], tmp_path: Path) -> None:
    columns = make_columns() | {"caption": ["a text"] * COUNT}
    path = write_parquet(tmp_path / "set", columns, FEATURES, row_group_size=10, compression=codec, **options)
    source = find(path)
    assert read(source, range(COUNT)) == FILES
    assert (source.labels.tolist(), source.classes) == (LABELS, CLASSES)
    assert (source.metadata, source.left_out) == ({"caption": ["a text"] * COUNT}, {})


def test_lists_are_metadata_and_what_metadata_cannot_hold_is_left_out(tmp_path: Path) -> None:
    boxes = [[[0.5, 1.0]] * (number % 3) for number in range(COUNT)]
    columns = make_columns() | {
        "boxes": boxes,
        "tags": pa.array([["a", "b"]] * COUNT, pa.large_list(pa.string())),
        "point": pa.array([[1, 2]] * COUNT, pa.list_(pa.int32(), 2)),
        "objects": [{"bbox": box, "area": [1]} for box in boxes],
        "polygons": [[{"x": 1}]] * COUNT,
        "when": pa.array([0] * COUNT, pa.timestamp("ms")),
        "hash": pa.array([1 << 63] * COUNT, pa.uint64()),
        "mask": make_image_column(FILES, PATHS),
        "nothing": pa.nulls(COUNT),
    }
    source = find(write_parquet(tmp_path / "set", columns, FEATURES))
    assert source.metadata == {"boxes": boxes, "tags": [["a", "b"]] * COUNT, "point": [[1, 2]] * COUNT}
    assert {name: reason.split("<")[0] for name, reason in source.left_out.items()} == {
        "hash": "the column 'hash' has a value 9223372036854775808",
        "objects": "it is of type struct",
        "polygons": "it is of type list",
        "when": "it is of type timestamp[ms]",
        "mask": "it is of type struct",
        "nothing": "it is of type null",
    }
    assert read(source, [3, 24]) == [FILES[3], FILES[24]]


def test_a_column_that_the_hub_calls_an_image_comes_before_other_files(tmp_path: Path) -> None:
    columns = {"audio": make_image_column([b"sound"] * COUNT, PATHS), "picture": make_image_column(FILES, PATHS)}
    features = {"info": {"features": {"picture": {"_type": "Image"}, "audio": {"_type": "Audio"}, "tags": [{}]}}}
    source = find(write_parquet(tmp_path / "set", columns, features))
    assert read(source, [7]) == [FILES[7]]


def test_boolean_labels_are_0_and_1(tmp_path: Path) -> None:
    columns = make_columns() | {"label": [bool(label) for label in LABELS], "width": [9] * COUNT}
    source = find(write_parquet(tmp_path / "set", columns))
    assert (source.labels.tolist(), source.metadata) == (LABELS, {"width": [9] * COUNT})


def test_a_column_of_categories_is_read_as_their_values(tmp_path: Path) -> None:
    names = pa.array(["dog" if label else "cat" for label in LABELS])
    columns = make_columns() | {"label": names.dictionary_encode(), "caption": names.dictionary_encode()}
    source = find(write_parquet(tmp_path / "set", columns))
    assert (source.labels.tolist(), source.classes, source.metadata) == (
        LABELS,
        CLASSES,
        {"caption": names.to_pylist()},
    )


def test_files_in_a_large_dictionary_are_read_one_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_parquet(tmp_path / "set", make_columns())
    assert [group.together for group in find(path).groups] == [8]
    monkeypatch.setattr("storage.sources.parquet_pages.LARGE", 100)
    source = find(path)
    assert [group.together for group in source.groups] == [1]
    assert read(source, [0, 1, 24]) == [FILES[0], FILES[1], FILES[24]]


@pytest.mark.parametrize("column", ["caption", "label", "image"])
@pytest.mark.parametrize("encoding", ["DELTA_LENGTH_BYTE_ARRAY", "DELTA_BYTE_ARRAY"])
def test_encodings_without_a_limit_are_not_read(encoding: str, column: str, tmp_path: Path) -> None:
    columns = {"image": pa.array(FILES), "label": PATHS, "caption": PATHS}
    options: dict[str, Any] = {"use_dictionary": False, "column_encoding": {column: encoding}}
    path = write_parquet(tmp_path / "set", columns, **options)
    if column == "caption":
        assert list(find(path).left_out) == [column]
    else:
        assert f"{column} is encoded as {encoding}, in which" in refuse(path)


@pytest.mark.parametrize("column", ["caption", "image"])
def test_a_codec_that_pyarrow_does_not_know_is_not_read(
    column: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.sources.parquet_pages.CODECS", {"SNAPPY"})
    columns = {"image": pa.array(FILES), "caption": PATHS}
    compression = dict.fromkeys(columns, "snappy") | {column: "zstd"}
    path = write_parquet(tmp_path / "set", columns, compression=compression, row_group_size=10)
    if column == "caption":
        assert find(path).left_out == {"caption": "caption is compressed by ZSTD"}
    else:
        assert "image is compressed by ZSTD: write it again with compression='zstd'" in refuse(path)


def test_paths_that_cannot_be_read_safely_are_no_names(tmp_path: Path) -> None:
    options: dict[str, Any] = {"use_dictionary": False, "column_encoding": {"image.path": "DELTA_BYTE_ARRAY"}}
    source = find(write_parquet(tmp_path / "set", make_columns(), **options))
    assert (source.names, source.metadata, list(source.left_out)) == (None, None, ["image.path"])


def test_a_file_that_claims_other_rows_than_it_has_is_damaged(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = find(path)
    monkeypatch.setattr("storage.sources.parquet._read_batches", lambda *_: iter(()))
    with pytest.raises(CorruptStoreError, match="a row group has fewer images than it should"):
        list(source.read_files([3]))
    assert "a column hasn't 25 rows" in refuse(path)


def test_a_file_that_is_cut_short_is_damaged(path: Path) -> None:
    os.truncate(path, 1_000)
    assert "it is a Parquet file, and can't be read" in refuse(path)


def test_parquet_without_its_library_says_what_to_install(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with (
        pytest.raises(BackendUnavailableError, match="needs pyarrow: python -m pip install pyarrow"),
        open_source(path),
    ):
        pass


def test_a_file_of_the_hub_becomes_a_dataset(run: Any, path: Path, tmp_path: Path) -> None:  # noqa: ANN401 - a fixture
    assert run("convert", path, tmp_path / "new", "--backend", "npy")[0] == 0
    with storage.open(tmp_path / "new") as reader:
        assert (list(reader.names), reader.classes) == (PATHS, CLASSES)
        assert [bytes(file) for file in reader.read_encoded(range(COUNT))[0]] == FILES
        assert reader.read_labels().tolist() == LABELS


def test_convert_says_which_columns_are_left_out(run: Any, tmp_path: Path) -> None:  # noqa: ANN401 - a fixture
    path = write_parquet(tmp_path / "set", make_columns() | {"objects": [{"area": 1}] * COUNT}, FEATURES)
    code, out, _ = run("convert", path, tmp_path / "new", "--backend", "npy")
    assert code == 0
    assert "the column objects is left out: it is of type struct<area: int64>" in out.splitlines()
    with storage.open(tmp_path / "new") as reader:
        assert (reader.classes, dict(reader.metadata)) == (CLASSES, {})
