"""The matrix of a page: how much more than the best each backend takes in each use, in one state of the controls."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal, NamedTuple

from reports.noise import UNKNOWN_SCATTER
from reports.projection import COUNTS, Projection, Quantity, project_run
from reports.ranking import Rank, rank_sizes, rank_times
from reports.run import ENCODED, Params, Result, Run
from reports.text import count_noun, format_bytes, format_time

SAME_SCORE = 1.1  # scores closer than this factor are as good: the suite calls nothing below 10 % a difference
PROJECTED = COUNTS[0]  # images
_HEATS = 6  # colours of cells that are behind, two for each factor of ten

Standing = Literal["best", "behind", "noisy"]


class Use(NamedTuple):
    """Something a reader may want to do: its name in addresses, its title, what is done as in "2x slower to write"."""

    name: str
    title: str
    to: str
    unit: str
    weight: int  # in a score, unless a reader changes it
    operations: tuple[str, ...]  # that measure it; without any it's a size
    parallel: tuple[str, ...] = ()  # that measure it with all workers

    @property
    def measured(self) -> list[str]:
        """All operations whose cells show how a backend does in this use."""
        return sorted({*self.operations, *self.parallel}) or ["store_many"]


_EPOCHS, _PARALLEL = ("read_epoch_decoded", "read_epoch"), ("read_epoch_decoded", "read_epoch_workers")
USES = (
    Use("train", "Train", "to train", "per image, in shuffled batches", 40, _EPOCHS, _PARALLEL),
    Use("scan", "Scan everything", "to scan", "per image, in order", 20, ("read_many",)),
    Use("disk", "Least disk", "in disk space", "per image", 15, ()),
    Use("write", "Write once", "to write", "per image", 10, ("store_many",)),
    Use("open", "One image", "to open one image", "to open a store and read one", 5, ("read_single",)),
    Use("random", "Random image", "to read one image", "per image, open reader", 5, ("read_open_single",)),
    Use("files", "Few files", "in the number of files", "in a store", 5, ()),
    Use("torch", "PyTorch", "to train with PyTorch", "per image, from a DataLoader", 0, ("read_epoch_dataloader",)),
)


class State(NamedTuple):
    """What the controls choose."""

    images: int
    payload: str  # empty if the run has none
    cache: str
    workers: str

    @property
    def key(self) -> str:
        """The state in one word; the payload comes last, because it may be any text."""
        return f"{self.images}/{self.cache}/{self.workers}/{self.payload}"

    @property
    def is_projected(self) -> bool:
        """Whether so many images weren't measured."""
        return self.images == PROJECTED


@dataclass(frozen=True)
class Cell:
    """A backend in a use: how much more than the best it takes, and whether that is certain."""

    ratio: float
    standing: Standing
    value: float
    text: str  # the value with its unit
    unstable: bool = False
    reason: str = ""  # why the machine can't hold so many images

    @property
    def heat(self) -> int:
        """The colour, by the logarithm of the ratio."""
        return min(_HEATS, 1 + int(2 * math.log10(self.ratio)))


@dataclass(frozen=True)
class Row:
    """A backend in all uses; it has a score only if it was measured in each that has a weight."""

    backend: str
    cells: Mapping[str, Cell]
    score: float | None

    @property
    def firsts(self) -> int:
        """In how many uses no other backend beats it."""
        return sum(cell.standing == "best" for cell in self.cells.values())


@dataclass(frozen=True)
class View:
    """The matrix in one state: a column for each use that was measured, the best backends on top."""

    state: State
    uses: tuple[Use, ...]
    rows: tuple[Row, ...]
    workers: str  # how many read, or how many threads decode, in words

    def list_leaders(self, use: Use) -> list[str]:
        """List the backends that no other beats in a use."""
        return sorted(backend for backend, cell in self.rank(use) if cell.standing == "best")

    def choose_top(self, use: Use) -> list[tuple[str, Cell]]:
        """Choose three backends to show in a use: of those that no other beats, those with the best scores."""
        order = {row.backend: place for place, row in enumerate(self.rows)}
        best = [each for each in self.rank(use) if each[1].standing == "best"]
        others = [each for each in self.rank(use) if each[1].standing != "best"]
        return [*sorted(best, key=lambda each: order[each[0]]), *others][:3]

    def rank(self, use: Use) -> list[tuple[str, Cell]]:
        """List the backends that were measured in a use, the best first."""
        found = [(row.backend, row.cells[use.name]) for row in self.rows if use.name in row.cells]
        return sorted(found, key=lambda each: (each[1].ratio, each[0]))

    @property
    def unmeasured(self) -> list[str]:
        """The titles of uses that have a weight, but no cells."""
        return [use.title for use in USES if use.weight and use not in self.uses]

    @property
    def title(self) -> str:
        """The state in words."""
        projected = "projected" if self.state.is_projected else ""
        facts = (projected, self.state.payload, f"{self.state.cache} cache", self.workers)
        return ", ".join([count_noun(self.state.images, "image"), *filter(None, facts)])


def make_views(run: Run) -> dict[str, View]:
    """Make the matrix of each state that was measured, the default state first."""
    views = []
    for payload, part in run.parts.items():
        name = str(dict(payload).get("payload", ""))
        sweeps = {(sweep.operation, sweep.params, sweep.quantity): sweep.projections for sweep in project_run(part)}
        counts = sorted({result.store_images for result in part.results if result.operation in _OPERATIONS})
        for cache, workers in product(_list_caches(part), _list_workers(part)):
            for images in (*counts, PROJECTED):
                state = State(images, name, cache, workers)
                measured = _project(part, state, sweeps) if state.is_projected else _measure(part, state)
                if any(measured.values()):
                    views.append(_make_view(part, state, measured))
    default = max(views, key=_prefer, default=None)
    ordered = [*([default] if default else []), *(view for view in views if view is not default)]
    return {view.state.key: view for view in ordered}


def make_view(part: Run, state: State) -> View:
    """Make the matrix of a state that was measured; `part` is the run's part of its payload."""
    return _make_view(part, state, _measure(part, state))


_OPERATIONS = {operation for use in USES for operation in use.operations}
_Cells = Mapping[str, Cell]  # by backend
_Sweeps = Mapping[tuple[str, Params, Quantity], Sequence[Projection]]  # by operation, parameters and quantity


def _prefer(view: View) -> tuple[object, ...]:
    """Prefer the state in which most can be compared, with the most images; of several payloads the first."""
    state = view.state
    usual = state.workers == "one", state.cache == "warm", not state.is_projected, state.payload == ENCODED
    return (*usual, sum(len(row.cells) for row in view.rows), state.images)


def _list_caches(run: Run) -> list[str]:
    found = {str(dict(result.params).get("cache", "warm")) for result in run.results}
    return [cache for cache in ("warm", "cold") if cache in found] or ["warm"]


def _list_workers(run: Run) -> list[str]:
    return ["one", *(["all"] if any(_count_workers(result.params) > 1 for result in run.results) else [])]


def _count_workers(params: Params) -> int:
    found = dict(params).get("workers", dict(params).get("threads", 1))
    return found if isinstance(found, int) else 1


def find_results(run: Run, use: Use, state: State) -> Sequence[Result]:
    """Find the cells that measure a use of time in a state, whatever their number of images."""
    for operation in use.parallel if use.parallel and state.workers == "all" else use.operations:
        groups = {
            params: results
            for params, results in run.select_groups(operation).items()
            if dict(params).get("cache", state.cache) == state.cache
        }
        choose = max if state.workers == "all" else min
        if groups:
            return groups[choose(groups, key=_count_workers)]  # of several the first: warm, buffered, forked
    return ()


def _measure(run: Run, state: State) -> dict[str, _Cells]:
    found: dict[str, _Cells] = {}
    for use in USES:
        if use.operations:
            results = [each for each in find_results(run, use, state) if each.store_images == state.images]
            found[use.name] = _compare_times(results)
    stored = {result.backend: result for result in run.stored if result.images == state.images and result.disk}
    bytes_, files = (
        {name: value for name, each in stored.items() if each.disk and (value := measure(each))}
        for measure in (_measure_bytes, _measure_files)
    )
    found["disk"] = _compare_sizes(bytes_, format_bytes)
    found["files"] = _compare_sizes(files, lambda number: count_noun(round(number), "file"))
    return found


def _measure_bytes(result: Result) -> float:
    return result.disk.allocated_bytes / result.images if result.disk else 0


def _measure_files(result: Result) -> float:
    return result.disk.files if result.disk else 0


def _compare_times(results: Sequence[Result]) -> _Cells:
    own = {result.backend: result for result in results}
    return {
        rank.backend: Cell(
            rank.ratio,
            _judge(rank),
            value := rank.value / own[rank.backend].images,
            format_time(value),
            own[rank.backend].unstable,
        )
        for rank in (rank_times(own.values()) if own else ())
    }


def _judge(rank: Rank) -> Standing:
    if rank.tier:
        return "behind"
    return "noisy" if rank.noisy else "best"


def _compare_sizes(sizes: Mapping[str, float], form: Callable[[float], str]) -> _Cells:
    return {rank.backend: Cell(rank.ratio, _judge(rank), rank.value, form(rank.value)) for rank in rank_sizes(sizes)}


def _project(run: Run, state: State, sweeps: _Sweeps) -> dict[str, _Cells]:
    """Project what a line was fitted to; a use of which it wasn't has no cells."""
    found = {}
    for use in USES:
        results = find_results(run, use, state)
        if results:
            lines = sweeps.get((results[0].operation, results[0].params, "seconds"), ())
            found[use.name] = _compare_projections(lines, format_time)
    payload = next(iter(run.parts))
    found["disk"] = _compare_projections(sweeps.get(("store_many", payload, "bytes"), ()), format_bytes)
    return found


def _compare_projections(lines: Sequence[Projection], form: Callable[[float], str]) -> _Cells:
    """Compare projections: a backend is behind if its interval is above that of the best one."""
    if not lines:
        return {}
    best = min((line.estimates[0] for line in lines), key=lambda estimate: estimate.value)
    cells = {}
    for line in lines:
        own, limit = line.estimates[0], line.limit
        ratio = own.value / best.value
        close: Standing = "best" if ratio <= math.exp(UNKNOWN_SCATTER) else "noisy"
        value = own.value / PROJECTED
        reason = limit.reason if limit and limit.images < PROJECTED else ""
        cells[line.backend] = Cell(ratio, "behind" if own.low > best.high else close, value, form(value), reason=reason)
    return cells


def _make_view(run: Run, state: State, measured: Mapping[str, _Cells]) -> View:
    uses = tuple(use for use in USES if measured.get(use.name))
    backends = sorted({backend for cells in measured.values() for backend in cells})
    rows = []
    for backend in backends:
        cells = {use.name: measured[use.name][backend] for use in uses if backend in measured[use.name]}
        rows.append(Row(backend, cells, _score(uses, cells)))
    order = sorted(rows, key=lambda row: (row.score is None, row.score or 0, row.backend))
    return View(state, uses, tuple(order), _name_workers(run, state))


def _name_workers(run: Run, state: State) -> str:
    params = next((dict(result.params) for result in find_results(run, USES[0], state)), {})
    if "threads" in params:
        threads = count_noun(_count_workers(tuple(params.items())), "thread")
        return f"decoded by {threads} to train"
    return {"one": "one worker", "all": "all workers"}[state.workers]


def _score(uses: Sequence[Use], cells: _Cells) -> float | None:
    """Average the ratios of a backend geometrically, by weight; None if one with a weight is missing."""
    weighted = [use for use in uses if use.weight]
    total = sum(use.weight for use in weighted)
    if not total or any(use.name not in cells for use in weighted):
        return None
    return math.exp(sum(use.weight * math.log(cells[use.name].ratio) for use in weighted) / total)
