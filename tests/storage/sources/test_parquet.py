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
from storage.sources.opening import open_source
from storage.sources.parquet import ParquetSource
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


def test_shards_with_other_columns_are_refused(tmp_path: Path) -> None:
    write_parquet(tmp_path / "1.parquet", make_columns())
    write_parquet(tmp_path / "2.parquet", make_columns() | {"more": LABELS})
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


def test_an_empty_file_is_an_empty_set(tmp_path: Path) -> None:
    source = find(write_parquet(tmp_path / "set", make_columns(0, 0), FEATURES))
    assert (len(source.labels), list(source.read_files([]))) == (0, [])


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"label": pa.array(LABELS)}, "aren't one of image files beside numbers and strings: label int64"),
        ({"a": pa.array(FILES), "b": pa.array(FILES)}, "a binary, b binary"),
        (make_columns() | {"boxes": pa.array([[1]] * COUNT)}, "boxes list"),
        (make_columns() | {"label": pa.array([*LABELS[:-1], None])}, f"row {COUNT - 1} has no label"),
        (make_columns() | {"label": pa.array([1 << 63] * COUNT, pa.uint64())}, "set: a label doesn't fit in 64 bits"),
        ({"image": pa.array([{"bytes": "text"}] * COUNT)}, "aren't one of image files beside numbers and strings"),
    ],
    ids=["none", "two", "lists", "no label", "a large label", "texts"],
)
def test_columns_that_cannot_be_kept_are_refused(columns: dict[str, Any], reason: str, tmp_path: Path) -> None:
    assert reason in refuse(write_parquet(tmp_path / "set", columns))


@pytest.mark.parametrize("codec", ["gzip", "zstd"])
def test_a_codec_that_has_no_limit_is_refused(codec: str, tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "set", make_columns(), compression=codec)
    assert f"a column is compressed by {codec.upper()}: write it again with compression='snappy'" in refuse(path)


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
