"""A sample of somebody's image files, as a run describes it: what was drawn, how large it is, what was left out."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from reports.text import count_noun, format_bytes, join_words, shorten_text

MAX_LISTED = 200  # names of files


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
    """Image files that were drawn from those `found`; `formats` counts those that were kept."""

    found: int
    classes: int
    side: int  # of the pixels, which are squares
    formats: Mapping[str, int]
    file_bytes: Summary
    widths: Summary
    heights: Summary
    pixels: Summary
    unusable: Unusable

    @property
    def sentence(self) -> str:
        """The sample in one sentence, for the head of a page."""
        sizes = f"{self.widths.median:,} x {self.heights.median:,} pixels at the median"
        left_out = f" {self._left_out} left out." if self.unusable.count else ""
        return f"{self._count}: {self._formats}; {format_bytes(self.file_bytes.mean)} on average, {sizes}.{left_out}"

    @property
    def facts(self) -> dict[str, str]:
        """The sample as facts: name and text."""
        files, pixels = self.file_bytes, self.pixels
        sizes = [format_bytes(size) for size in (files.low, files.median, files.high)]
        deciles = f"{join_words(sizes)} at 10, 50 and 90 %"
        reasons = "; ".join(f"{number:,}: {reason}" for reason, number in self.unusable.reasons.items())
        return {
            "Sample": f"{self._count}, in {self.classes:,} {'class' if self.classes == 1 else 'classes'}",
            "Formats": self._formats,
            "File sizes": f"{format_bytes(files.mean)} on average; {deciles}; {_describe_range(files, format_bytes)}",
            "Widths": f"{_describe_deciles(self.widths)} pixels",
            "Heights": f"{_describe_deciles(self.heights)} pixels",
            "Pixels": f"{pixels.mean:,} in an image on average; {_describe_deciles(pixels)}",
            "Scaled to": f"{self.side:,} x {self.side:,} pixels, where a cell's payload is pixels or it decodes",
            "Left out": shorten_text(f"{self._left_out}{f' ({reasons})' if reasons else ''}", 600),
        }

    @property
    def left_out(self) -> Iterator[str]:
        """The first files that were left out, each with the reason."""
        yield from (": ".join(file) for file in self.unusable.files[:MAX_LISTED])
        if more := self.unusable.count - min(len(self.unusable.files), MAX_LISTED):
            yield f"and {more:,} more"

    @property
    def _count(self) -> str:
        return f"{sum(self.formats.values()):,} of {count_noun(self.found, 'file')}"

    @property
    def _formats(self) -> str:
        return shorten_text(", ".join(f"{number:,} {name}" for name, number in self.formats.items()), 200)

    @property
    def _left_out(self) -> str:
        return count_noun(self.unusable.count, "file")


def _describe_deciles(summary: Summary) -> str:
    return f"{summary.low:,}, {summary.median:,} and {summary.high:,} at 10, 50 and 90 %; {_describe_range(summary)}"


def _describe_range(summary: Summary, write: Callable[[int], str] = "{:,}".format) -> str:
    return f"{write(summary.least)} to {write(summary.most)}"
