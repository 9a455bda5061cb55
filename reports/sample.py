"""A sample of somebody's image files, as a run describes it: what was drawn, how large it is, what was left out."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from reports.text import count_noun, format_bytes, join_words, shorten_text

MAX_LISTED = 200  # names of files
MAX_REASONS = 3


class Summary(NamedTuple):
    """The mean of a property of image files, and its quantiles, rounded."""

    mean: int
    least: int
    low: int  # the first decile
    median: int
    high: int  # the last decile
    most: int


@dataclass(frozen=True)
class Unusable:
    """The files that could not be used."""

    count: int
    reasons: Mapping[str, int]  # reason -> number of files
    files: tuple[tuple[str, ...], ...]  # the first ones: name and reason


@dataclass(frozen=True)
class Sample:
    """Images that were drawn from those `found`: files, or pixels of one size. `formats` counts those that are used."""

    seed: int
    found: int
    classes: int
    side: int | None  # of the pixels made of files, which are squares; None if the images were pixels already
    formats: Mapping[str, int]
    file_bytes: Summary
    widths: Summary
    heights: Summary
    pixels: Summary
    unusable: Unusable
    limits: tuple[str, ...] | None = None  # why no more were drawn; None in old runs

    @property
    def count(self) -> int:
        """How many images there are."""
        return sum(self.formats.values())

    @property
    def sentence(self) -> str:
        """The sample in one sentence, for the head of a page."""
        files, width, height = self.file_bytes, self.widths.median, self.heights.median
        if self.side is None:
            return f"{self._count}: {self._formats}; {width:,} x {height:,} pixels, {format_bytes(files.mean)} each."
        left_out = f" {self._left_out} left out." if self.unusable.count else ""
        sizes = f"{format_bytes(files.mean)} on average, {width:,} x {height:,} pixels at the median"
        return f"{self._count}: {self._formats}; {sizes}.{left_out}"

    @property
    def facts(self) -> dict[str, str]:
        """The sample as facts: name and text."""
        files, pixels = self.file_bytes, self.pixels
        sizes = [format_bytes(size) for size in (files.low, files.median, files.high)]
        deciles = f"{join_words(sizes)} at 10, 50 and 90 %"
        classes = "1 class" if self.classes == 1 else f"{self.classes:,} classes"
        drawn = {
            "Sample": "; ".join([f"{self._count}, in {classes}", *(self.limits or ()), f"seed {self.seed}"]),
            "Formats": self._formats,
        }
        if self.side is None:
            width, height = self.widths.median, self.heights.median
            return drawn | {"Size": f"{width:,} x {height:,} pixels, {format_bytes(files.median)} an image; not scaled"}
        return drawn | {
            "File sizes": f"{format_bytes(files.mean)} on average; {deciles}; {_describe_range(files, format_bytes)}",
            "Widths": f"{_describe_deciles(self.widths)} pixels",
            "Heights": f"{_describe_deciles(self.heights)} pixels",
            "Pixels": f"{pixels.mean:,} in an image on average; {_describe_deciles(pixels)}",
            "Scaled to": f"{self.side:,} x {self.side:,} pixels, where a cell's payload is pixels or it decodes",
            "Left out": f"{self._left_out}{f' ({self._reasons})' if self.unusable.reasons else ''}",
        }

    @property
    def left_out(self) -> Iterator[str]:
        """The first files that were left out, each with the reason."""
        yield from (": ".join(file) for file in self.unusable.files[:MAX_LISTED])
        if more := self.unusable.count - min(len(self.unusable.files), MAX_LISTED):
            yield f"and {more:,} more"

    @property
    def _count(self) -> str:
        return f"{self.count:,} of {count_noun(self.found, 'image' if self.side is None else 'file')}"

    @property
    def _formats(self) -> str:
        return shorten_text(", ".join(f"{number:,} {name}" for name, number in self.formats.items()), 200)

    @property
    def _left_out(self) -> str:
        return count_noun(self.unusable.count, "file")

    @property
    def _reasons(self) -> str:
        """The most frequent reasons, none of them cut short in its middle."""
        shown = list(self.unusable.reasons.items())[:MAX_REASONS]
        words = [f"{number:,}: {shorten_text(reason, 100)}" for reason, number in shown]
        rest = self.unusable.count - sum(number for _, number in shown)
        return "; ".join([*words, f"{rest:,} for other reasons"] if rest > 0 else words)


def _describe_deciles(summary: Summary) -> str:
    return f"{summary.low:,}, {summary.median:,} and {summary.high:,} at 10, 50 and 90 %; {_describe_range(summary)}"


def _describe_range(summary: Summary, write: Callable[[int], str] = "{:,}".format) -> str:
    return f"{write(summary.least)} to {write(summary.most)}"
