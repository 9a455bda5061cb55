"""A session besides its cells: the code behind the hooks of conftest.py.

This module, `benchmarks.baseline` and `benchmarks.ending` are the only ones of `benchmarks` that use `reports`.
"""

import gc
import itertools
import os
import shlex
import stat
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from pytest_benchmark.storage.file import FileStorage
from pytest_benchmark.utils import safe_dumps

from benchmarks.baseline import check_baselines, compare_now, describe_now, name_baseline, read_base, refuse_base
from benchmarks.directories import STORES
from benchmarks.options import (
    BASELINE_REPLICATES,
    DEFAULT_CUTOFFS,
    PAYLOADS,
    PIXELS,
    SEAWEEDFS,
    Options,
    choose_backends,
    choose_cutoffs,
    count_images,
    explain_kinds,
    leave_out,
    read_options,
)
from benchmarks.progress import Progress
from benchmarks.remote import CONCURRENCY, OPTIONS, refuse_prefix
from benchmarks.replicates import FOLDER, PASSES, measure_replicate
from benchmarks.run_info import THRESHOLD_MARKER, Outcomes, count_processors, describe_run, round_to_clock
from benchmarks.tables import check_cells, check_options, list_given
from benchmarks.workers import START_METHODS, choose_counts
from fixtures.image_set import COUNT, IMAGES, DoubledImages, SessionImages, find_origin
from reports.compare.comparison import Row, choose_cells
from reports.errors import WrongInputError
from reports.files import remove_abandoned, replace_file
from reports.page.command import check_place
from reports.run import Run
from reports.text import count_noun, escape_name

RUNS = "file://./reports/runs"  # as in pyproject.toml
RUN, BENCHMARKS = "run", "benchmarks"  # the name of a run's file gets a number in front
KINDS_MARKER = "kinds(*kinds): which image sets a benchmark or test of backends is about, pixels by default, or encoded"
CELL = ("backend", "cutoff", "payload")  # parameters, as ids name them
PHOTO_ROUNDS = {"--benchmark-max-time": "0.05", "--benchmark-min-rounds": "3"}  # photos have twice as many cells
STANDIN_IMAGES = 1_000
PATIENCE = 0.125  # of the session's time, for cells that are noisy but don't look slower
START = 2.0  # seconds that a further process takes to start
NO_REFERENCES = (
    "the cells that measure the machine were left out: add benchmarks/test_reference.py to the paths, "
    "or 'or reference' to the expression of -k"
)
CUTOFFS_MARKER = "default_cutoffs(*images): the cutoffs of a benchmark unless --cutoffs names others"


@dataclass
class Session:
    """The state of a session.

    `base` is the run to compare with, and `expected` describes this session's run before it is saved. `replicates` are
    the rounds by cell of each process but the first, and `wanted` is how many of them cover all cells; `started` is
    when the first process began to measure. `durations` are the seconds that it took for each cell.
    `baseline` is the file of the baseline to save.

    `saved` is the file of the run, and `saved_complete` says whether the run is complete; both are None if none was
    saved. `rescued` says which files couldn't be written, and where their content is. `answer` (a title and text),
    `regressions` (of --benchmark-compare-fail), `verdicts` and `page` are what to print at the end, if anything.
    """

    options: Options
    base: Run | None
    wanted: int
    baseline: Path | None = None
    expected: Run | None = None
    started: float = 0.0
    replicates: list[dict[str, list[float]]] = field(default_factory=list)
    outcomes: Outcomes = field(default_factory=Outcomes)
    durations: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    progress: Progress = field(default_factory=lambda: Progress({}))
    saved: Path | None = None
    saved_complete: bool | None = None
    rescued: list[str] = field(default_factory=list)
    answer: tuple[str, str] | None = None
    regressions: list[str] = field(default_factory=list)
    verdicts: str = ""
    page: str = ""


SESSION = pytest.StashKey[Session]()


def configure(config: pytest.Config) -> None:
    """Check the options, and adjust those of pytest-benchmark before it reads them."""
    check_options(config)
    check_baselines(config)
    options = read_options(config)
    images = find_images(options)
    options = leave_out(options, images)
    baseline, replicates = name_baseline(config), config.option.replicates
    config.option.benchmark_json = baseline or config.option.benchmark_json
    wanted = (replicates or (BASELINE_REPLICATES if baseline else 1)) - 1
    session = Session(options, _read_base(config), wanted, baseline)
    config.stash[SESSION], config.stash[OPTIONS] = session, options
    config.stash[IMAGES] = images
    config.stash[COUNT] = count_images(options, images.available)
    for marker in (CUTOFFS_MARKER, KINDS_MARKER, THRESHOLD_MARKER):
        config.addinivalue_line("markers", marker)
    if config.option.benchmark_storage == RUNS:  # relative to the folder in which pytest was started
        config.option.benchmark_storage = f"file://{config.rootpath / RUNS.removeprefix('file://./')}"
    if options.images:
        limit_rounds(config)
    if config.option.benchmark_only or baseline:
        config.option.benchmark_autosave = RUN
        config.option.verbose = config.option.verbose or 1  # one line per cell, with how many are done
        if config.args_source is pytest.Config.ArgsSource.TESTPATHS:  # which are those of the tests
            config.args, config.args_source = [BENCHMARKS], pytest.Config.ArgsSource.ARGS


def limit_rounds(config: pytest.Config) -> None:
    """Measure fewer and shorter rounds of somebody's images, unless the command line says how many."""
    for option in PHOTO_ROUNDS.keys() - list_given(config):
        name = option.removeprefix("--").replace("-", "_")
        setattr(config.option, name, type(getattr(config.option, name))(PHOTO_ROUNDS[option]))


def find_images(options: Options) -> SessionImages:
    """Find the images that a session measures; examine them if they are somebody's own."""
    try:
        if not options.images:
            return DoubledImages(find_origin(options.cifar10))
        from fixtures.photos import make_standin  # noqa: PLC0415 - few sessions need it
        from fixtures.source import sample_source  # noqa: PLC0415 - as above

        if options.images == "standin":
            return make_standin(max(options.cutoffs or (STANDIN_IMAGES,)), options.size, options.payloads)
        return sample_source(Path(options.images).expanduser(), options.size, options.payloads)
    except (OSError, ValueError, RuntimeError) as error:
        raise pytest.UsageError(escape_name(f"{'images' if options.images else 'cifar10'}: {error}")) from error


def _read_base(config: pytest.Config) -> Run | None:
    """Read the run to compare with, and check that the page replaces neither it nor another file."""
    base, page = read_base(config), config.option.page
    if page:
        try:
            check_place(page, [run for run in (base and base.path, config.option.benchmark_json) if run])
        except (WrongInputError, OSError) as error:
            raise pytest.UsageError(f"page: {error}") from error
    return base


def describe_session(config: pytest.Config) -> list[str]:
    """Describe the images of this session and the backends that are missing, for pytest's header."""
    images = config.stash[IMAGES].list_facts(config.stash[COUNT])
    options = config.stash[SESSION].options
    lines = [*images, *_describe_decoder()]
    if not find_spec("torch"):
        lines.append("no read_epoch_dataloader: PyTorch is not installed: python -m pip install torch")
    lines += [f"no backend {name}: {reason}" for name, reason in options.unavailable.items()]
    for payload in options.payloads:
        without = set(choose_backends(options.backends, PAYLOADS)) - set(choose_backends(options.backends, (payload,)))
        if names := sorted(without - options.unavailable.keys()):
            lines.append(f"no cells of {payload}: {', '.join(names)} ({explain_kinds((payload,))})")
    return [escape_name(line) for line in lines]


def _describe_decoder() -> list[str]:
    """Say what decodes JPEG files if it isn't simplejpeg."""
    if find_spec("simplejpeg"):
        return []
    return ["no simplejpeg: Pillow decodes JPEG files, and corruption that libjpeg only warns about isn't noticed"]


def parametrize(metafunc: pytest.Metafunc) -> None:
    """Make the cells of a benchmark, one for each value of the parameters that it takes."""
    options, images = metafunc.config.stash[SESSION].options, metafunc.config.stash[IMAGES]
    marker = metafunc.definition.get_closest_marker("default_cutoffs")
    kinds = metafunc.definition.get_closest_marker("kinds")
    accepted = kinds.args if kinds and "remote_cell" not in metafunc.fixturenames else PIXELS  # without payloads
    cutoffs = choose_cutoffs(options, images.available, marker.args if marker else DEFAULT_CUTOFFS)
    if {"workers", "threads", "dataset", "remote_cell"} & set(metafunc.fixturenames):
        cutoffs = (max(cutoffs),)  # few images show neither the effect of workers nor the cost of verification
    parameters: dict[str, tuple[str | int, ...]] = {
        "backend": choose_backends(options.backends, accepted),
        "cutoff": cutoffs,
        "durability": options.durabilities,
        "workers": (0, *choose_counts()) if "torch" in metafunc.fixturenames else choose_counts(),
        "threads": tuple(dict.fromkeys((1, count_processors()))),
        "start": START_METHODS[:1] if images.payloads else START_METHODS,  # what starting takes is known of CIFAR-10
        "cache": options.caches,
        "server": (options.server,) if options.server else (),
        "latency": (options.latency,),
        "concurrency": CONCURRENCY,
    }
    if "photos" in metafunc.fixturenames or (images.payloads and "image_set" in metafunc.fixturenames):
        payloads = [payload for payload in images.payloads if not kinds or payload in kinds.args]
        parametrize_payloads(metafunc, options.backends, cutoffs, payloads)
        del parameters["backend"], parameters["cutoff"]
    if "torch" in metafunc.fixturenames and not find_spec("torch"):
        parameters["workers"] = ()
    for name, values in parameters.items():
        if name in metafunc.fixturenames:
            metafunc.parametrize(name, values, ids=[name_value(name, value) for value in values])


def name_value(name: str, value: str | int) -> Any:  # noqa: ANN401 - what hides it has no type
    """Name the value of a parameter as ids do; its usual value is hidden."""
    if value in {"buffered", "warm"} or (name, value) == ("latency", 0):
        return pytest.HIDDEN_PARAM
    return f"{value}ms" if name == "latency" else str(value)


def parametrize_payloads(
    metafunc: pytest.Metafunc, backends: Sequence[str], cutoffs: Sequence[int], payloads: Sequence[str]
) -> None:
    """Make the cells of each payload that a backend accepts; their ids end with its name."""
    accepting = {payload: choose_backends(backends, (payload,)) for payload in payloads}
    places = [place for place, name in enumerate(CELL) if name in metafunc.fixturenames]
    cells = [
        tuple(cell[place] for place in places)
        for cell in itertools.product(backends, cutoffs, payloads)
        if cell[0] in accepting[cell[2]]
    ]
    values = list(dict.fromkeys(cells))
    ids = ["-".join(map(str, cell)) for cell in values]
    metafunc.parametrize([CELL[place] for place in places], values, ids=ids)


def select_cells(items: Iterable[pytest.Item]) -> list[pytest.Item]:
    """Leave out the placeholders of benchmarks that have no cells in this session."""
    return [item for item in items if not is_placeholder(item)]


def is_placeholder(item: pytest.Item) -> bool:
    """Whether pytest made this for a benchmark without values of a parameter."""
    values = item.callspec.params.values() if hasattr(item, "callspec") else ()
    return "benchmark" in getattr(item, "fixturenames", ()) and not all(isinstance(each, str | int) for each in values)


def spread_references(items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """Spread the reference cells evenly over the others: the machine's speed changes within a session."""
    references = [item for item in items if is_reference(item)]
    others = [item for item in items if not is_reference(item)]
    spread: list[pytest.Item] = []
    for number, reference in enumerate(references):
        start, end = (len(others) * place // len(references) for place in (number, number + 1))
        spread += [reference, *others[start:end]]
    return spread or others


def is_reference(item: pytest.Item) -> bool:
    """Whether a cell measures the machine, not a backend."""
    return "reference" in getattr(item, "fixturenames", ())


def start_measuring(config: pytest.Config, items: Sequence[pytest.Item]) -> None:
    """Note which cells will be measured; exit if the run can't be saved, or not be compared with the base."""
    gc.collect()
    gc.freeze()  # collecting what the session keeps would take 40 ms before each cell instead of 1
    session = config.stash[SESSION]
    selected = select_cells(items)  # once more: nothing was left out if a -k expression is wrong
    cells = [item for item in selected if "benchmark" in getattr(item, "fixturenames", ())]
    session.outcomes.intended = [item.nodeid for item in cells]
    session.progress = Progress({item.nodeid: count_cutoff(item) for item in cells})
    if cells and not config.option.collectonly:
        needs_references = session.baseline is not None or (session.base is not None and session.base.references)
        if needs_references and not any(map(is_reference, cells)):
            pytest.exit(NO_REFERENCES, returncode=4)
        _check_prefix(session.options, cells)
        _prepare_saving(config, cells)
        if not config.option.basetemp:  # pytest keeps what a killed session left for three days
            temporary = Path(os.environ.get("PYTEST_DEBUG_TEMPROOT") or tempfile.gettempdir())
            for name in ("stores", FOLDER):
                remove_abandoned(temporary.glob(f"pytest-of-*/pytest-*/{name}"))
    if session.base is not None and cells:
        session.expected = describe_now(config, session.base, cells)
        if problem := refuse_base(config, session.base, session.expected):
            pytest.exit(problem, returncode=3)
    session.started = time.monotonic()


def _check_prefix(options: Options, cells: Iterable[pytest.Item]) -> None:
    """Exit if cells are to be measured in a bucket, and there is something below its URL."""
    needed = any("remote_cell" in getattr(cell, "fixturenames", ()) for cell in cells)
    if needed and options.remote != SEAWEEDFS and (problem := refuse_prefix(options.remote)):
        pytest.exit(escape_name(problem), returncode=4)


def measure_again(pytest_session: pytest.Session) -> None:
    """Measure replicates of all cells, as many as wanted; then those cells again that the comparison can't decide."""
    config = pytest_session.config
    session, plugin = config.stash[SESSION], config.pluginmanager.getplugin("pytest-benchmark")
    seconds = time.monotonic() - session.started
    first = {each.fullname: round_to_clock(each.stats.data) for each in plugin.benchmarks if not each.has_error}
    if not first or first.keys() != set(session.outcomes.intended):
        return
    while len(session.replicates) < session.wanted:
        if not _measure_replicate(pytest_session, list(first), f"of {session.wanted + 1}, all cells"):
            return
    if session.base is not None:
        _decide(pytest_session, session.base, first, seconds)


def _decide(pytest_session: pytest.Session, base: Run, first: dict[str, list[float]], seconds: float) -> None:
    """Measure cells again until the comparison with the base is decided, or the time is over.

    `seconds` is how long the first process took: cells that don't look slower may take a fraction of that.
    """
    config, start = pytest_session.config, time.monotonic()
    session, budget, expected = config.stash[SESSION], float(config.option.budget), config.stash[SESSION].expected
    if expected is None:
        return
    references = [each.cell for each in base.references if each.cell in first]
    costs = estimate_costs(session.durations, first)
    affordable = min(budget, seconds * PATIENCE) - START - sum(costs[cell] for cell in references)

    def judge() -> tuple[Row, ...]:
        return compare_now(config, base, expected, first, session.replicates).rows

    def select(rows: Sequence[Row]) -> list[str]:
        passed = time.monotonic() - start
        suspects = [row.cell for row in rows if row.suspect and passed < budget]
        others = {row.cell: costs[row.cell] for row in rows if not row.suspect}
        return suspects + choose_cheap(others, affordable - passed)

    for cells in choose_cells(judge, 1 + len(session.replicates), select):
        words = f"for {count_noun(len(cells), 'cell')} that the comparison can't decide yet"
        if not _measure_replicate(pytest_session, [*cells, *references], words):
            return


def estimate_costs(durations: Mapping[str, float], rounds: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Estimate what a further process takes for each cell: as long for its rounds, and for all else once a pass."""
    return {cell: PASSES * durations[cell] - (PASSES - 1) * sum(seconds) for cell, seconds in rounds.items()}


def choose_cheap(costs: Mapping[str, float], seconds: float) -> list[str]:
    """Choose the cells that cost least, as many as these seconds suffice for."""
    cells = sorted(costs, key=costs.__getitem__)
    totals = itertools.accumulate(costs[cell] for cell in cells)
    return [cell for cell, total in zip(cells, totals, strict=True) if total <= seconds]


def _measure_replicate(pytest_session: pytest.Session, cells: Sequence[str], words: str) -> bool:
    """Measure cells in a fresh process; return False if one failed, which makes the run incomplete."""
    config = pytest_session.config
    session, number = config.stash[SESSION], len(config.stash[SESSION].replicates) + 2
    terminal = config.pluginmanager.getplugin("terminalreporter")
    terminal.ensure_newline()
    terminal.write_line(f"process {number} {words}")
    replicate = measure_replicate(config, session.options, cells)
    session.replicates.append(replicate.rounds)
    for cell, reason in replicate.failed.items():
        session.outcomes.failed[cell] = f"in process {number}: {reason}"
        terminal.write_line(escape_name(f"{cell} failed in process {number}: {reason}"))
    pytest_session.testsfailed += len(replicate.failed)
    return not replicate.failed


def _prepare_saving(config: pytest.Config, cells: Sequence[pytest.Item]) -> None:
    """Check that the run can be saved, and have pytest-benchmark, which has no hook for that, save it safely."""
    plugin = config.pluginmanager.getplugin("pytest-benchmark")
    if plugin.disabled or plugin.skip:
        return
    check_cells(plugin, cells)
    if not plugin.json:
        plugin.autosave = plugin.autosave or RUN
    if plugin.json:
        _check_file(plugin.json)
        _check_folder(plugin.json.parent, "the run", "--benchmark-json=FILE")
        plugin.save_json = lambda document: _save_json(config, document, plugin.json)
    if config.option.page:
        _check_folder(config.option.page.parent, "the page", "--page=FILE")
    files: Any = plugin.storage
    if (plugin.save or plugin.autosave) and isinstance(files, FileStorage):
        _check_folder(files.get("run.json").parent, "the run", "--benchmark-storage=file:///FOLDER", make=True)
        plugin.storage.save = lambda document, name: _save_run(config, document, lambda: _reserve_file(files, name))


def _check_file(path: Path) -> None:
    """Check that a run can be saved as this file, if its folder can be written."""
    try:
        ordinary = stat.S_ISREG(path.stat().st_mode)
    except FileNotFoundError:
        return
    except OSError as error:
        message = f"the run can't be saved as {path} ({error.strerror}): name another --benchmark-json"
        raise pytest.UsageError(escape_name(message)) from error
    if not ordinary:
        raise pytest.UsageError(f"{escape_name(path)} isn't an ordinary file: name another --benchmark-json")


def _save_json(config: pytest.Config, document: dict[str, Any], path: Path) -> None:
    """Save a run in the file that the user named; a baseline is replaced only by a complete run."""
    session = config.stash[SESSION]
    if session.baseline is not None and not document["run"]["complete"]:
        session.rescued.append(f"baseline {path.stem} not saved: the run is incomplete")
        session.baseline = None
    elif not _save_run(config, document, lambda: path):
        session.baseline = None


def _check_folder(folder: Path, content: str, option: str, *, make: bool = False) -> None:
    """Check that a file can be written in a folder; `make` the folder if there is none."""
    try:
        if make:
            folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        message = f"{content} can't be saved in {folder} ({error.strerror}): choose another place with {option}"
        raise pytest.UsageError(escape_name(message)) from error


def _reserve_file(files: FileStorage, name: str) -> Path:
    """Create the empty file of a run, with the next number that no other session has."""
    for number in itertools.count(int(files._next_num)):  # noqa: SLF001 - there is no other way to ask for it
        path = Path(files.get(f"{number:04}_{name}.json"))
        with suppress(FileExistsError):
            path.touch(exist_ok=False)
            break
    return path


def _save_run(config: pytest.Config, document: dict[str, Any], find_path: Callable[[], Path]) -> bool:
    """Save a run where it belongs; if that fails, in a temporary folder. Return whether it is where it belongs."""
    session, path = config.stash[SESSION], None
    content = safe_dumps(document, ensure_ascii=True, separators=(",", ":"))  # most of an indented run is blanks
    try:
        path = find_path()
        replace_file(path, content)
    except OSError as error:
        if path is not None and path.is_file() and not path.stat().st_size:
            path.unlink(missing_ok=True)  # the reserved file
        wanted = error.filename or path
        path = _rescue_run(content)
        session.rescued.append(f"the run can't be saved as {wanted} ({error.strerror}): it is in {path}")
        session.saved = path
        return False
    session.saved = path
    return True


def _rescue_run(content: str) -> Path | None:
    """Save a run in the first folder that accepts it; where none does, print it."""
    for find in (tempfile.gettempdir, Path.home, Path.cwd):
        with suppress(OSError, RuntimeError):  # there may be no home
            path = Path(tempfile.mkdtemp(prefix="run-", dir=find())) / "run.json"
            replace_file(path, content)
            return path
    print(content)  # noqa: T201 - the last way to keep it
    return None


def count_cutoff(item: pytest.Item) -> int:
    """Count the images of a cell; 0 if it has none."""
    return int(item.callspec.params.get("cutoff", 0)) if hasattr(item, "callspec") else 0


def describe_status(config: pytest.Config, report: pytest.TestReport) -> tuple[str, str, str] | None:
    """Add to the line of a cell how long the rest of the session takes; None leaves the line as it is."""
    if report.when != "call" or not report.passed or not config.option.benchmark_only:
        return None
    return "passed", ".", f"PASSED, {config.stash[SESSION].progress.describe()}"


def note_outcome(item: pytest.Item, call: pytest.CallInfo[None], report: pytest.TestReport) -> None:
    """Note how long a cell took, and why it wasn't measured."""
    session = item.config.stash[SESSION]
    outcomes = session.outcomes
    session.progress.note(item.nodeid, report.duration)
    session.durations[item.nodeid] += report.duration
    if call.excinfo is not None and item.nodeid in outcomes.intended:
        reasons = outcomes.skipped if report.skipped else outcomes.failed
        reasons[item.nodeid] = call.excinfo.exconly().partition("\n")[0]


def complete_json(config: pytest.Config, output: dict[str, Any]) -> None:
    """Add the suite's own facts to the JSON of a run, and round times to what the clock can resolve."""
    for stats in (each["stats"] for each in output["benchmarks"]):
        if "data" in stats:  # a new list, because the session's tables are made from the old one
            stats["data"] = round_to_clock(stats["data"])
    session, images = config.stash[SESSION], config.stash[IMAGES]
    output["run"] = describe_run(
        outcomes=session.outcomes,
        cells=output["benchmarks"],
        images={"name": images.name, "count": config.stash[COUNT], "sha256": images.sha256, **images.describe()},
        stores=config.stash[STORES],
        command=shlex.join(["python", "-m", "pytest", *config.invocation_params.args]),
        unavailable=session.options.unavailable,
    )
    output["run"]["replicates"] = session.replicates
    output["run"]["complete"] &= len(session.replicates) >= session.wanted
    session.saved_complete = output["run"]["complete"]
