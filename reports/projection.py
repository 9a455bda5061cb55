"""Projects a sweep over numbers of images to many more images.

A line, y = fixed + each * n, is fitted by least squares of relative residuals: 10 % count the same at ten images and at
100,000. Neither parameter may be negative, because no call and no image takes less than nothing.

An interval says where one measurement of that many images would lie, if the line continues and errors are relative. It
is a factor, the same in both directions, because times scatter as ratios. Its width follows from the residuals (a
prediction with Student's t); for times it's at least two standard deviations of the difference between processes. In
simulated sweeps of five points with log-normal errors it held 93 of 100 for errors of 15 %, 89 for 30 %. In two real
runs, fitted up to 10,000 images, it held 29 of 35 measurements at 100,000; all six outside took longer.

It isn't a promise. 2,000,000 images are twenty times the suite's largest sweep, and residuals can't show what begins
past it: a full cache, a deeper tree, a slow directory. `misfit` shows how straight the sweep was, `Limit` its end.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reports.noise import UNKNOWN_SCATTER
from reports.run import Disk, Params, Result, Run
from reports.text import format_number

COUNTS = (2_000_000, 100_000_000)

Quantity = Literal["seconds", "bytes"]
Points = Sequence[tuple[int, float]]  # numbers of images, and what was measured for each
_Floats = NDArray[np.float64]

_OPERATIONS = ("store_many", "read_many", "read_epoch")
_MIN_COUNTS = 3  # a line goes through any two points
_MIN_WIDTH = {"seconds": 2 * UNKNOWN_SCATTER, "bytes": 0.0}  # as logarithm: two processes write equally many bytes
# Student's t, 97.5 %, for 1, 2, ... degrees of freedom; with more, the last one is a little too wide. NIST/SEMATECH
# e-Handbook of Statistical Methods, 1.3.6.7.2: https://www.itl.nist.gov/div898/handbook/eda/section3/eda3672.htm
_QUANTILES = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)


class Estimate(NamedTuple):
    """A projected value and the bounds of its interval."""

    value: float
    low: float
    high: float


class Limit(NamedTuple):
    """The largest number of images that a machine can hold, and the reason, such as `inodes: 5,000,000 free`."""

    images: int
    reason: str


@dataclass(frozen=True)
class Projection:
    """The line of one backend, in seconds or bytes."""

    backend: str
    points: int  # cells that the line was fitted to
    largest: int  # number of images among them
    fixed: float  # of any call; not negative
    each: float  # of each image; not negative
    misfit: float  # residual of the worst point, as a fraction of what was measured there
    estimates: tuple[Estimate, ...]  # one for each of `COUNTS`
    limit: Limit | None  # None if the run has no limit


@dataclass(frozen=True)
class Sweep:
    """The lines of one group, the smallest at many images first; backends with too few numbers of images are absent."""

    operation: str
    params: Params
    quantity: Quantity  # seconds a call, or bytes of a store on disk
    projections: tuple[Projection, ...]


def project_run(run: Run) -> tuple[Sweep, ...]:
    """Project the times of each group that stores or reads many images, then the bytes on disk, to each of `COUNTS`."""
    return tuple(sweep for payload, part in run.parts.items() for sweep in _project_part(payload, part))


def _project_part(payload: Params, run: Run) -> tuple[Sweep, ...]:
    groups = {group: results for group, results in run.groups.items() if group[0] in _OPERATIONS}
    disks = {
        backend: [(result.images, result.disk) for result in own if result.disk]
        for backend, own in _split_backends(run.stored).items()
    }
    of_sizes = {backend: list(_limit_size(run, own)) for backend, own in disks.items()}
    of_times = {
        backend: [*_limit_time(run, results, disks.get(backend, ())), *of_sizes.get(backend, ())]
        for backend, results in _split_backends(chain.from_iterable(groups.values())).items()
    }
    sweeps = [
        Sweep(operation, params, "seconds", _project_all(_list_times(results), "seconds", of_times))
        for (operation, params), results in groups.items()
    ]
    sizes = {backend: [(count, disk.allocated_bytes) for count, disk in own] for backend, own in disks.items()}
    sweeps.append(Sweep("store_many", payload, "bytes", _project_all(sizes, "bytes", of_sizes)))
    return tuple(sweep for sweep in sweeps if sweep.projections)


def _split_backends(results: Iterable[Result]) -> dict[str, list[Result]]:
    split: dict[str, list[Result]] = {}
    for result in results:
        split.setdefault(result.backend, []).append(result)
    return split


def _list_times(results: Iterable[Result]) -> dict[str, Points]:
    return {
        backend: [(result.images, result.median) for result in own] for backend, own in _split_backends(results).items()
    }


def _project_all(
    measured: Mapping[str, Points], quantity: Quantity, limits: Mapping[str, Sequence[Limit]]
) -> tuple[Projection, ...]:
    projections = [
        _project(backend, points, _MIN_WIDTH[quantity], limits[backend])
        for backend, points in measured.items()
        # Some file systems report 0 bytes until a store reaches the disk: its size is then unknown.
        if len({count for count, _ in points}) >= _MIN_COUNTS and all(value for _, value in points)
    ]
    return tuple(sorted(projections, key=lambda projection: projection.estimates[-1].value))


def _project(backend: str, points: Points, width: float, limits: Sequence[Limit]) -> Projection:
    """Fit the line of one backend, and project it."""
    counts, values = np.array(points, np.float64).T
    design = np.column_stack([1 / values, counts / values])  # all measured values become 1, so residuals are relative
    line, covariance = _fit_line(design)
    residuals = 1 - design @ line
    return Projection(
        backend=backend,
        points=len(points),
        largest=max(count for count, _ in points),
        fixed=float(line[0]),
        each=float(line[1]),
        misfit=float(np.abs(residuals).max()),
        estimates=tuple(_estimate(count, line, covariance, residuals, width) for count in COUNTS),
        limit=min(limits, key=lambda limit: limit.images, default=None),
    )


def _fit_line(design: _Floats) -> tuple[_Floats, _Floats]:
    """Fit a line without negative parameters; return it, and the covariance of the unconstrained line at variance 1."""
    scales = np.linalg.norm(design, axis=0)
    inverse = np.linalg.pinv(design / scales) / scales[:, np.newaxis]
    line = inverse.sum(axis=1)
    if line.min() < 0:
        kept = int(line.argmax())
        line = np.zeros(2)
        line[kept] = design[:, kept].sum() / scales[kept] ** 2
    return line, inverse @ inverse.T


def _estimate(count: int, line: _Floats, covariance: _Floats, residuals: _Floats, width: float) -> Estimate:
    """Project the line to that many images; `width` is the smallest logarithm of a bound / the value."""
    place = np.array([1.0, count])
    value = float(place @ line)
    freedom = len(residuals) - len(line)
    variance = float(residuals @ residuals) / freedom
    deviation = math.sqrt(variance * (1 + float(place @ covariance @ place) / value**2))
    quantile = _QUANTILES[min(freedom, len(_QUANTILES)) - 1]
    factor = max(1 + quantile * deviation, math.exp(width))
    return Estimate(value, value / factor, value * factor)


def _limit_time(run: Run, results: Sequence[Result], disks: Sequence[tuple[int, Disk]]) -> Iterator[Limit]:
    """Limit times by memory: both operations hold the set in it, and a larger store isn't in the page cache."""
    disk_bytes, _ = _grow(disks)
    set_bytes = max(result.bytes / result.images for result in results)
    yield from _limit(run.memory_bytes, max(set_bytes, disk_bytes), "memory: {gigabytes} GB")


def _limit_size(run: Run, disks: Sequence[tuple[int, Disk]]) -> Iterator[Limit]:
    """Limit stores by free inodes and bytes."""
    disk_bytes, files = _grow(disks)
    yield from _limit(run.store_directory.free_inodes, files, "inodes: {held:,} free")
    yield from _limit(run.store_directory.free_bytes, disk_bytes, "free disk: {gigabytes} GB")


def _grow(disks: Sequence[tuple[int, Disk]]) -> tuple[float, float]:
    """Return by how many bytes and files a store grows with each image; 0 without two numbers of images."""
    if len({count for count, _ in disks}) < 2:  # noqa: PLR2004 - no slope
        return 0.0, 0.0
    (few, small), (many, large) = disks[0], disks[-1]
    images = many - few
    return (large.allocated_bytes - small.allocated_bytes) / images, (large.files - small.files) / images


def _limit(held: int | None, each: float, reason: str) -> Iterator[Limit]:
    """Make a limit, unless the run doesn't have it or images don't use it up."""
    if held is not None and each > 0:
        yield Limit(int(held / each), reason.format(held=held, gigabytes=format_number(held / 1e9)))
