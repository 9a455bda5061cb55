"""Parts of JPEG files: no pixels are made of what lies outside, as far as a library can leave it out.

nvImageCodec passes on that libjpeg can do so on all sides of a part; on Linux, it needs no graphics card. Without it,
or where a file is decoded at a fraction of its size, the rows below a part are left out. All rows above must be read.

Library: nvImageCodec (https://docs.nvidia.com/cuda/nvimagecodec).
"""

import math
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

import numpy as np

from .arrays import Image
from .augmentation import Crop
from .jpeg import MAX_FACTOR, decode_least, find_segments, read_header
from .pictures import Size

BASELINE = {b"\xc0", b"\xc1"}  # of the header of a file that has one scan from top to bottom
CONTEXT = 16  # rows below a part that its last rows depend on: colours are interpolated
NARROW = 16  # columns; of fewer, libjpeg interpolates colours in another way
EXTENSION = "libjpeg_turbo_ext*"  # what nvImageCodec decodes JPEG with on a processor


class _Decoders(threading.local):
    """A decoder of nvImageCodec for each thread, which starts no others."""

    decoder: Any = None


_decoders = _Decoders()


@cache
def find_nvimgcodec() -> Any:  # noqa: ANN401 - a module without types, or None
    """Import nvImageCodec, if it is installed, with one of its extensions.

    The others would say on stderr which libraries of CUDA they miss, and decode what is no JPEG.
    """
    try:
        spec = find_spec("nvidia.nvimgcodec")
        folders = [] if spec is None else spec.submodule_search_locations or []
        files = [file for folder in folders for file in Path(folder, "extensions").glob(EXTENSION)]
        if not files:
            return None
        with TemporaryDirectory() as extensions:
            for file in files:
                Path(extensions, file.name).symlink_to(file)
            with _environment(NVIMGCODEC_EXTENSIONS_PATH=extensions, PYNVIMGCODEC_VERBOSITY="0"):
                from nvidia import nvimgcodec  # noqa: PLC0415 - optional
    except (ImportError, OSError):
        return None
    return nvimgcodec if hasattr(nvimgcodec, "NVIMGCODEC_DEVICE_CPU_ONLY") else None  # older ones want a graphics card


def decode_part(
    simplejpeg: ModuleType, content: memoryview, whole: Size, part: Crop, eighths: int, *, may_cut: bool
) -> tuple[Image, Crop]:
    """Decode a part of a file, perhaps more, at a number of eighths of its size: its pixels, and what they show.

    The next call of this thread uses the memory again. If the file may be cut, what isn't needed is left out. Then it
    isn't strict: corruption that libjpeg only warns about isn't noticed.
    """
    region = _widen(part, whole)
    image = _decode_region(content, region) if may_cut and eighths == MAX_FACTOR else None
    if image is not None:
        return image, region
    size = Size(min(part.top + part.height + CONTEXT, whole.height), whole.width)
    cut = _cut_rows(simplejpeg, content, size) if may_cut and size != whole else None
    given = whole if cut is None else size
    least = Size(*(math.ceil(side * eighths / MAX_FACTOR) for side in given))
    image = decode_least(simplejpeg, memoryview(content if cut is None else cut), given, least, strict=cut is None)
    return image, Crop(0, 0, *given)


def _widen(part: Crop, whole: Size) -> Crop:
    right = part.left + part.width
    left = max(0, min(part.left, right - NARROW))
    return part._replace(left=left, width=min(whole.width, max(right, left + NARROW)) - left)


def _decode_region(content: memoryview, part: Crop) -> Image | None:
    """Decode a part alone, if nvImageCodec is here and can."""
    if (library := find_nvimgcodec()) is None:
        return None
    if _decoders.decoder is None:
        backends = [library.Backend(library.CPU_ONLY)]
        device = library.NVIMGCODEC_DEVICE_CPU_ONLY
        _decoders.decoder = library.Decoder(device_id=device, max_num_cpu_threads=1, backends=backends)
    region = library.Region(part.top, part.left, part.top + part.height, part.left + part.width)
    params = library.DecodeParams(color_spec=library.ColorSpec.SRGB, apply_exif_orientation=False)
    try:
        image = _decoders.decoder.decode(library.CodeStream(content).get_sub_code_stream(region=region), params=params)
    except RuntimeError:  # a file that its parser doesn't know
        return None
    return None if image is None else np.asarray(image)


def _cut_rows(simplejpeg: ModuleType, content: memoryview, size: Size) -> bytearray | None:
    """Give a baseline file a smaller height in its header, where libjpeg ends; it finds no marker behind those rows."""
    place = next((segment.end() + 1 for segment in find_segments(content) if segment[1] in BASELINE), None)
    if place is None:
        return None
    cut = bytearray(content)
    cut[place : place + 2] = size.height.to_bytes(2, "big")
    header = read_header(simplejpeg, memoryview(cut))
    return cut if header is not None and header.size == size else None  # libjpeg found another header


@contextmanager
def _environment(**variables: str) -> Iterator[None]:
    """Set variables of this process, and bring back what they were."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
