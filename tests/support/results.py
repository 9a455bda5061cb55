"""Results and runs as typed values, for tests of what is made of them."""

import datetime as dt
from collections.abc import Sequence
from pathlib import Path

from reports.run import Commit, Disk, ImageSet, Machine, Params, Result, Run, StoreDirectory
from tests.support.runs import IMAGE_BYTES

WARM, COLD = (("cache", "warm"),), (("cache", "cold"),)
BUFFERED, DURABLE = (("durability", "buffered"),), (("durability", "durable"),)


def make_result(
    backend: str,
    seconds: float | Sequence[float],
    images: int = 1000,
    *,
    operation: str = "read_many",
    params: Params = WARM,
    disk: tuple[int, int] | None = None,
    store_images: int | None = None,
) -> Result:
    """Make a result: of five rounds alike, or of those given; `disk` is bytes that are allocated, and files."""
    rounds = (seconds,) * 5 if isinstance(seconds, float) else tuple(seconds)
    words = "-".join(f"{value}" for _, value in params)
    holds = images if store_images is None else store_images
    return Result(
        cell=f"benchmarks/test_suite.py::test_{operation}[{backend}-{holds}-{words}]",
        operation=operation,
        backend=backend,
        images=images,
        store_images=holds,
        bytes=images * IMAGE_BYTES,
        params=params,
        rounds=rounds,
        disk=Disk(1, *disk) if disk else None,
        definition="0123456789abcdef",
    )


def make_store(backend: str, seconds: float, size: int, *, images: int = 1000, params: Params = BUFFERED) -> Result:
    return make_result(backend, seconds, images, operation="store_many", params=params, disk=(size, 1))


def wrap_results(*results: Result) -> Run:
    return Run(
        path=Path("run.json"),
        results=results,
        image_set=ImageSet("cifar10", 100_000, "ab12cd34" * 8),
        machine=Machine("AMD EPYC 9654", "Linux", "6.18.44"),
        cpu_count=2,
        store_directory=StoreDirectory("ext4", 80 * 10**9, 10**7),
        libraries={"numpy": "2.4.6"},
        command="python -m pytest benchmarks --benchmark-only",
        intended=tuple(result.cell for result in results),
        failed={},
        skipped={},
        complete=True,
        commit=Commit("0123456789abcdef", dirty=False),
        datetime=dt.datetime(2026, 11, 21, 6, 39, tzinfo=dt.UTC),
        memory_bytes=24 * 2**30,
    )
