"""What was skipped, and what decoding may lose, stay with a dataset."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

import storage
from storage import CorruptStoreError, DecodingError, Encoded, InvalidInputError
from storage.dataset.annotations import Annotations, Problem, format_problems, parse_problems
from storage.dataset.writer import Writer
from tests.support.datasets import find_beside, rewrite_beside
from tests.support.image_files import save

CONTENT = save(Pillow.new("RGBA", (7, 5), (9, 8, 7, 6)), "PNG")
FILES, LABELS = Encoded.join([CONTENT, CONTENT]), np.array([1, 0])
PROBLEMS = (Problem("a\udcff.png", "no image"), Problem("b", "it isn't a regular file"))


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    annotations = Annotations(LABELS, skipped=PROBLEMS, losses=("transparency",))
    with Writer(tmp_path / "set", annotations, "npy", durable=False, overwrite=False) as writer:
        writer.write_part(FILES[:1])
        writer.write_part(FILES[1:])
        writer.commit()
    return tmp_path / "set"


def inspect(path: Path) -> tuple[Any, ...]:
    with storage.open(path) as reader:
        return reader.skipped, reader.losses, reader[1][0][0, 0].tolist()


def test_a_reader_knows_both_and_decodes_accordingly(saved: Path) -> None:
    assert inspect(saved) == (PROBLEMS, ("transparency",), [9, 8, 7])
    assert storage.check(saved).is_whole


def test_both_survive_appending_and_compacting(saved: Path) -> None:
    storage.append(saved, FILES[:1], np.array([7]))
    storage.compact(saved)
    assert inspect(saved) == (PROBLEMS, ("transparency",), [9, 8, 7])


def test_both_stay_with_the_same_images_only(saved: Path) -> None:
    storage.save(saved, FILES, LABELS[::-1], "npy", overwrite=True)
    assert inspect(saved) == (PROBLEMS, ("transparency",), [9, 8, 7])
    storage.save(saved, Encoded.join([CONTENT] * 3), np.arange(3), "npy", overwrite=True)
    with pytest.raises(DecodingError, match="record 1: it is transparent in places"):
        inspect(saved)


def test_what_may_be_lost_is_chosen_when_images_are_saved_and_appended(tmp_path: Path) -> None:
    gray = save(Pillow.new("I;16", (7, 5), 9 << 8), "PNG")
    storage.save(tmp_path / "set", FILES, LABELS, "npy", losses=["transparency"])
    assert inspect(tmp_path / "set") == ((), ("transparency",), [9, 8, 7])
    storage.append(tmp_path / "set", [gray], [0], losses=["depth"])
    storage.append(tmp_path / "set", FILES, LABELS)
    with storage.open(tmp_path / "set") as reader:
        assert reader.losses == ("depth", "transparency")
        assert [reader[index][0][0, 0].tolist() for index in (0, 2, 4)] == [[9, 8, 7], [9, 9, 9], [9, 8, 7]]
    storage.save(tmp_path / "set", *storage.load(tmp_path / "set"), "npy", overwrite=True, losses=["frames"])
    with storage.open(tmp_path / "set") as reader:
        assert reader.losses == ("frames",)


@pytest.mark.parametrize("call", [storage.save, storage.append])
def test_what_cannot_be_allowed_is_refused(call: Any, tmp_path: Path) -> None:  # noqa: ANN401 - either of them
    with pytest.raises(InvalidInputError, match="'colour' can't be allowed: choose among transparency, frames, depth"):
        call(tmp_path / "set", FILES, LABELS, losses=["colour"])


def test_a_loss_alone_stays_with_the_same_images(tmp_path: Path) -> None:
    annotations = Annotations(LABELS, losses=("transparency",))
    with Writer(tmp_path / "set", annotations, "npy", durable=False, overwrite=False) as writer:
        writer.write_part(FILES)
        writer.commit()
    storage.save(tmp_path / "set", FILES, LABELS[::-1], "npy", overwrite=True)
    assert inspect(tmp_path / "set") == ((), ("transparency",), [9, 8, 7])


def test_a_damaged_list_is_found(saved: Path) -> None:
    (file,) = saved.glob("*.skipped")
    file.write_bytes(file.read_bytes().replace(b"no image", b"an image"))
    with storage.open(saved) as reader, pytest.raises(CorruptStoreError, match=r"\.skipped is damaged"):
        assert reader.skipped
    assert list(storage.check(saved).files) == [file.name]


@pytest.mark.parametrize("content", [1, {}, [1], [["a"]], [["a", 1]], [["a", "b", "c"]], [["a", "\ud800"]]])
def test_a_list_that_was_never_written_is_a_value_error(content: Any) -> None:  # noqa: ANN401 - any JSON
    assert parse_problems(format_problems(PROBLEMS)) == PROBLEMS
    with pytest.raises(ValueError, match=r"."):
        parse_problems(json.dumps(content).encode())


@pytest.mark.parametrize(
    "content", [b"{}", b"[" * 100_000, b'[["a", "\xff"]]', b""], ids=["mapping", "deep", "bytes", "cut"]
)
def test_a_list_that_was_never_written_is_found(content: bytes, saved: Path) -> None:
    rewrite_beside(saved, "skipped", content)
    with storage.open(saved) as reader, pytest.raises(CorruptStoreError, match=f"{saved}: it can't be read"):
        assert reader.skipped
    assert list(storage.check(saved).files) == [find_beside(saved, "skipped").name]
