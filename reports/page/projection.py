"""What a sweep over numbers of images says of many more images.

A line, y = fixed + each * n, is laid through all that was measured, by least squares of relative residuals: 10 % count
the same at ten images and at 100,000. Neither number may be negative: no call takes less than nothing, and no image.

An interval says where one measurement of so many images would lie, if the line goes on and errors are relative. It is
a factor, the same in both directions: times scatter as ratios, so no bound is below 0, and "half as
long" is as far away as "twice as long". It is as wide as the residuals make it (a prediction with Student's t), and
for times never narrower than two standard deviations of what differs between processes. In simulated sweeps of five
points with log-normal errors it held 93 of 100 where errors were 15 %, 89 where they were 30 %. In two real runs,
fitted up to 10,000 images, it held 29 of 35 measurements at 100,000; all six outside took longer.

It is not a promise. 1,000,000 images are ten times as many as the suite's largest sweep has, 100,000,000 a thousand
times, and no residual knows of what begins past the sweep: a cache that is full, a tree that gets deeper, a
directory that gets slow. `misfit` says how straight the sweep itself was, `Limit` where the line ends for certain.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from reports.noise import UNKNOWN_SCATTER
from reports.run import Axes, Disk, Result, Run, find_stored, group_results
from reports.text import format_number

COUNTS = (1_000_000, 100_000_000)

Quantity = Literal["seconds", "bytes"]
Points = Sequence[tuple[int, float]]  # numbers of images, and what was measured of so many

_OPERATIONS = ("store_many", "read_many")
_FEWEST_COUNTS = 3
_LEAST_WIDTH = {"seconds": 2 * UNKNOWN_SCATTER, "bytes": 0.0}  # as logarithm: two processes write equally many bytes
# Student's t, 97.5 %, for 1, 2, ... degrees of freedom; with more, the last one is a little too wide. NIST/SEMATECH
# e-Handbook of Statistical Methods, 1.3.6.7.2: https://www.itl.nist.gov/div898/handbook/eda/section3/eda3672.htm
_QUANTILES = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)


@dataclass(frozen=True)
class Estimate:
    """What so many images would take, and the bounds of the interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Limit:
    """How many images a machine can hold at most, and what ends there, such as `inodes: 5,000,000 free`."""

    images: int
    reason: str


@dataclass(frozen=True)
class Projection:
    """The line of one backend.

    Attributes
    ----------
    backend : str
    points : int
        How many cells the line was laid through.
    largest : int
        The largest number of images among them.
    fixed, each : float
        What any call takes, and what each image adds; neither is negative. Seconds or bytes.
    misfit : float
        How far the worst point is from the line, as a share of what was measured there.
    estimates : tuple of Estimate
        One for each of `COUNTS`.
    limit : Limit or None
        Past it nothing above is to be believed; None where the run says of no limit.
    """

    backend: str
    points: int
    largest: int
    fixed: float
    each: float
    misfit: float
    estimates: tuple[Estimate, ...]
    limit: Limit | None


@dataclass(frozen=True)
class Sweep:
    """The lines of the backends that may be compared: equal in operation and axes, the least at many images first.

    `quantity` is what was measured: seconds a call, or bytes that a store takes on disk. Backends without three
    different numbers of images are absent: a line goes through any two.
    """

    operation: str
    axes: Axes
    quantity: Quantity
    projections: tuple[Projection, ...]


def project_run(run: Run) -> tuple[Sweep, ...]:
    """Project the sweeps of a run to each of `COUNTS`.

    Returns
    -------
    tuple of Sweep
        Seconds of `store_many` and of `read_many`, one sweep for each of their axes. Then bytes on disk, in one sweep
        without axes: of the buffered stores where there are some, else of the durable ones. Empty ones are absent.
    """
    groups = {group: results for group, results in group_results(run.results).items() if group[0] in _OPERATIONS}
    disks = {
        backend: [(result.images, result.disk) for result in own if result.disk]
        for backend, own in _split_backends(find_stored(groups)).items()
    }
    of_sizes = {backend: list(_limit_size(run, own)) for backend, own in disks.items()}
    of_times = {
        backend: [*_limit_time(run, results, disks.get(backend, ())), *of_sizes.get(backend, ())]
        for backend, results in _split_backends(chain.from_iterable(groups.values())).items()
    }
    sweeps = [
        Sweep(operation, axes, "seconds", _project_all(_list_times(results), "seconds", of_times))
        for (operation, axes), results in groups.items()
    ]
    sizes = {backend: [(count, disk.allocated_bytes) for count, disk in own] for backend, own in disks.items()}
    sweeps.append(Sweep("store_many", (), "bytes", _project_all(sizes, "bytes", of_sizes)))
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
        _project(backend, points, _LEAST_WIDTH[quantity], limits[backend])
        for backend, points in measured.items()
        # Some file systems say that a store takes 0 bytes before it reaches the disk: then nothing is known.
        if len({count for count, _ in points}) >= _FEWEST_COUNTS and all(value for _, value in points)
    ]
    return tuple(sorted(projections, key=lambda projection: projection.estimates[-1].value))


def _project(backend: str, points: Points, width: float, limits: Sequence[Limit]) -> Projection:
    """Lay the line through points of one backend, and follow it."""
    counts, values = np.array(points, np.float64).T
    design = np.column_stack([1 / values, counts / values])  # all that was measured is 1, and residuals are shares
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


def _fit_line(design: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Fit a line without negative parameters; return it, and its covariance where residuals have a variance of 1.

    The covariance is that of the line that may be negative: a parameter that became 0 is not known to be 0.
    """
    scales = np.linalg.norm(design, axis=0)
    inverse = np.linalg.pinv(design / scales) / scales[:, np.newaxis]
    line = inverse.sum(axis=1)
    if line.min() < 0:
        kept = int(line.argmax())
        line = np.zeros(2)
        line[kept] = design[:, kept].sum() / scales[kept] ** 2
    return line, inverse @ inverse.T


def _estimate(
    count: int,
    line: NDArray[np.float64],
    covariance: NDArray[np.float64],
    residuals: NDArray[np.float64],
    width: float,
) -> Estimate:
    """Follow the line to so many images; `width` is the least logarithm of the factor between the value and a bound."""
    place = np.array([1.0, count])
    value = float(place @ line)
    freedom = len(residuals) - len(line)
    variance = float(residuals @ residuals) / freedom
    deviation = math.sqrt(variance * (1 + float(place @ covariance @ place) / value**2))
    quantile = _QUANTILES[min(freedom, len(_QUANTILES)) - 1]
    factor = max(1 + quantile * deviation, math.exp(width))
    return Estimate(value, value / factor, value * factor)


def _limit_time(run: Run, results: Sequence[Result], disks: Sequence[tuple[int, Disk]]) -> Iterator[Limit]:
    """Tell where times end: both operations hold the set in memory, and a larger store is not in the page cache."""
    disk_bytes, _ = _grow(disks)
    set_bytes = max(result.bytes / result.images for result in results)
    yield from _limit(run.memory_bytes, max(set_bytes, disk_bytes), "memory: {gigabytes} GB")


def _limit_size(run: Run, disks: Sequence[tuple[int, Disk]]) -> Iterator[Limit]:
    """Tell where stores end."""
    disk_bytes, files = _grow(disks)
    yield from _limit(run.store_directory.free_inodes, files, "inodes: {held:,} free")
    yield from _limit(run.store_directory.free_bytes, disk_bytes, "free disk: {gigabytes} GB")


def _grow(disks: Sequence[tuple[int, Disk]]) -> tuple[float, float]:
    """Tell by how many bytes and files a store grows with each image, 0 where no two numbers of images tell."""
    if len({count for count, _ in disks}) < 2:  # noqa: PLR2004 - no slope
        return 0.0, 0.0
    (few, small), (many, large) = disks[0], disks[-1]
    images = many - few
    return (large.allocated_bytes - small.allocated_bytes) / images, (large.files - small.files) / images


def _limit(held: int | None, each: float, reason: str) -> Iterator[Limit]:
    """Make a limit; what the run does not say, or no image takes, ends nowhere."""
    if held is not None and each > 0:
        yield Limit(int(held / each), reason.format(held=held, gigabytes=format_number(held / 1e9)))
