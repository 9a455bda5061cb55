"""Parts of JPEG files have the pixels of the whole, whatever is left out."""

import os
import subprocess
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from storage import DecodingError, Image
from storage.augmentation import Augmentation, Crop
from storage.decoding import decode_scaled
from storage.jpeg import find_simplejpeg
from storage.jpeg_parts import decode_part, find_nvimgcodec
from storage.pictures import Size
from tests.support.image_files import make_picture, require_nvimgcodec, save
from tests.support.properties import given, settings, st
from tests.support.suite import ROOT

SAMPLINGS = ("444", "422", "420", "440", "411", "Gray")
PROGRAM = """
import os, sys
from storage.augmentation import Crop
from storage.jpeg_parts import find_nvimgcodec, decode_part
from storage.jpeg import find_simplejpeg
from storage.pictures import Size

def decode():
    image, part = decode_part(find_simplejpeg(), content, Size(24, 40), Crop(3, 5, 9, 7), 8, may_cut=True)
    print(image.shape, int(image.sum()), *part, flush=True)

content = memoryview(open(sys.argv[1], "rb").read())
before = dict(os.environ)
find_nvimgcodec()
decode()
child = os.fork()
if child:
    assert os.waitpid(child, 0) == (child, 0)
decode()
if child:
    files = {line.split("/")[-1].split(".")[0] for line in open("/proc/self/maps") if "_ext.so" in line}
    print(dict(os.environ) == before, *sorted(files))
"""


@pytest.fixture
def simplejpeg() -> Any:  # noqa: ANN401 - a module without types
    return find_simplejpeg() or pytest.skip("simplejpeg isn't installed")


def make_noise(height: int, width: int) -> Image:
    return np.random.default_rng(height * width).integers(0, 256, (height, width, 3), np.uint8)


@settings(max_examples=200)
@given(data=st.data(), sampling=st.sampled_from(SAMPLINGS), is_progressive=st.booleans())
def test_a_part_has_the_pixels_of_the_whole(
    simplejpeg: Any,  # noqa: ANN401 - likewise
    data: st.DataObject,
    sampling: str,
    *,
    is_progressive: bool,
) -> None:
    require_nvimgcodec()
    height, width = data.draw(st.integers(1, 70)), data.draw(st.integers(1, 70))
    top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    part = Crop(top, left, data.draw(st.integers(1, height - top)), data.draw(st.integers(1, width - left)))
    noise = make_noise(height, width)
    if is_progressive:
        content = save(noise, "JPEG", progressive=True)
    elif sampling == "Gray":
        content = simplejpeg.encode_jpeg(noise[..., :1].copy(), 85, "GRAY", "Gray")
    else:
        content = simplejpeg.encode_jpeg(noise, 85, "RGB", sampling)
    image, shown = decode_part(simplejpeg, memoryview(content), Size(height, width), part, 8, may_cut=True)
    whole = simplejpeg.decode_jpeg(content, "RGB")[top : top + part.height]
    assert image.shape == (part.height, shown.width, 3), "nvImageCodec didn't decode it"
    assert shown.left <= left < left + part.width <= shown.left + shown.width <= max(width, left + part.width)
    np.testing.assert_array_equal(image, whole[:, shown.left : shown.left + shown.width])


def test_what_no_checksum_covers_is_decoded_fully(simplejpeg: Any) -> None:  # noqa: ANN401 - likewise
    content = memoryview(save(make_noise(24, 40), "JPEG"))
    _, shown = decode_part(simplejpeg, content, Size(24, 40), Crop(3, 5, 9, 7), 8, may_cut=False)
    assert shown == Crop(0, 0, 24, 40)


def test_a_part_that_is_made_smaller_is_decoded_at_a_fraction(simplejpeg: Any) -> None:  # noqa: ANN401 - likewise
    content = memoryview(save(make_noise(64, 96), "JPEG"))
    image, shown = decode_part(simplejpeg, content, Size(64, 96), Crop(3, 5, 40, 30), 4, may_cut=True)
    assert (image.shape, shown) == ((30, 48, 3), Crop(0, 0, 59, 96))


@pytest.mark.parametrize("library", ["nvImageCodec", "a broken one", "none"])
def test_a_file_that_ends_early_is_an_error(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if library == "nvImageCodec":
        require_nvimgcodec()
    else:
        monkeypatch.setattr("storage.jpeg_parts.find_nvimgcodec", lambda: None if library == "none" else Broken())
        monkeypatch.setattr("storage.jpeg_parts._decoders", SimpleNamespace(decoder=None))
    content = save(make_noise(64, 96), "JPEG")
    view = Augmentation((0.9, 0.9), 0, 0).view(0, is_verified=True)
    with pytest.raises(DecodingError, match="can't be decoded"):
        decode_scaled(memoryview(content[: len(content) // 2]), Size(64, 64), view=view)


class Broken(SimpleNamespace):
    """Refuses each file."""

    NVIMGCODEC_DEVICE_CPU_ONLY = CPU_ONLY = 0
    ColorSpec = SimpleNamespace(SRGB=0)
    DecodeParams = SimpleNamespace

    def __init__(self) -> None:
        nothing = SimpleNamespace(decode=None)
        super().__init__(
            Backend=lambda _: None, Region=lambda *_: None, Decoder=lambda **_: nothing, CodeStream=self._refuse
        )

    def _refuse(self, content: memoryview) -> None:
        raise RuntimeError(f"{len(content)} bytes of something")


def test_only_jpeg_is_loaded_nothing_is_said_and_a_forked_child_decodes(tmp_path: Path) -> None:
    require_nvimgcodec()
    file = tmp_path / "picture.jpg"
    file.write_bytes(save(make_picture(), "JPEG"))
    command = [sys.executable, "-c", PROGRAM, str(file)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    first, *others, last = ended.stdout.splitlines() or [""]
    assert (ended.stderr, last) == ("", "True libjpeg_turbo_ext")
    assert others == [first, first], ended.stdout
    assert first.startswith("(9, 16, 3) ")
    assert first.endswith(" 3 0 9 16")


@pytest.mark.parametrize("spec", [None, ModuleSpec("nvidia.nvimgcodec", None)], ids=["absent", "without extensions"])
def test_nvimgcodec_is_optional(spec: ModuleSpec | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage.jpeg_parts.find_spec", lambda _: spec)
    assert find_nvimgcodec.__wrapped__() is None


@pytest.mark.parametrize("error", [ModuleNotFoundError("nvidia"), ImportError("glibc"), OSError("no space left")])
def test_nvimgcodec_that_cannot_be_imported_is_done_without(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: str) -> None:
        raise error

    monkeypatch.setattr("storage.jpeg_parts.find_spec", fail)
    assert find_nvimgcodec.__wrapped__() is None


def test_variables_of_the_user_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = ModuleSpec("nvidia.nvimgcodec", None, is_package=True)
    spec.submodule_search_locations = [str(tmp_path)]
    (tmp_path / "extensions").mkdir()
    (tmp_path / "extensions" / "libjpeg_turbo_ext.so.1").touch()
    monkeypatch.setattr("storage.jpeg_parts.find_spec", lambda _: spec)
    monkeypatch.setenv("PYNVIMGCODEC_VERBOSITY", "5")
    monkeypatch.delenv("NVIMGCODEC_EXTENSIONS_PATH", raising=False)
    found = SimpleNamespace(NVIMGCODEC_DEVICE_CPU_ONLY=-1)
    monkeypatch.setitem(sys.modules, "nvidia", SimpleNamespace(nvimgcodec=found))
    assert find_nvimgcodec.__wrapped__() is found
    assert os.environ["PYNVIMGCODEC_VERBOSITY"] == "5"
    assert "NVIMGCODEC_EXTENSIONS_PATH" not in os.environ
