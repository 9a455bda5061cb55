"""`python -m storage convert FOLDER`: payloads, sizes, formats, classes, problems and losses."""

import io
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow
from PIL import ImageCms

import storage
from storage import arrays
from storage.dataset import writer
from storage.sources import examination, payload
from tests.support.commands import Command
from tests.support.folders import NAMES, write_images
from tests.support.image_files import make_bomb, make_exif, make_picture, save
from tests.support.image_sets import assert_same

pytest_plugins = ["tests.support.command_fixtures"]

TRANSPARENT = save(Pillow.new("RGBA", (7, 5), (255, 0, 0, 9)), "PNG")
FRAMES = save(Pillow.new("RGB", (7, 5), "red"), "GIF", save_all=True, append_images=[Pillow.new("RGB", (7, 5), "blue")])
DEEP = save(Pillow.new("I;16", (7, 5), 0x12FF), "PNG")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_images(tmp_path / "tree")
    return tmp_path / "tree"


@pytest.fixture
def convert(run: Command, root: Path) -> Callable[..., tuple[int, str, str]]:
    """Convert the folder to `set`, by default with NumPy's files."""

    def call(*options: str, source: Path = root, backend: str = "npy") -> tuple[int, str, str]:
        return run("convert", source, root.with_name("set"), "--backend", backend, *options)

    return call


@pytest.fixture
def bad(root: Path) -> list[str]:
    """Add files that can't be used, in the order in which they are listed."""
    (root / "cat" / "3.jpg").write_text("no image")
    (root / "cat" / "4.png").write_bytes((root / "cat" / "1.png").read_bytes()[:-30])
    (root / "dog" / "hole.png").touch()
    os.truncate(root / "dog" / "hole.png", 1 << 30)
    (root / "dog" / "none.png").symlink_to("nowhere")
    (root / "notes.txt").write_text("beside the classes")
    return ["cat/3.jpg", "cat/4.png", "dog/hole.png", "dog/none.png", "notes.txt"]


def test_files_are_saved_byte_for_byte_with_names_and_classes(root: Path, convert: Any) -> None:  # noqa: ANN401
    Pillow.new("RGB", (30, 20)).save(root / "dog" / "c.jpg")
    assert convert()[:2] == (0, f"6 images of 2 classes saved in {root.with_name('set')} as npy\n")
    with storage.open(root.with_name("set")) as reader:
        assert list(reader.names) == [*NAMES, "dog/c.jpg"]
        assert (reader.classes, reader.class_to_idx) == (("cat", "dog"), {"cat": 0, "dog": 1})
        assert reader.read_labels().tolist() == [0, 0, 0, 1, 1, 1]
        assert list(reader.read_encoded(range(6))[0]) == [(root / name).read_bytes() for name in reader.names]
        assert (reader.skipped, reader.losses) == ((), ())


def test_pixels_of_one_size_are_saved_upright(root: Path, convert: Any) -> None:  # noqa: ANN401
    images = write_images(root)
    Pillow.fromarray(np.rot90(images[1])).save(root / "cat" / "2.png", exif=make_exif(6))
    assert convert("--payload=pixels")[0] == 0
    assert_same(storage.load(root.with_name("set")), (images, np.array([0, 0, 0, 1, 1])))
    with storage.open(root.with_name("set")) as reader:
        assert list(reader.names) == list(NAMES)


@pytest.mark.parametrize(("option", "size"), [("24", (24, 24)), ("10x30", (10, 30))])
def test_pixels_are_scaled_and_cropped_as_a_reader_does(
    root: Path,
    convert: Any,  # noqa: ANN401
    option: str,
    size: tuple[int, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Pillow.fromarray(make_picture(64, 48)).save(root / "dog" / "c.jpg")
    Pillow.fromarray(make_picture(30, 90)).save(root / "dog" / "d.png", exif=make_exif(8))
    assert convert()[0] == 0
    with storage.open(root.with_name("set")) as reader:
        expected = reader.read(range(7), size=size)
    monkeypatch.setattr(arrays, "BATCH_BYTES", 2 * 3 * size[0] * size[1])
    assert convert("--payload=pixels", f"--size={option}", "--overwrite")[0] == 0
    assert_same(storage.load(root.with_name("set")), expected)


def test_images_of_another_size_than_most_are_all_listed_and_counted(root: Path, convert: Any) -> None:  # noqa: ANN401
    for name, size in (("1", (7, 6)), ("c", (9, 9)), ("d", (7, 6))):
        Pillow.new("RGB", size).save(root / "dog" / f"{name}.png")
    (root / "dog" / "e.png").write_text("no image")
    code, printed, complaints = convert("--payload=pixels")
    assert (code, root.with_name("set").exists()) == (1, False)
    lines = printed.splitlines()
    assert lines[:3] == [
        "dog/1.png: it has 6 x 7 pixels (height x width), and most have 5 x 7",
        "dog/c.png: it has 9 x 9 pixels (height x width), and most have 5 x 7",
        "dog/d.png: it has 6 x 7 pixels (height x width), and most have 5 x 7",
    ]
    advice = "scale all to one size with --size=HxW, or keep them as files with --payload=encoded"
    assert lines[3].startswith("dog/e.png: it is none of AVIF")
    assert lines[4:7] == [
        "4 of 9 files can't be used:",
        f"  2 files: it has 6 x 7 pixels (height x width), and most have 5 x 7: {advice}",
        "  1 file: it has 9 x 9 pixels (height x width), and most have 5 x 7",
    ]
    assert "5 of 9 files can be used, so nothing was written" in complaints


def test_images_of_another_size_than_most_can_be_left_out(root: Path, convert: Any) -> None:  # noqa: ANN401
    images = write_images(root)
    Pillow.new("RGB", (7, 6)).save(root / "cat" / "1.png")
    assert convert("--payload=pixels", "--on-error=skip")[0] == 0
    assert_same(storage.load(root.with_name("set")), (images[1:], np.array([0, 0, 1, 1])))
    with storage.open(root.with_name("set")) as reader:
        assert [problem.name for problem in reader.skipped] == ["cat/1.png"]


@pytest.mark.parametrize(("name", "extension"), [("png", "PNG"), ("webp", "WEBP"), ("jpeg", "JPEG")])
def test_files_are_encoded_anew_upright_with_their_profile(
    root: Path,
    convert: Any,  # noqa: ANN401
    name: str,
    extension: str,
) -> None:
    picture = make_picture(24, 40)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Pillow.fromarray(picture).save(root / "cat" / "1.png", exif=make_exif(3), icc_profile=profile)
    gray = profile[:16] + b"GRAY" + profile[20:]
    Pillow.fromarray(picture).convert("L").save(root / "cat" / "2.png", icc_profile=gray)
    assert convert(f"--format={name}", *([] if name == "png" else ["--quality=90"]))[0] == 0
    with storage.open(root.with_name("set")) as reader:
        files, _ = reader.read_encoded([0, 1])
        with Pillow.open(io.BytesIO(files[0])) as found, Pillow.open(io.BytesIO(files[1])) as other:
            assert (found.format, found.size, found.info["icc_profile"]) == (extension, (40, 24), profile)
            assert dict(found.getexif()) == {}
            assert "icc_profile" not in other.info
        difference = reader[0][0].astype(int) - picture[::-1, ::-1]
        assert np.abs(difference).max() <= (0 if name == "png" else 16)
        assert list(reader.names) == list(NAMES)


def test_a_higher_quality_takes_more_bytes(root: Path, convert: Any) -> None:  # noqa: ANN401
    Pillow.fromarray(make_picture(64, 64)).save(root / "cat" / "1.png")
    sizes = []
    for quality in ("10", "95"):
        assert convert("--format=webp", f"--quality={quality}", "--overwrite")[0] == 0
        with storage.open(root.with_name("set")) as reader:
            sizes.append(len(reader.read_encoded([0])[0][0]))
    assert sizes[0] < sizes[1]


def test_an_image_that_a_format_cannot_hold_is_a_problem(root: Path, convert: Any) -> None:  # noqa: ANN401
    Pillow.new("RGB", (16_384, 1)).save(root / "dog" / "long.png")
    code, printed, _ = convert("--format=webp")
    assert code == 1
    assert "dog/long.png: it is 16,384 pixels high or wide, more than the 16,383 of webp\n" in printed


@pytest.mark.parametrize("options", [(), ("--payload=pixels",), ("--format=jpeg",)])
def test_all_problems_are_listed_and_nothing_is_written(
    root: Path,
    bad: list[str],
    convert: Any,  # noqa: ANN401
    options: tuple[str, ...],
) -> None:
    code, printed, complaints = convert(*options)
    assert code == 1
    assert [line.partition(": ")[0] for line in printed.splitlines()[: len(bad)]] == bad
    assert "5 of 10 files can't be used:\n" in printed
    assert "  1 file: it is a link to nothing, or was deleted meanwhile\n" in printed
    assert "5 of 10 files can be used, so nothing was written: correct the others, or leave them out" in complaints
    assert [path.name for path in root.parent.iterdir()] == ["tree"]


@pytest.mark.parametrize("options", [(), ("--payload=pixels",), ("--format=png",)])
def test_the_others_can_be_saved_with_the_list(
    root: Path,
    bad: list[str],
    convert: Any,  # noqa: ANN401
    run: Command,
    options: tuple[str, ...],
) -> None:
    code, printed, complaints = convert("--on-error=skip", *options)
    assert (code, complaints) == (0, "")
    assert printed.endswith(f"5 images of 2 classes saved in {root.with_name('set')} as npy\n")
    assert "cat/3.jpg: it is none of AVIF, BMP" in printed
    assert run("convert", root.with_name("set"), root.with_name("copy"), "--backend", "npy")[0] == 0
    storage.compact(root.with_name("copy"))
    for name in ("set", "copy"):
        with storage.open(root.with_name(name)) as reader:
            assert list(reader.names) == list(NAMES)
            assert [problem.name for problem in reader.skipped] == bad
            assert reader.skipped[0].reason.startswith("it is none of AVIF, BMP")
        assert storage.check(root.with_name(name)).is_whole


def test_what_a_dataset_lacks_already_is_no_new_problem(
    root: Path,
    bad: list[str],
    convert: Any,  # noqa: ANN401
    run: Command,
) -> None:
    assert convert("--on-error=skip")[0] == 0
    new = root.with_name("new")
    code, printed, _ = run("convert", root.with_name("set"), new, "--backend", "npy", "--payload=pixels")
    assert (code, printed) == (0, f"5 images of 2 classes saved in {new} as npy\n")
    with storage.open(new) as reader:
        assert [problem.name for problem in reader.skipped] == bad


def test_equal_reasons_are_counted_and_rare_ones_summed_up(
    root: Path,
    convert: Any,  # noqa: ANN401
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("storage.sources.examination.MAX_REASONS", 1)
    for number in range(3):
        (root / "cat" / f"t{number}.png").write_bytes(TRANSPARENT)
    (root / "dog" / "bomb.png").write_bytes(make_bomb(16_385))
    (root / "dog" / "deep.png").write_bytes(DEEP)
    printed = convert()[1].splitlines()
    assert printed[-3] == "5 of 10 files can't be used:"
    assert printed[-2].startswith("  3 files: it is transparent in places, which RGB can't hold: give it a background")
    assert printed[-1] == "  the others for 2 other reasons"


def test_a_folder_of_which_no_file_can_be_used_is_not_saved(tmp_path: Path, convert: Any) -> None:  # noqa: ANN401
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "1.png").write_bytes(DEEP)
    code, _, complaints = convert("--on-error=skip", source=tmp_path / "deep")
    assert code == 1
    assert "0 of 1 files can be used, so nothing was written" in complaints


@pytest.mark.parametrize(
    ("loss", "content", "expected"),
    [("transparency", TRANSPARENT, [255, 0, 0]), ("frames", FRAMES, [255, 0, 0]), ("depth", DEEP, [0x12] * 3)],
    ids=["transparency", "frames", "depth"],
)
@pytest.mark.parametrize("options", [(), ("--payload=pixels",), ("--format=png",)], ids=["files", "pixels", "png"])
def test_a_loss_needs_a_choice_that_the_dataset_records(
    root: Path,
    convert: Any,  # noqa: ANN401
    run: Command,
    loss: str,
    content: bytes,
    expected: list[int],
    options: tuple[str, ...],
) -> None:
    (root / "dog" / "c.png").write_bytes(content)
    others = ",".join({"transparency", "frames", "depth"} - {loss})
    assert convert(*options, f"--allow={others}")[0] == 1
    assert convert(*options, f"--allow={others},{loss}")[0] == 0
    assert run("convert", root.with_name("set"), root.with_name("copy"), "--backend", "npy")[0] == 0
    for name in ("set", "copy"):
        with storage.open(root.with_name(name)) as reader:
            assert reader.losses == ("depth", "frames", "transparency")
            assert reader[5][0][0, 0].tolist() == expected
            if reader.kind == "encoded":
                assert reader.read([5], size=(5, 7))[0][0, 0, 0].tolist() == expected


def test_a_dataset_of_files_becomes_one_of_pixels_in_its_place(root: Path, convert: Any, run: Command) -> None:  # noqa: ANN401
    (root / "dog" / "c.png").write_bytes(TRANSPARENT)
    images = [*write_images(root), np.full((5, 7, 3), [255, 0, 0], np.uint8)]
    assert convert("--allow=transparency")[0] == 0
    place = root.with_name("set")
    assert run("convert", place, place, "--backend", "npy", "--payload=pixels", "--overwrite")[0] == 0
    assert_same(storage.load(place), (np.stack(images), np.array([0, 0, 0, 1, 1, 1])))
    with storage.open(place) as reader:
        assert (list(reader.names), reader.losses) == ([*NAMES, "dog/c.png"], ("transparency",))
    assert sorted(path.name for path in root.parent.iterdir() if path.name != ".set.lock") == ["set", "tree"]


def test_any_bytes_of_a_dataset_are_kept_unless_they_are_to_be_decoded(tmp_path: Path, run: Command) -> None:
    files = storage.Encoded.join([b"no image", b""])
    storage.save(tmp_path / "set", files, np.arange(2), "npy", metadata={"note": ["a", "b"]})
    new = tmp_path / "new"
    assert run("convert", tmp_path / "set", new, "--backend", "npy")[0] == 0
    code, printed, _ = run("convert", tmp_path / "set", new, "--backend", "npy", "--payload=encoded", "--overwrite")
    assert code == 1
    assert printed.startswith("image 0: it is none of AVIF, BMP")


def test_metadata_stays_with_the_files_that_are_kept(tmp_path: Path, run: Command) -> None:
    good = save(make_picture(), "PNG")
    files = storage.Encoded.join([good, b"no image", good])
    storage.save(tmp_path / "set", files, np.arange(3), "npy", metadata={"note": ["a", "b", "c"]})
    command = ("convert", tmp_path / "set", tmp_path / "new", "--backend", "npy", "--payload=pixels", "--on-error=skip")
    assert run(*command)[0] == 0
    with storage.open(tmp_path / "new") as reader:
        assert (reader.metadata, reader.read_labels().tolist()) == ({"note": ["a", "c"]}, [0, 2])
        assert [problem.name for problem in reader.skipped] == ["image 1"]


def test_names_may_be_any_bytes_and_are_printed_escaped(root: Path, convert: Any) -> None:  # noqa: ANN401
    (root / "cat" / "a\nb\x1b[31m\u202e.txt").write_text("no image")
    (root / "cat" / "\udcff.png").write_bytes((root / "cat" / "1.png").read_bytes())
    code, printed, _ = convert("--on-error=skip")
    assert code == 0
    assert printed.startswith("cat/a\\nb\\x1b[31m\\u202e.txt: it is none of AVIF")
    with storage.open(root.with_name("set")) as reader:
        assert reader.index("cat/\udcff.png") == 3
        assert reader.skipped[0].name == "cat/a\nb\x1b[31m\u202e.txt"


BAD_NAMES = ["cat/tab\there.png", "cat/two\nlines.png", "index.tsv/1.png"]


def test_names_that_a_backend_cannot_keep_are_problems_of_the_same_pass(root: Path, convert: Any) -> None:  # noqa: ANN401
    (root / "index.tsv").mkdir()
    for name in BAD_NAMES:
        shutil.copy(root / "cat" / "1.png", root / name)
    (root / "dog" / "x.png").write_text("no image")
    code, out, err = convert(backend="files")
    assert (code, root.with_name("set").exists()) == (1, False)
    lines = out.splitlines()
    assert [line.split(": ")[0] for line in lines[:4]] == [
        "cat/tab\\there.png",
        "cat/two\\nlines.png",
        "dog/x.png",
        "index.tsv/1.png",
    ]
    assert lines[4] == "4 of 9 files can't be used:"
    assert "5 of 9 files can be used, so nothing was written" in err
    assert convert("--on-error=skip", backend="files")[0] == 0
    with storage.open(root.with_name("set")) as reader:
        assert list(reader.names) == list(NAMES)
        assert [problem.name for problem in reader.skipped] == [*BAD_NAMES[:2], "dog/x.png", BAD_NAMES[2]]


def test_names_of_a_dataset_that_another_backend_cannot_keep_are_problems(tmp_path: Path, run: Command) -> None:
    files = storage.Encoded.join([save(make_picture(), "png")] * 2)
    storage.save(tmp_path / "old", files, [0, 1], "npy", names=["a\tb.png", "c.png"], classes=["cat", "dog"])
    command = ("convert", tmp_path / "old", tmp_path / "new", "--backend", "files")
    code, out, _ = run(*command)
    assert (code, out.splitlines()[0]) == (1, "a\\tb.png: its name can't be the path of a file")
    assert run(*command, "--on-error=skip")[0] == 0
    with storage.open(tmp_path / "new") as reader:
        assert (list(reader.names), reader.targets, reader.classes) == (["c.png"], [1], ("cat", "dog"))


def test_a_plain_store_of_files_keeps_its_names_and_classes(tmp_path: Path, run: Command) -> None:
    files = storage.Encoded.join([b"any bytes", b"more"])
    described = {"names": ["dog/1.jpg", "cat/2.jpg"], "classes": ["cat", "ant", "dog"]}
    storage.BACKENDS["files"].store_many(tmp_path / "old", files, np.array([2, 0]), **described)
    assert run("convert", tmp_path / "old", tmp_path / "new", "--backend", "npy")[0] == 0
    with storage.open(tmp_path / "new") as reader:
        assert {"names": list(reader.names), "classes": list(reader.classes)} == described
        assert reader.targets == [2, 0]


def test_a_phone_s_two_pictures_are_one_image(root: Path, convert: Any) -> None:  # noqa: ANN401
    first, second = Pillow.fromarray(make_picture()), Pillow.fromarray(make_picture()[:12, :20])
    first.save(root / "dog" / "phone.jpg", "MPO", save_all=True, append_images=[second])
    assert convert()[0] == 0
    with storage.open(root.with_name("set")) as reader:
        assert reader[5][0].shape == (24, 40, 3)


def test_an_image_may_have_more_pixels_than_pillow_allows(
    root: Path,
    convert: Any,  # noqa: ANN401
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Pillow.fromarray(make_picture()).save(root / "dog" / "photo.jpg")
    monkeypatch.setattr(Pillow, "MAX_IMAGE_PIXELS", 10)
    assert convert()[0] == 0
    assert convert("--max-pixels=959", "--overwrite")[1].startswith("dog/photo.jpg: it has 960 pixels, more than the")


def test_an_empty_dataset_of_files_becomes_one_of_pixels_if_it_is_given_a_size(tmp_path: Path, run: Command) -> None:
    storage.save(tmp_path / "set", storage.Encoded.join([]), np.arange(0), "npy")
    command = ("convert", tmp_path / "set", tmp_path / "new", "--backend", "npy", "--overwrite")
    code, _, complaints = run(*command, "--payload=pixels")
    assert code == 2
    assert "it has no images that show a size: give one with --size=HxW" in complaints
    assert run(*command, "--payload=pixels", "--size=4x6")[0] == 0
    assert storage.load(tmp_path / "new")[0].shape == (0, 4, 6, 3)
    assert run(*command, "--payload=encoded")[0] == 0
    assert len(storage.load(tmp_path / "new")[0]) == 0


@pytest.mark.parametrize(
    ("options", "step", "content"),
    [
        ((), "read_files", b"shorter"),
        (("--payload=pixels",), "decode", b"no image"),
        (("--format=png",), "decode", b""),
    ],
)
def test_a_file_that_changes_after_the_check_is_named_and_nothing_is_saved(
    root: Path,
    convert: Any,  # noqa: ANN401
    options: tuple[str, ...],
    step: str,
    content: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    examine = examination.examine

    def change(*arguments: Any) -> examination.ExaminedSource:  # noqa: ANN401 - those of `examine`
        examined = examine(*arguments)
        (root / "dog" / "a.png").write_bytes(content)
        return examined

    monkeypatch.setattr("storage.__main__.examine", change)
    code, _, complaints = convert(*options)
    assert code == 1
    reason = "the source was changed while it was read" if step == "read_files" else "dog/a.png: it is none of AVIF"
    assert reason in complaints
    assert not root.with_name("set").exists()
    if step == "read_files":
        assert not list(root.parent.glob(".set.tmp-*")), "what nobody can resume was left"


@pytest.fixture
def interrupt(convert: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:  # noqa: ANN401
    """Convert the folder, with a part for each image, until the fourth image after the check of all five."""
    monkeypatch.setattr(arrays, "BATCH_BYTES", 1)
    monkeypatch.setattr(writer, "PART", 1)

    def call(step: str, *options: str) -> None:
        countdown = 9 if options else 4
        make = getattr(payload.Payload, step)

        def fail(self: payload.Payload, content: Any) -> Any:  # noqa: ANN401
            nonlocal countdown
            countdown -= 1
            if not countdown:
                raise KeyboardInterrupt
            return make(self, content)

        with monkeypatch.context() as patch:
            patch.setattr(payload.Payload, step, fail)
            patch.setattr(os, "sched_getaffinity", lambda _: {0})
            assert convert(*options)[0] == 130

    return call


@pytest.mark.parametrize(("step", "saved"), [("make_file", 2), ("decode", 3)])  # a part ends when a file doesn't fit
def test_an_interrupted_conversion_resumes_if_it_has_the_same_options(
    root: Path,
    convert: Any,  # noqa: ANN401
    interrupt: Callable[..., None],
    step: str,
    saved: int,
) -> None:
    options = ["--payload=pixels", "--size=4"] if step == "decode" else []
    interrupt(step, *options)
    assert "had saved the first" not in convert("--payload=pixels", "--size=3")[1]
    shutil.rmtree(root.with_name("set"))
    interrupt(step, *options)
    assert f"; an earlier conversion had saved the first {saved}\n" in convert(*options)[1]
    assert storage.check(root.with_name("set")).is_whole
    with storage.open(root.with_name("set")) as reader:
        assert (list(reader.names), reader.read_labels().tolist()) == (list(NAMES), [0, 0, 0, 1, 1])


def test_pixels_of_one_library_are_not_mixed_with_those_of_another(
    convert: Any,  # noqa: ANN401
    interrupt: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = ["--payload=pixels", "--size=4"]
    interrupt("decode", *options)
    monkeypatch.setattr("storage.decoding.find_opencv", lambda: SimpleNamespace(__name__="cv2", __version__="9.9"))
    assert "had saved the first" not in convert(*options)[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--size=24"], "a size is for pixels: add --payload=pixels"),
        (["--payload=encoded", "--size=24"], "a size is for pixels: add --payload=pixels"),
        (["--payload=pixels", "--format=png"], "a format is for image files"),
        (["--quality=9"], "a quality is for JPEG and WebP"),
        (["--format=png", "--quality=9"], "a quality is for JPEG and WebP"),
        (["--format=jpeg", "--quality=0"], "a quality of 0: give one from 1 to 100"),
        (["--format=jpeg", "--quality=101"], "a quality of 101: give one from 1 to 100"),
        (["--max-pixels=0"], "at most 0 pixels: give a number above 0"),
        (["--class-depth=-1"], "a class depth of -1: give 0 or more"),
        (["--allow=depth,alpha"], "'alpha' can't be allowed: choose among transparency, frames, depth"),
        (["--backend=files", "--payload=pixels"], "files can't store pixels: choose another backend"),
        (["--backend=png", "--payload=encoded"], "png can't store image files: choose another backend, or --payload"),
        (["--backend=png", "--format=png"], "png can't store image files: choose another backend, or --payload"),
    ],
)
def test_options_that_do_not_fit_are_wrong_usage_before_anything_is_read(
    root: Path, run: Command, options: list[str], message: str
) -> None:
    code, printed, complaints = run("convert", root / "nowhere", root / "new", "--backend=npy", *options)
    assert (code, printed) == (2, "")
    assert message in complaints


@pytest.mark.parametrize("option", ["--size=0", "--size=x", "--size=3x", "--size=3x4x5", "--size=-3", "--size=3,4"])
def test_a_size_that_is_none_is_wrong_usage(root: Path, run: Command, option: str) -> None:
    with pytest.raises(SystemExit) as ended:
        run("convert", root, root / "new", "--backend=npy", "--payload=pixels", option)
    assert ended.value.code == 2


@pytest.mark.parametrize(
    ("option", "what"),
    [
        ("--payload=encoded", "image files"),
        ("--format=png", "image files"),
        ("--allow=depth", "image files"),
        ("--on-error=skip", "image files"),
        ("--max-pixels=7", "image files"),
        ("--class-depth=1", "a folder or an archive whose folders are classes"),
    ],
)
def test_options_for_files_are_refused_for_pixels(tmp_path: Path, run: Command, option: str, what: str) -> None:
    storage.save(tmp_path / "set", np.zeros((3, 5, 7, 3), np.uint8), np.arange(3), "npy")
    code, _, complaints = run("convert", tmp_path / "set", tmp_path / "new", "--backend", "npy", option)
    assert code == 2
    assert f"{option.partition('=')[0]} is for {what}: leave it out" in complaints
    assert run("convert", tmp_path / "set", tmp_path / "new", "--backend", "npy", "--payload=pixels")[0] == 0


def test_class_depth_is_an_option(root: Path, convert: Any) -> None:  # noqa: ANN401
    (root / "1.png").write_bytes((root / "cat" / "1.png").read_bytes())
    assert convert()[0] == 1
    assert convert("--class-depth=0")[0] == 0
    with storage.open(root.with_name("set")) as reader:
        assert (reader.names[0], reader.classes) == ("1.png", ("tree",))


def test_a_terminal_shows_the_progress_of_the_check_and_of_saving(
    convert: Any,  # noqa: ANN401
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    complaints = convert()[2]
    assert "checking: 100%" in complaints
    assert "saving: 100%" in complaints


def test_a_size_above_the_limit_of_pixels_is_wrong_usage(convert: Any, root: Path, capsys: Any) -> None:  # noqa: ANN401 - fixtures
    with pytest.raises(SystemExit) as stopped:
        convert("--payload=pixels", "--size=100000x100000")
    assert stopped.value.code == 2
    assert "100000x100000 is more than 268,435,456 pixels" in capsys.readouterr().err
    assert not root.with_name("set").exists()


def test_hints_name_the_options_of_the_command(root: Path, convert: Any) -> None:  # noqa: ANN401
    for number, content in enumerate((TRANSPARENT, FRAMES, DEEP, save(make_picture(40, 40), "png"))):
        (root / "cat" / f"{number}.png").write_bytes(content)
    code, printed, _ = convert("--max-pixels=900")
    assert code == 1
    for option in ("--allow=transparency", "--allow=frames", "--allow=depth", "--max-pixels"):
        assert option in printed


def test_a_small_file_has_few_pixels_unless_more_are_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(payload, "FREE_PIXELS", 100)
    monkeypatch.setattr(payload, "PIXELS_PER_BYTE", 1)
    content = io.BytesIO()
    Pillow.new("1", (60, 40)).save(content, "PNG")
    limit = 100 + len(content.getvalue())
    with pytest.raises(storage.DecodingError, match=f"2,400 pixels, more than the limit of {limit}: .*--max-pixels"):
        payload.Payload().examine(content.getvalue())
    assert payload.Payload(max_pixels=2400).examine(content.getvalue()) == (40, 60)
