"""Conversions in ranges: what workers write, in whatever order, is what one process writes."""

import shutil
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import storage
from storage.cluster import workers
from storage.dataset import planning, writer
from storage.dataset.planning import plan_ranges
from storage.decoding import decode_scaled
from storage.registry import find_backend
from storage.sources import opening, payload
from tests.support.backends import need_backend
from tests.support.commands import Command
from tests.support.datasets import flip_bit, list_parts
from tests.support.folders import NAMES, write_images
from tests.support.here import Here
from tests.support.image_sets import make_set
from tests.support.photos import COUNT, UNUSABLE, write_photos

pytest_plugins = ["tests.support.command_fixtures"]
pytestmark = need_backend("npy")

IMAGES, LABELS = make_set(30, 5, 7)


@pytest.fixture(autouse=True)
def _small_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "MIN_PART", 2 * IMAGES[0].nbytes)


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Callable[[Here], Here]:
    """Have --workers use a cluster."""

    def replace(here: Here) -> Here:
        @contextmanager
        def start(*_: object) -> Iterator[Here]:
            yield here

        monkeypatch.setattr(workers, "start_workers", start)
        return here

    return replace


def write_array(folder: Path) -> Path:
    np.save(folder / "images.npy", IMAGES)
    np.save(folder / "labels.npy", LABELS)
    return folder / "images.npy"


def write_packed(folder: Path) -> Path:
    np.savez_compressed(folder / "set.npz", images=IMAGES, labels=LABELS)
    return folder / "set.npz"


def write_dataset(folder: Path) -> Path:
    texts = [f"{number}.jpg" for number in range(30)]
    metadata = {"text": texts}
    storage.save(folder / "source", IMAGES, np.arange(30), "npy", names=texts, classes=texts, metadata=metadata)
    return folder / "source"


def write_plain(folder: Path) -> Path:
    find_backend("npy").store_many(folder / "plain", IMAGES, LABELS)
    return folder / "plain"


def write_files(folder: Path) -> Path:
    write_photos(folder / "photos")
    for name in UNUSABLE:
        (folder / "photos" / name).unlink()
    return folder / "photos"


def write_tar(folder: Path) -> Path:
    with tarfile.open(folder / "photos.tar.gz", "w:gz") as archive:
        archive.add(write_files(folder), "photos")
    return folder / "photos.tar.gz"


def write_none(folder: Path) -> Path:
    storage.save(folder / "none", *make_set(0, 5, 7), "npy")
    return folder / "none"


SOURCES: dict[str, tuple[Callable[[Path], Path], list[str]]] = {
    "array": (write_array, []),
    "packed array": (write_packed, []),
    "dataset": (write_dataset, []),
    "plain store": (write_plain, []),
    "no images": (write_none, []),
    "files": (write_files, []),
    "files encoded anew": (write_files, ["--format=webp"]),
    "pixels of files": (write_files, ["--payload=pixels", "--size=8x9"]),
    "files of which some may be left out": (write_files, ["--on-error=skip"]),
    "archive": (write_tar, ["--payload=pixels", "--size=8x9"]),
}


def describe(path: Path) -> dict[str, Any]:
    """Describe what a dataset holds, whatever its parts."""
    with storage.open(path) as reader:
        names, metadata = list(reader.names), {name: list(values) for name, values in reader.metadata.items()}
        facts = {"checksum": reader.checksum, "classes": reader.classes, "skipped": reader.skipped}
        labels = reader.read_labels().tolist()
    assert storage.check(path).is_whole
    return facts | {"labels": labels, "names": names, "metadata": metadata, "losses": reader.losses}


@pytest.mark.parametrize("kind", SOURCES)
def test_ranges_in_any_order_make_the_same_dataset_as_one_process(
    kind: str, use: Callable[[Here], Here], run: Command, tmp_path: Path
) -> None:
    write, options = SOURCES[kind]
    source = write(tmp_path)
    alone = run("convert", source, tmp_path / "one", "--backend", "npy", *options)
    here = use(Here(reversed))
    shared = run("convert", source, tmp_path / "two", "--backend", "npy", "--workers", 2, *options)
    assert shared == (0, alone[1].replace(str(tmp_path / "one"), str(tmp_path / "two")), "")
    assert describe(tmp_path / "two") == describe(tmp_path / "one")
    assert kind == "no images" or len(here.done) > 2, "it has several ranges"


@pytest.mark.parametrize("options", [[], ["--payload=pixels", "--size=8x9"], ["--payload=pixels"], ["--on-error=skip"]])
def test_files_that_cannot_be_used_are_listed_as_by_one_process(
    options: list[str], use: Callable[[Here], Here], run: Command, tmp_path: Path
) -> None:
    source = write_photos(tmp_path / "photos")
    (source / "notes.txt").unlink()  # a problem that is known before
    alone = run("convert", source, tmp_path / "one", "--backend", "npy", *options)
    use(Here())
    shared = run("convert", source, tmp_path / "two", "--backend", "npy", "--workers", 2, *options)
    assert shared == (alone[0], *(text.replace(str(tmp_path / "one"), str(tmp_path / "two")) for text in alone[1:]))
    left = [path.name for path in tmp_path.iterdir() if path.name.startswith(".two.tmp")]
    assert not left, "what was written is removed"


@pytest.mark.parametrize("known", [True, False], ids=["known", "found"])
def test_the_first_file_of_pixels_may_be_unusable(
    use: Callable[[Here], Here], run: Command, tmp_path: Path, *, known: bool
) -> None:
    write_images(tmp_path / "tree")
    (tmp_path / "tree" / NAMES[0]).write_text("no image")
    if known:
        (tmp_path / "tree" / "beside.jpg").write_text("in no class")
    use(Here())
    code, printed, complaint = run(
        "convert", tmp_path / "tree", tmp_path / "set", "--backend", "npy", "--payload=pixels", "--workers", 1
    )
    assert (code, f"{NAMES[0]}: " in printed) == (1, True), complaint


def test_each_image_is_decoded_once_if_all_can_be_used(
    use: Callable[[Here], Here], run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = list[int]()
    decode = decode_scaled

    def count(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - those of `decode_scaled`
        decoded.append(1)
        return decode(*arguments, **options)

    monkeypatch.setattr(payload, "decode_scaled", count)
    use(Here())
    for number, options in enumerate([["--payload=pixels", "--size=8"], ["--format=png"], []]):
        decoded.clear()
        destination = tmp_path / f"set{number}"
        source = write_files(tmp_path)
        assert run("convert", source, destination, "--backend", "npy", "--workers", 2, *options)[0] == 0
        assert len(decoded) == COUNT


def test_only_the_caller_finds_out_that_a_folder_of_files_is_no_plain_store(
    use: Callable[[Here], Here], run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked, look = list[Path](), opening._find_backend  # noqa: SLF001 - what imports all backends

    def count(path: Path) -> Any:  # noqa: ANN401 - as above
        looked.append(path)
        return look(path)

    monkeypatch.setattr(opening, "_find_backend", count)
    source = write_files(tmp_path)
    here = use(Here())
    assert run("convert", source, tmp_path / "set", "--backend", "npy", "--workers", 2)[0] == 0
    assert here.done
    assert looked == [source], "a worker imported all backends"


class Killed(Here):
    """Stops after some tasks, as the command does when it is killed."""

    def __init__(self, after: int, order: Callable[[list[Any]], Any] = iter) -> None:
        super().__init__(order)
        self._after = after

    def run(self, function: Callable[[Any], Any], tasks: Any) -> Iterator[tuple[int, Any]]:  # noqa: ANN401 - as above
        """Do some tasks."""
        for number, result in super().run(function, tasks):
            if len(self.done) > self._after:
                raise KeyboardInterrupt
            yield number, result


def test_the_same_command_resumes_after_the_ranges_that_are_finished(
    use: Callable[[Here], Here], run: Command, tmp_path: Path
) -> None:
    command = "convert", write_array(tmp_path), tmp_path / "set", "--backend", "npy", "--workers"
    first = use(Killed(4, reversed))
    assert run(*command, 2)[0] == 130
    (stage,) = tmp_path.glob(".set.tmp-*")
    (stage / "part-00000-01234567").mkdir()  # what a worker left that died
    second = use(Here())
    code, printed, _ = run(*command, 3)
    assert (code, printed) == (
        0,
        f"30 images saved in {tmp_path / 'set'} as npy; an earlier conversion had saved {2 * 4}\n",
    )
    assert sorted([*first.done[:4], *second.done]) == list(range(15))
    assert describe(tmp_path / "set")["labels"] == LABELS.tolist()
    assert len(list_parts(tmp_path / "set")) == 15


def test_a_finished_part_that_is_damaged_meanwhile_is_not_used(
    use: Callable[[Here], Here], run: Command, tmp_path: Path
) -> None:
    command = "convert", write_array(tmp_path), tmp_path / "set", "--backend", "npy", "--workers", 2
    use(Killed(4))
    assert run(*command)[0] == 130
    (stage,) = tmp_path.glob(".set.tmp-*")
    flip_bit(list_parts(stage)[1] / "images.npy", 200)
    here = use(Here())
    assert run(*command)[0] == 0
    assert len(here.done) == 15
    assert describe(tmp_path / "set")["labels"] == LABELS.tolist()


def test_a_range_of_larger_images_than_the_source_tells_becomes_several_parts(
    use: Callable[[Here], Here], run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_files(tmp_path)
    monkeypatch.setattr(planning, "MIN_PART", 2_500)
    monkeypatch.setattr(writer, "PART", 1_000)
    use(Killed(1))
    command = "convert", source, tmp_path / "set", "--backend", "npy", "--workers", 2
    assert run(*command)[0] == 130
    here = use(Here())
    assert run(*command)[0] == 0
    assert here.done
    assert len(list_parts(tmp_path / "set")) > len(here.done) + 1
    assert describe(tmp_path / "set")["names"][0] == "ant/0.jpg"


def test_a_source_that_is_another_one_for_the_workers_is_refused(
    use: Callable[[Here], Here], run: Command, tmp_path: Path
) -> None:
    source = write_array(tmp_path)

    class Late(Here):
        def run(self, function: Callable[[Any], Any], tasks: Any) -> Iterator[tuple[int, Any]]:  # noqa: ANN401 - as above
            np.save(source, IMAGES[::-1])
            return super().run(function, tasks)

    use(Late())
    code, _, complaint = run("convert", source, tmp_path / "set", "--backend", "npy", "--workers", 2)
    assert code == 1
    assert f"{source}: a worker finds something else there" in complaint
    assert not (tmp_path / "set").exists()


def test_where_no_secret_can_be_kept_nothing_is_resumed(
    use: Callable[[Here], Here], run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "read_secret", bytes)
    use(Killed(4))
    assert run("convert", write_array(tmp_path), tmp_path / "set", "--backend", "npy", "--workers", 2)[0] == 130
    assert not list(tmp_path.glob(".set.tmp-*"))


def test_a_dataset_is_replaced_by_itself_in_other_parts(
    use: Callable[[Here], Here], run: Command, tmp_path: Path
) -> None:
    source = write_dataset(tmp_path)
    before = describe(source)
    use(Here())
    assert run("convert", source, source, "--backend", "npy", "--workers", 2, "--overwrite")[0] == 0
    assert describe(source) == before
    assert not list(tmp_path.glob(".source.tmp-*")), "no reader of the old one is left"


def test_ranges_have_about_equal_bytes_and_are_no_larger_than_parts() -> None:
    sizes = np.random.default_rng(0).integers(1, 1 << 20, 5_000)
    ranges = plan_ranges(sizes)
    assert [number for images in ranges for number in images] == list(range(5_000))
    weights = [int(sizes[images.start : images.stop].sum()) for images in ranges]
    assert max(weights) - min(weights) < 2 << 20
    assert max(weights) <= writer.PART


def test_a_large_set_has_ranges_of_the_size_of_parts() -> None:
    ranges = plan_ranges(np.full(1_000_000, 150_528))
    assert 0.98 < len(ranges[0]) * 150_528 / writer.PART <= 1


@pytest.mark.parametrize("sizes", [[], [0], [0, 0], [1 << 40, 1, 1 << 40]])
def test_odd_sizes_are_planned(sizes: list[int]) -> None:
    ranges = plan_ranges(np.array(sizes, np.int64))
    assert [number for images in ranges for number in images] == list(range(len(sizes)))


def test_ranges_of_images_of_different_kinds_are_refused(
    use: Callable[[Here], Here], run: Command, tmp_path: Path
) -> None:
    class Mixed(Here):
        def run(self, function: Callable[[Any], Any], tasks: Any) -> Iterator[tuple[int, Any]]:  # noqa: ANN401 - as above
            for number, written in super().run(function, tasks):
                yield number, written._replace(form=("pixels", (number + 1, 7, 3), "uint8"))

    use(Mixed())
    source = write_array(tmp_path)
    code, _, complaint = run("convert", source, tmp_path / "set", "--backend", "npy", "--workers", 2)
    assert (code, "are of another size or kind than the others" in complaint) == (1, True), complaint


@pytest.mark.parametrize("number", ["0", "-1", "two"])
def test_the_number_of_workers_is_above_0(number: str, run: Command, tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        run("convert", tmp_path, tmp_path / "set", "--backend", "npy", f"--workers={number}")


def test_a_source_that_changes_meanwhile_is_not_saved(
    use: Callable[[Here], Here], run: Command, tmp_path: Path
) -> None:
    source = write_files(tmp_path)

    class Late(Here):
        def run(self, function: Callable[[Any], Any], tasks: Any) -> Iterator[tuple[int, Any]]:  # noqa: ANN401 - as above
            yield from super().run(function, tasks)
            shutil.copy(source / "ant" / "0.jpg", source / "ant" / "9.jpg")

    use(Late())
    code, _, complaint = run("convert", source, tmp_path / "set", "--backend", "npy", "--workers", 2)
    assert (code, "the source was changed while it was read" in complaint) == (1, True), complaint
