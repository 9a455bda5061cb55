"""`python -m storage`: datasets on the command line, checked and converted."""

import argparse
import atexit
import contextlib
import gc
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, TextIO

from .contract import Backend, Labels
from .dataset.conversion import convert
from .dataset.names import find_refused
from .dataset.planning import RefusedError
from .dataset.recovery import recover
from .dataset.replacement import check_target
from .dataset.report import Outcome, Report, check, check_shared, describe
from .errors import (
    CorruptStoreError,
    InvalidInputError,
    StorageError,
    StoreExistsError,
    UnfinishedConversionError,
    reading,
)
from .options import CONVERT, add_cache, add_options, add_workers, check_backend, check_options, is_kept, make_payload
from .paths import join_path
from .registry import PACKAGE, find_backend
from .remote.cache import Cache, cache
from .sources.examination import ExaminedSource, assume, attempt_all, describe_problems, examine
from .sources.files import naming
from .sources.opening import open_source
from .sources.payload import Payload
from .urls import Location, Url, find_location

DAMAGED, UNFINISHED, UNUSABLE, UNWRITTEN, WRONG, INTERRUPTED = 1, 1, 1, 1, 2, 130  # exit codes
OUTCOMES: dict[Outcome, int] = {"whole": 0, "damaged": DAMAGED, "unreadable": WRONG}

_EXAMPLES = f"""\
examples:
  python -m {PACKAGE} check photos.store
  python -m {PACKAGE} convert photos photos.store --backend lmdb
  python -m {PACKAGE} convert photos pixels.store --backend npy --payload=pixels --size=224
  python -m {PACKAGE} convert cifar-10-python.tar.gz cifar10.store --backend hdf5
  python -m {PACKAGE} convert photos.store photos.store --backend tar --overwrite

A dataset is what {PACKAGE}.save or `convert` wrote: a folder with a manifest.json.
Exit codes: 0 fine, 1 damaged or stopped in the middle, 2 wrong usage or input: nothing was done, 130 interrupted.
See also `COMMAND --help`.
"""

_CHECK = """\
Read all of a dataset, list every file and record that is not what was saved, and say how to save the others.
Exit codes: 0 whole, 1 damaged, 2 no dataset, one that can't be read here and now (permissions, another program's lock,
too little memory; nothing damaged was found in the rest), or the list can't be printed.
"""

_RECOVER = """\
Save all images of a dataset that are whole as a new one, with what is known about them. An image whose name is damaged
is named by its index, such as lost-names/00000012; damaged metadata is None. What was damaged is listed in the new one.
Exit codes: 0 saved, 1 nothing is whole, 2 wrong usage or input, or not all can be read here: nothing was written.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand, by default that of the process's command line, and return its exit code."""
    _open_closed_streams()
    options = _make_parser().parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):  # a replaced one may have no encoding to fail with
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _warn
            _find_places(options)
            code: int = options.show(options)
    except StorageError as problem:
        return _fail(problem, UNFINISHED if isinstance(problem, UnfinishedConversionError) else WRONG)
    except KeyboardInterrupt:
        resumes = "; the same command resumes the conversion" if options.show is _convert else ""
        return _fail(f"interrupted{resumes}", INTERRUPTED)
    except OSError as problem:
        return _fail(f"output cannot be written ({problem.strerror})", WRONG)
    return code


class _Parser(argparse.ArgumentParser):
    """Quotes wrong arguments escaped, as all names are."""

    def error(self, message: str) -> NoReturn:
        super().error(escape(message))


def _make_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog=f"python -m {PACKAGE}",
        description="Check datasets, and convert images into them.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    raw = argparse.RawDescriptionHelpFormatter

    checked = commands.add_parser(
        "check", help="read all of a dataset, and list what is damaged", description=_CHECK, formatter_class=raw
    )
    checked.add_argument("path", metavar="PATH", help="the dataset: a path, or a URL such as s3://bucket/photos")
    add_cache(checked)
    add_workers(checked)
    checked.set_defaults(show=_check)

    _add_recover(commands.add_parser("recover", help="save what is whole of a damaged dataset", description=_RECOVER))
    converted = commands.add_parser(
        "convert",
        help="save a store, CIFAR-10 or a folder of images as a dataset",
        description=CONVERT,
        formatter_class=raw,
    )
    add_options(converted)
    converted.set_defaults(show=_convert)
    return parser


def _add_recover(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", metavar="PATH", help="the damaged dataset, which stays as it is: a path, or a URL")
    add_cache(parser)
    parser.add_argument("destination", metavar="DESTINATION", help="where the new dataset will be: a path, or a URL")
    parser.add_argument(
        "--unverified",
        action="store_true",
        help="also save images that can be read, but not verified, as their checksums are damaged",
    )
    parser.set_defaults(show=_recover)


def _find_places(options: argparse.Namespace) -> None:
    """Take paths and URLs apart, and choose the cache."""
    for name in vars(options).keys() & {"path", "source"}:
        setattr(options, name, find_location(getattr(options, name)))
    if options.cache is not None:
        cache(options.cache)


def _check(options: argparse.Namespace) -> int:
    try:
        with _use_cluster(options) as cluster:
            report = _check_elsewhere(cluster, options.path) if cluster else check(options.path)
    except CorruptStoreError as problem:
        return _fail(problem, DAMAGED)
    _print(describe(report))
    return OUTCOMES[report.outcome]


def _check_elsewhere(cluster: Any, path: Location) -> Report:  # noqa: ANN401 - a Cluster
    from .cluster.checking import inspect_elsewhere  # noqa: PLC0415 - optional

    return check_shared(path, partial(inspect_elsewhere, cluster))


def _recover(options: argparse.Namespace) -> int:
    destination = _find_destination(options.path, find_location(options.destination))
    if _is_dataset(destination):
        raise StoreExistsError("it holds a dataset", store=destination, hint="choose another destination")
    try:
        count = recover(options.path, destination, unverified=options.unverified)
    except CorruptStoreError as problem:
        return _fail(problem, DAMAGED)
    images = f"{count:,} image{'' if count == 1 else 's'}"
    return _report_saved(f"{images} saved in {options.destination}, with a list of what was damaged (reader.skipped)")


def _convert(options: argparse.Namespace) -> int:
    backend = find_backend(options.backend)
    payload = make_payload(options, backend)
    destination = _find_destination(options.source, find_location(options.destination))
    if _is_dataset(destination) and not options.overwrite:
        raise StoreExistsError(
            "it holds a dataset", store=destination, hint="choose another destination, or replace it with --overwrite"
        )
    with _use_workers(options) as workers, open_source(options.source, options.class_depth) as found:
        check_options(options, found)
        _print(found.list_left_out())
        is_whole = is_kept(options, found)
        if found.kind == "encoded" and find_refused(found.names or (), backend.check_names):
            is_whole = False
        check_backend(options.backend, backend, found.kind if is_whole else payload.kind)
        payload = replace(payload, losses=tuple({*payload.losses, *found.losses}))  # a dataset has some already
        with naming(options.source):
            source: Any = found if is_whole else None
            if source is None and workers and options.on_error != "skip":
                source = assume(found, payload, backend.check_names)
            finished = None if source is None else _save(source, destination, options, workers)
            if finished is None:
                source = _examine(found, payload, backend, workers)
                if source.problems and (options.on_error != "skip" or not len(source.labels)):
                    return _refuse(source, options)
                finished = _save(source, destination, options, workers)
    first = "" if workers else "the first "
    resumed = f"; an earlier conversion had saved {first}{finished:,}" if finished else ""
    what = _describe_images(source.labels, source.classes)
    saved = f"{what} saved in {options.destination} as {options.backend}{resumed}"
    return _report_saved(saved)


@contextlib.contextmanager
def _use_cluster(options: argparse.Namespace) -> Iterator[Any]:
    """Use the workers that the options choose; None: this process does the work."""
    if options.workers is None and options.dask is None:
        yield None
        return
    from .cluster.workers import connect, start_workers  # noqa: PLC0415 - optional

    kept = None if options.cache is None else Cache.chosen.given
    with start_workers(options.workers, kept) if options.workers else connect(options.dask, kept) as cluster:
        yield cluster


@contextlib.contextmanager
def _use_workers(options: argparse.Namespace) -> Iterator[Any]:
    """Have the work of a conversion done elsewhere; None: this process does it."""
    with _use_cluster(options) as cluster:
        if cluster is None:
            yield None
            return
        from .cluster.conversion import Workers  # noqa: PLC0415 - optional

        yield Workers(cluster, options.source, options.class_depth)


def _save(source: Any, destination: Location, options: argparse.Namespace, workers: Any) -> int | None:  # noqa: ANN401 - an ImageSource, Workers
    """Save all images; return how many were saved before, or None if a file can't be used after all."""
    replacing = {"overwrite": options.overwrite, "lock": options.lock}
    write = partial(workers.write, source) if workers else None
    try:
        with _show_progress("saving") as show:
            return convert(source, destination, options.backend, **replacing, progress=show, write=write)
    except RefusedError:
        return None


def _refuse(source: ExaminedSource, options: argparse.Namespace) -> int:
    """Say how many files can be used."""
    rest = "the others, or leave them out with --on-error=skip" if len(source.labels) else "them"
    reason = f"{len(source.labels):,} of {source.count:,} files can be used, so nothing was written"
    return _fail(f"{options.source}: {reason}: correct {rest}", UNUSABLE)


def _report_saved(saved: str) -> int:
    try:
        _print([saved])
    except OSError as problem:
        return _fail(f"output cannot be written ({problem.strerror}), but all was done: {saved}", UNWRITTEN)
    return 0


def _describe_images(labels: Labels, classes: Sequence[str]) -> str:
    """Say how many images there are, and of what; that all labels are 0 may mean that none were found."""
    images = f"{len(labels):,} image{'' if len(labels) == 1 else 's'}"
    if classes:
        return f"{images} of {len(classes):,} class{'' if len(classes) == 1 else 'es'}"
    return images if labels.any() or not len(labels) else f"{images} without classes, all with label 0,"


def _examine(found: Any, payload: Payload, backend: Backend, workers: Any) -> ExaminedSource:  # noqa: ANN401 - a FileSource, Workers
    """Find out which files can be used; print what is wrong with the others."""
    attempt = workers.attempt if workers else attempt_all
    with _show_progress("checking") as show:
        examined = examine(found, payload, show, backend.check_names, attempt)
    if examined.problems:
        _print(describe_problems(examined))
    return examined


@contextlib.contextmanager
def _show_progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar on a terminal, if tqdm is installed."""
    try:
        from tqdm import tqdm  # noqa: PLC0415 - optional
    except ModuleNotFoundError:
        yield lambda done, total: None  # noqa: ARG005 - as the bar's
        return
    with tqdm(desc=what, unit=" images", unit_scale=True, disable=None) as bar:

        def show(done: int, total: int) -> None:
            if bar.total is None:
                bar.initial, bar.total = done, total
            bar.update(done - bar.n)

        yield show


def _is_dataset(destination: Location) -> bool:
    """Refuse a destination where no dataset may be saved; tell whether there is one, which may be replaced."""
    if not isinstance(destination, Url):
        return check_target(destination, overwrite=True) is not None
    from .remote.prefix import check_prefix  # noqa: PLC0415 - needs obstore

    return check_prefix(destination)


def _find_destination(source: Location, destination: Location) -> Location:
    """Follow links; refuse a destination inside the source or around it."""
    for path in (source, destination):
        if isinstance(path, Path):
            join_path(path, "")  # refuses names that no file can have
    with reading(destination, ValueError):
        one, other = (each if isinstance(each, Url) else Path(os.path.realpath(each)) for each in (source, destination))
    if isinstance(other, Path) and other.is_symlink():
        raise InvalidInputError(
            "it is a link that leads back to itself", store=destination, hint="choose another destination"
        )
    if one in other.parents or other in one.parents:
        raise InvalidInputError(
            f"one of it and {source} is inside the other", store=destination, hint="choose another destination"
        )
    return other


def _open_closed_streams() -> None:
    """Replace closed streams with the null device: else the next open file gets their number, and their output."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), "r+", closefd=False))


def escape(text: str) -> str:
    """Escape what a name could do to a terminal or to the next line: control characters, line breaks, bidi marks."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def _print(lines: Iterable[str]) -> None:
    """Print all lines; if the reader of a pipe leaves early, that changes no exit code."""
    with contextlib.suppress(BrokenPipeError):
        _write(sys.stdout, lines)


def _fail(problem: StorageError | str, code: int) -> int:
    notes = [f"  {note}" for note in getattr(problem, "__notes__", ())]
    with contextlib.suppress(OSError):  # the exit code is still true
        _write(sys.stderr, [f"error: {problem}", *notes])
    return code


def _warn(message: Warning | str, *_: Any, **__: Any) -> None:  # noqa: ANN401 - those of `warnings`
    """Print a warning without the place in the program that it is from."""
    with contextlib.suppress(OSError):
        _write(sys.stderr, [f"warning: {message}"])


def _write(stream: TextIO, lines: Iterable[str]) -> None:
    """Write lines, each escaped; nothing else in this module prints."""
    try:
        stream.write("".join(f"{escape(line)}\n" for line in lines))
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # flushing at exit would fail, with exit code 120
        raise


if __name__ == "__main__":
    atexit.register(gc.freeze)  # what is left isn't searched for cycles, which takes 0.3 s with Dask
    sys.exit(main())
