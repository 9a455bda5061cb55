"""How the stand-in's photos compare with genuine ones: ``python -m tests.support.photo_statistics FOLDER``."""

import argparse
import io
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from fixtures.photo_standin import SEED, make_photos
from storage.decoding import decode_batch
from storage.encoded import Encoded
from storage.pictures import Size
from tests.support.genuine import PHOTOS

DECILES = np.arange(1, 10) / 10
ROUNDS = 5

Files = Sequence[bytes]


class Quantity(NamedTuple):
    """Mean and deciles over many photos."""

    mean: float
    deciles: tuple[float, ...]


def read_photos(folder: Path) -> Files:
    return [path.read_bytes() for path in sorted(folder.rglob("*.jpg"))]


def measure_bytes(files: Files) -> Quantity:
    return _summarize([len(file) for file in files])


def count_pixels(files: Files) -> Quantity:
    return _summarize([picture.width * picture.height for picture in map(_open, files)])


def encode(files: Files, encoding: str) -> Quantity:
    """Measure the same pictures as files of another format, with Pillow's defaults."""
    return _summarize([_save(_open(file), encoding) for file in files])


def time_decoders(genuine: Files, standin: Files) -> dict[str, float]:
    """Measure how much longer the stand-in takes to decode: the median of rounds in which both sets alternate."""
    import simplejpeg  # noqa: PLC0415 - optional, and tests of sizes do without it

    decoders: dict[str, Callable[[bytes], object]] = {
        "Pillow": lambda file: _open(file).load(),
        "simplejpeg": simplejpeg.decode_jpeg,
        "to 224 x 224": _decode_scaled,
    }
    ratios: dict[str, list[float]] = {name: [] for name in decoders}
    for _ in range(ROUNDS):
        for name, decoder in decoders.items():
            ratios[name].append(_time(decoder, standin) / _time(decoder, genuine))
    return {name: statistics.median(each) for name, each in ratios.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.photo_statistics", description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=PHOTOS, help="of genuine JPEG files")
    parser.add_argument("--count", type=int, default=1000, help="how many photos of the stand-in to measure")
    parser.add_argument("--seed", type=int, default=SEED)
    chosen = parser.parse_args(arguments)

    genuine, standin = read_photos(chosen.folder), make_photos(chosen.count, chosen.seed).files
    quantities: dict[str, Callable[[Files], Quantity]] = {
        "bytes": measure_bytes,
        "pixels": count_pixels,
        "bytes as PNG": partial(encode, encoding="PNG"),
        "bytes as WebP": partial(encode, encoding="WEBP"),
    }
    write = sys.stdout.write
    write("| mean of | genuine | stand-in | ratio | ratios of deciles |\n|---|---|---|---|---|\n")
    for name, measure in quantities.items():
        one, other = measure(genuine), measure(standin)
        ratios = " ".join(f"{b / a:.2f}" for a, b in zip(one.deciles, other.deciles, strict=True))
        write(f"| {name} | {one.mean:,.0f} | {other.mean:,.0f} | {other.mean / one.mean:.2f} | {ratios} |\n")
    for name, ratio in time_decoders(genuine, standin).items():
        write(f"| time to decode, {name} | | | {ratio:.2f} | |\n")


def _summarize(values: Sequence[int]) -> Quantity:
    return Quantity(statistics.fmean(values), tuple(np.quantile(values, DECILES).tolist()))


def _open(file: bytes) -> Image.Image:
    return Image.open(io.BytesIO(file))


def _save(picture: Image.Image, encoding: str) -> int:
    file = io.BytesIO()
    picture.save(file, encoding)
    return len(file.getvalue())


def _decode_scaled(file: bytes) -> None:
    decode_batch(Encoded.join([file]), Size(224, 224), np.empty((1, 224, 224, 3), np.uint8), threads=1)


def _time(decoder: Callable[[bytes], object], files: Files) -> float:
    """Return the processor's seconds for a file."""
    start = time.thread_time()
    for file in files:
        decoder(file)
    return (time.thread_time() - start) / len(files)


if __name__ == "__main__":
    main()
