"""Cells of somebody's own images: their ids, what a run says about them, and faults that make them fail."""

import json
from collections.abc import Callable
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import numpy as np
import pytest

from benchmarks.cell import Cell
from benchmarks.test_dataloader import test_read_epoch_dataloader as measure_loader
from benchmarks.test_decoded import test_read_epoch_decoded as measure_decoded
from benchmarks.test_epoch import test_read_epoch as measure_epoch
from benchmarks.test_floor import test_read_epoch as copy_epoch
from benchmarks.test_floor import test_read_epoch_decoded as decode_epoch
from benchmarks.test_floor import test_read_many as copy_all
from benchmarks.test_many import test_read_many as measure_all
from benchmarks.test_many import test_store_many as measure_store
from benchmarks.test_single import test_read_open_single as measure_open
from benchmarks.test_single import test_read_single as measure_single
from benchmarks.workers import START_METHODS, choose_counts
from fixtures.image_set import ImageSet
from fixtures.photos import PAYLOADS, PhotoSample
from fixtures.source import sample_source
from reports.__main__ import main
from reports.figures.plan import plan_figures
from reports.reading import read_run
from storage import BACKENDS, Encoded, Images
from tests.benchmarks.test_cell import FAILED, cell, once
from tests.support.backends import EXAMPLE, need_backend
from tests.support.photos import COUNT, write_photos
from tests.support.suite import QUICK, copy_suite, find_runs, read_last_run, run_pytest

__all__ = ["cell", "once"]  # fixtures
SIDE = 32


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> PhotoSample:
    """Draw a sample of small photos."""
    drawn = sample_source(write_photos(tmp_path_factory.mktemp("photos")), SIDE, PAYLOADS)
    assert isinstance(drawn, PhotoSample)
    return drawn


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Measure two backends, one of image files only and one of both kinds."""
    folder = copy_suite(tmp_path_factory.mktemp("suite"))
    write_photos(folder / "mine")
    chosen = ("--images=mine", f"--size={SIDE}", "--cutoffs=3,6", "--backends=files,npy,png")
    ended = run_pytest(folder, "benchmarks", *QUICK, *chosen, "-k", "not spawn and not dataloader")
    assert ended.returncode == 0, ended.stdout
    return folder, ended.stdout


def test_each_payload_that_a_backend_accepts_has_cells_that_name_it(session: tuple[Path, str]) -> None:
    run = read_last_run(session[0])
    accepted = [("files", "encoded"), ("npy", "encoded"), ("npy", "pixels"), ("png", "pixels")]
    at_all = ("store_many", "read_many", "read_epoch", "read_single", "read_open_single")
    names = {f"test_{name}[{pair[0]}-{count}-{pair[1]}]" for name, pair, count in product(at_all, accepted, (3, 6))}
    at_largest = ("save", "load", "load_unverified")
    names |= {f"test_{name}[{backend}-6-{payload}]" for name, (backend, payload) in product(at_largest, accepted)}
    names |= {f"test_store_single[{backend}-{payload}]" for backend, payload in accepted}
    counts = choose_counts()
    names |= {
        f"test_read_epoch_workers[{backend}-6-{payload}-{count}-{START_METHODS[0]}]"
        for (backend, payload), count in product(accepted, counts)
    }
    decoded = {cell["name"] for cell in run["benchmarks"] if "read_epoch_decoded" in cell["name"]}
    assert {"test_read_epoch_decoded[npy-6-encoded-1]", "test_read_epoch_decoded[files-6-encoded-1]"} <= decoded
    found = {cell["name"] for cell in run["benchmarks"] if "backend" in cell["extra_info"]}
    assert found - decoded == names
    assert run["run"]["complete"] is True
    floors = {cell["name"] for cell in run["benchmarks"] if cell["extra_info"].get("floor")}
    copied = {
        f"test_{name}[{count}-{payload}]"
        for name in ("read_many", "read_epoch")
        for count in (3, 6)
        for payload in PAYLOADS
    }
    assert floors >= {*copied, "test_read_epoch_decoded[6-encoded-1]"}
    assert {floor.cell.partition("::")[2] for floor in read_run(find_runs(session[0])[-1]).floors} == floors
    assert "no cells of encoded: png (it stores pixels only, and image files are measured)" in session[1]


def test_the_run_describes_the_images(session: tuple[Path, str]) -> None:
    facts = read_last_run(session[0])["run"]["image_set"]
    assert (facts["name"], facts["count"], facts["found"], facts["side"]) == ("mine/", COUNT, COUNT + 2, SIDE)
    assert facts["unusable"]["count"] == 2
    assert "left out: 1 (it isn't in the folder of a class): notes.txt" in session[1]
    for cell_ in read_last_run(session[0])["benchmarks"]:
        info = cell_["extra_info"]
        if info.get("operation") == "read_many" and "backend" in info:
            content = {"pixels": info["images"] * SIDE * SIDE * 3}.get(cell_["params"]["payload"], 0)
            assert info["bytes"] >= content + 8 * info["images"]


def test_reports_read_the_run_and_put_no_payloads_side_by_side(
    session: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    run = find_runs(session[0])[-1]
    assert main(["table", str(run)]) == 0
    tables = capsys.readouterr().out.split("\n### ")
    titles = {table.partition("\n")[0] for table in tables}
    assert {"read_many (warm, encoded)", "read_many (warm, pixels)"} <= titles
    assert not any("| files" in table and "| png" in table for table in tables if "slower" in table)
    assert main(["page", str(run), "--out", str(session[0] / "page.html")]) == 0
    figures = {plan.stem for plan in plan_figures(read_run(run))}
    assert {"overview-encoded", "overview-pixels", "size-encoded", "size-pixels"} <= figures
    other = json.loads(run.read_text())
    other["run"]["image_set"]["sha256"] = "0" * 64
    (session[0] / "other.json").write_text(json.dumps(other))
    assert main(["compare", str(run), str(session[0] / "other.json")]) == 3
    assert "images: mine/" in "".join(capsys.readouterr())


@pytest.mark.parametrize("payload", PAYLOADS)
def test_right_cells_pass(cell: Cell, sample: PhotoSample, payload: str, request: pytest.FixtureRequest) -> None:
    image_set = sample.load(payload, COUNT)
    for measure in (measure_all, measure_epoch, measure_single):
        measure(cell, COUNT, "warm", image_set)
    measure_open(cell, COUNT, image_set)
    measure_store(cell, COUNT, "buffered", image_set)
    if payload == "encoded":
        measure_decoded(cell, COUNT, 2, image_set, sample)
    assert request.getfixturevalue("once").has_error is False


@pytest.mark.parametrize("payload", PAYLOADS)
def test_floors_make_what_was_stored_in_memory_that_is_kept(sample: PhotoSample, payload: str) -> None:
    def check(prepare: Callable[..., Callable[[], Any]], images: Any) -> None:  # noqa: ANN401 - either kind
        make = prepare(np.arange(COUNT))
        first, again = ([np.frombuffer(image, np.uint8) for image in make()] for _ in range(2))
        assert all(map(np.shares_memory, first, again)), "the second round wrote to other memory"
        assert [bytes(image) for image in again] == [bytes(image) for image in images[:COUNT]]

    image_set = sample.load(payload, COUNT)
    copy_all(check, COUNT, image_set)
    copy_epoch(check, COUNT, image_set)
    if payload == "encoded":
        decode_epoch(check, 1, sample, image_set)


PIXELS = {
    "gray": np.arange(6 * 4 * 5, dtype=np.uint16).reshape(6, 4, 5),
    "not a number": np.full((6, 4, 5, 2), np.nan, np.float32),
}


@need_backend("npy")
@pytest.mark.parametrize("pixels", PIXELS.values(), ids=PIXELS)
def test_cells_of_any_pixels_pass_and_one_of_which_a_bit_differs_fails(cell: Cell, pixels: Images) -> None:
    module = cell.backend = BACKENDS["npy"]
    right, labels = ImageSet(pixels, np.arange(6)), np.arange(6)
    for measure in (measure_all, measure_epoch, measure_single):
        measure(cell, 6, "warm", right)
    measure_open(cell, 6, right)
    measure_store(cell, 6, "buffered", right)
    wrong = pixels.copy()
    wrong.view(np.uint8).reshape(-1)[-1] ^= 1
    cell.backend = SimpleNamespace(
        store_many=lambda store, *_: module.store_many(store, wrong, labels), read_many=module.read_many
    )
    with pytest.raises(FAILED, match="image or label 5 was not read as it was stored"):
        measure_all(cell, 6, "warm", right)


def change_bytes(images: Any) -> Any:  # noqa: ANN401 - a set of either kind
    array = (images if isinstance(images, np.ndarray) else images.content).copy()
    array.reshape(-1)[-1] ^= 1
    return array if isinstance(images, np.ndarray) else Encoded(array, images.offsets)


FAULTS: dict[str, Callable[..., Any]] = {
    "wrong bytes": lambda images, labels: (change_bytes(images), labels),
    "swapped labels": lambda images, labels: (images, labels[::-1].copy()),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("payload", PAYLOADS)
def test_what_was_not_read_as_it_was_stored_makes_all_cells_fail(
    cell: Cell, sample: PhotoSample, payload: str, fault: str
) -> None:
    module, image_set = BACKENDS[EXAMPLE], sample.load(payload, COUNT)
    functions = {name: getattr(module, name) for name in ("read_many", "read_single", "open_reader")}
    wrong = SimpleNamespace(
        **functions, store_many=lambda store, *content: module.store_many(store, *FAULTS[fault](*content))
    )
    cell.backend = wrong
    words = r"image or label \d \((ant|bee)/\d\.jpg\) was not read as it was stored"
    for measure in (measure_all, measure_epoch, measure_single):
        with pytest.raises(FAILED, match=words):
            measure(cell, COUNT, "warm", image_set)
    with pytest.raises(FAILED, match=words):
        measure_open(cell, COUNT, image_set)
    with pytest.raises(FAILED, match=words):
        measure_store(cell, COUNT, "buffered", image_set)


@pytest.mark.parametrize("payload", PAYLOADS)
@pytest.mark.parametrize("count", [0, 1])
def test_the_parent_receives_from_a_data_loader_what_was_stored(
    cell: Cell, sample: PhotoSample, payload: str, count: int
) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch isn't installed")
    image_set = sample.load(payload, COUNT)
    measure_loader(cell, COUNT, count, image_set, sample, torch)
    cell.backend = SimpleNamespace(
        store_many=lambda store, images, labels: BACKENDS[EXAMPLE].store_many(store, images, labels * 0),
        open_reader=BACKENDS[EXAMPLE].open_reader,
    )
    with pytest.raises(FAILED, match="was not read as it was stored"):
        measure_loader(cell, COUNT, count, image_set, sample, torch)


DECODED: dict[str, Callable[..., Any]] = {
    "another size": lambda reader, batch, size, threads: reader.read(
        batch, size=(size[0] + 1, size[1]), threads=threads
    ),
    "not turned": lambda reader, batch, size, threads: flip(*reader.read(batch, size=size, threads=threads)),
}


def flip(images: Any, labels: Any) -> Any:  # noqa: ANN401 - a batch
    return images.swapaxes(1, 2), labels


@pytest.mark.parametrize("fault", DECODED)
def test_files_that_are_decoded_wrongly_make_cells_fail(cell: Cell, sample: PhotoSample, fault: str) -> None:
    module = BACKENDS[EXAMPLE]

    class Wrong:
        def __init__(self, store: Path) -> None:
            self.reader = module.open_reader(store)

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None:
            self.reader.close()

        def read(self, batch: Any, size: Any, threads: Any) -> Any:  # noqa: ANN401 - as of a reader
            return DECODED[fault](self.reader, batch, size, threads)

    cell.backend = SimpleNamespace(store_many=module.store_many, open_reader=Wrong)
    with pytest.raises(FAILED, match=r"stored .* read|image or label \d \(.*\.jpg\) was not read as it was stored"):
        measure_decoded(cell, COUNT, 1, sample.load("encoded", COUNT), sample)
