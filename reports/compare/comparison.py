"""Two runs, cell by cell: whether they can be compared, and which cells are slower."""

import math
import statistics
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from reports.compare.statistics import Drift, Evidence, Process, weigh_cells
from reports.noise import MISSED, Thresholds, Verdict
from reports.run import Result, Run
from reports.text import name_cell, shorten_text

LOOKS = (1, 2, 4, 8, 16)  # numbers of new processes after which a session decides what to measure again
DECISIVE = LOOKS[-2:]  # of these, those after which a session calls a cell slower
MAX_FACTOR = 100  # a wider interval says nothing
_MAX_NAMES = 5  # in a message

ALLOWED = ("libraries",)  # what may differ if the user says so


@dataclass(frozen=True)
class Row:
    """One cell in both runs: seconds of the fastest round of a usual process, and their ratio without drift.

    `low` and `high` are the lowest and the highest value that the ratio may have.

    A `suspect` has a ratio that would be a slowdown if only it were certain. A cell is `open` if more processes of the
    new run may decide it; that it is slower isn't decided by few. `detectable` is the slowdown, as ratio, from which on
    it would be a regression.
    """

    cell: str
    base: float
    new: float
    ratio: float
    low: float
    high: float
    verdict: Verdict
    suspect: bool
    open: bool
    detectable: float
    processes: tuple[int, int]
    spreads: tuple[float, float]  # the slowest process / the fastest one, of each run

    @property
    def noisy(self) -> bool:
        """Whether the interval is too wide to be worth showing."""
        return self.high > MAX_FACTOR or self.low < 1 / MAX_FACTOR


@dataclass(frozen=True)
class Comparison:
    """Two runs: why they can't be compared, or a row for each cell of both, and the cells that only one has.

    `absent` says why cells of the new run weren't measured; none of them has a row.
    """

    base: Run
    new: Run
    differences: tuple[str, ...]
    rows: tuple[Row, ...]
    missing: tuple[Result, ...]
    added: tuple[Result, ...]
    threshold: float = Thresholds.threshold
    drift: Drift | None = None
    allowed: tuple[str, ...] = ()  # differences that the user allowed
    absent: Mapping[str, str] = field(default_factory=dict)

    @property
    def counts(self) -> dict[Verdict, int]:
        """How many cells have which verdict."""
        counts: Counter[Verdict] = Counter(row.verdict for row in self.rows)
        counts["missing"], counts["not measured"], counts["new"] = map(len, (self.missing, self.absent, self.added))
        return counts

    @property
    def doubt(self) -> str:
        """What is added to each verdict."""
        return " (other libraries)" if self.allowed else ""

    def select_rows(self, verdict: Verdict) -> tuple[Row, ...]:
        """Select the rows with one verdict, in the order of the run."""
        return tuple(row for row in self.rows if row.verdict == verdict)

    def choose_exit_code(self, missing: str) -> int:
        """Choose the exit code: 0 fine, 1 a regression or a missing cell, 3 not comparable or a cell not measured.

        With `missing` as ``warn``, not ``fail``, a missing cell is fine.
        """
        if not self.differences and (self.select_rows("regression") or (self.missing and missing == "fail")):
            return 1
        return 3 if self.differences or self.absent else 0


def compare_runs(base: Run, new: Run, threshold: float, allow: Collection[str] = ()) -> Comparison:
    """Compare two runs; without rows if they can't be compared.

    `threshold` is the fraction by which a cell must be slower to be a regression, unless its benchmark sets its own.
    Differences that `allow` names don't prevent the comparison.
    """
    differences, allowed = find_differences(base, new), []
    if "libraries" in allow:
        allowed = find_other_libraries(base, new)
        differences = [each for each in differences if each not in allowed]
    absent = new.unmeasured
    before, after = ({each.cell: each for each in run.results if each.cell not in absent} for run in (base, new))
    references = {each.cell for run in (base, new) for each in run.references}
    own = {result.cell: Thresholds(threshold).widen(result.threshold) for result in new.results}
    rows: tuple[Row, ...] = ()
    drift = None
    measured = _leave_out(new.processes, absent)
    if measured and not differences:
        rows, drift = judge_cells(base.processes, measured, references, own, base.parallel)
    return Comparison(
        base=base,
        new=new,
        differences=tuple(differences),
        rows=rows,
        missing=tuple(result for cell, result in before.items() if cell not in after),
        added=tuple(result for cell, result in after.items() if cell not in before),
        threshold=threshold,
        drift=drift,
        allowed=tuple(allowed),
        absent=absent,
    )


def _leave_out(processes: Iterable[Process], cells: Collection[str]) -> list[Process]:
    """Leave out cells, and processes that measured no other."""
    kept = ({cell: each for cell, each in process.items() if cell not in cells} for process in processes)
    return [process for process in kept if process]


def judge_cells(
    base: Sequence[Process],
    new: Sequence[Process],
    references: Collection[str],
    thresholds: Mapping[str, Thresholds],
    parallel: Collection[str] = (),
) -> tuple[tuple[Row, ...], Drift | None]:
    """Judge the cells that processes of both runs have, and estimate the drift between them."""
    evidence = weigh_cells(base, new, references, parallel)
    levels = _choose_levels(len(evidence))
    rows = tuple(_make_row(cell, each, levels, thresholds[cell]) for cell, each in evidence.items())
    return rows, next((each.drift for each in evidence.values()), None)


def choose_cells(
    judge: Callable[[], Iterable[Row]], processes: int, select: Callable[[Sequence[Row]], list[str]]
) -> Iterator[list[str]]:
    """Yield the cells that each further process of the new run should measure, until all are decided.

    `judge` judges what `processes` and those that followed have measured. Of the cells that are open, `select` selects
    those for which there is time; if there are none, all are left as they are.
    """
    for look in (each for each in LOOKS if each > processes):
        rows = [row for row in judge() if row.open]
        while processes < look:
            cells = select(rows)
            if not cells:
                return
            yield cells
            processes += 1


def _choose_levels(cells: int) -> tuple[float, float]:
    """Choose how often one test may err: in calling one of so many cells slower, or a slower one ok."""
    return Thresholds.alpha / len(DECISIVE) / max(cells, 1), MISSED / len(LOOKS)


def find_differences(base: Run, new: Run) -> list[str]:
    """List why two runs can't be compared, a line each; empty if they can. Text from the runs is made harmless.

    Free space, paths, the length of the measurement and the choice of cells aren't differences.
    """
    runs = {"base": base, "new run": new}
    words = ["the base is incomplete: repeat it"] if not base.complete else []
    words += ["the new run was interrupted: repeat it"] if new.interrupted else []
    words += [
        f"the {name} was made before cells had definitions: repeat it"
        for name, run in runs.items()
        if any(result.definition is None for result in run.results)
    ]
    words += _find_other_facts(_list_facts(base), _list_facts(new))
    return words + find_other_libraries(base, new) + _find_other_cells(base, new)


def find_other_libraries(base: Run, new: Run) -> list[str]:
    """List the libraries whose versions differ, a line each."""
    before, after = ({f"version of {name}": each for name, each in run.libraries.items()} for run in (base, new))
    if _list_operations(base) != _list_operations(new):  # each brings its own libraries
        before, after = ({name: facts[name] for name in before if name in after} for facts in (before, after))
    return _find_other_facts(before, after)


def _find_other_facts(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    words = []
    for name in {**before, **after}:
        fact, old, now = (shorten_text(text, 120) for text in (name, before.get(name, "none"), after.get(name, "none")))
        if before.get(name) != after.get(name):
            words.append(f"{fact}: {old} in the base, {now} in the new run")
    return words


def _list_facts(run: Run) -> dict[str, str]:
    """List what must be the same in both runs, besides libraries."""
    return {
        "images": f"{run.image_set.name} {run.image_set.sha256}",  # not how many: cells use the first ones
        "processor": run.machine.cpu,
        "number of processors": str(run.cpu_count),
        "system": run.machine.system,
        "kernel": run.machine.release,
        "file system": run.store_directory.file_system,
    }


def _list_operations(run: Run) -> set[tuple[str, str]]:
    return {(result.backend, result.operation) for result in run.results}


def _find_other_cells(base: Run, new: Run) -> list[str]:
    """Find cells with the same id that are measured differently."""
    if not {each.cell for each in base.results} & {each.cell for each in new.results}:
        return ["the runs have no cell in common"]
    before, after = ({each.cell: each.definition for each in run.cells} for run in (base, new))
    shared = [cell for cell in before if cell in after]
    changed = [
        name_cell(cell) for cell in shared if None not in {before[cell], after[cell]} and before[cell] != after[cell]
    ]
    if not changed:
        return []
    more = f" and {len(changed) - _MAX_NAMES:,} more" if len(changed) > _MAX_NAMES else ""
    return [f"measured in another way than in the base: {', '.join(changed[:_MAX_NAMES])}{more}"]


def _make_row(cell: str, evidence: Evidence, levels: tuple[float, float], own: Thresholds) -> Row:
    seconds = [math.exp(statistics.median(times)) for times in (evidence.base, evidence.new)]
    limit = math.log1p(own.threshold)
    least = math.log1p(own.least_seconds / min(seconds))  # a shorter difference doesn't count
    large = math.log1p(own.never_ok)
    suspect = evidence.shift >= max(limit, least)
    verdict: Verdict = "inconclusive"
    if suspect and evidence.is_slower(levels[0]):
        verdict = "regression"
    elif -evidence.shift >= max(limit, least) and evidence.is_slower(levels[0], sign=-1):
        verdict = "improvement"
    elif evidence.shift + evidence.find_margin(levels[1]) < large:
        verdict = "ok"
    may_be_ok = evidence.find_least_margin(levels[1]) < large and verdict == "inconclusive"
    decided = verdict == "regression" and evidence.processes in DECISIVE
    may_be_slower = suspect and not decided and (evidence.processes == 1 or evidence.can_be_slower(levels[1]))
    ends = [evidence.shift + sign * evidence.find_margin(MISSED) for sign in (-1, 1)]
    return Row(
        cell=cell,
        base=seconds[0],
        new=_raise(math.log(seconds[1]) + evidence.drift.shift),
        ratio=math.exp(evidence.shift),
        low=_raise(ends[0]),
        high=_raise(ends[1]),
        verdict=verdict,
        suspect=suspect,
        open=may_be_slower or may_be_ok,
        detectable=_raise(max(limit, least, evidence.find_detectable(levels[0]))),
        processes=(len(evidence.base), len(evidence.new)),
        spreads=(_find_spread(evidence.base), _find_spread(evidence.new)),
    )


def _find_spread(times: Sequence[float]) -> float:
    return math.exp(max(times) - min(times))


def _raise(logarithm: float) -> float:
    """Turn a logarithm into a ratio, which may be beyond what a number can hold."""
    return math.exp(min(max(logarithm, -700.0), 700.0))
