"""Two runs, cell by cell: whether they can be compared, and which cells are slower."""

import math
from collections import Counter
from dataclasses import dataclass

from reports.noise import Thresholds, Verdict, estimate_interval, estimate_scatter
from reports.run import Result, Run
from reports.text import name_cell, shorten_text

MAX_INTERVAL = 1.5  # a factor to each side: a wider interval wouldn't show a cell that became half as slow again
_MAX_NAMES = 5  # in a message


@dataclass(frozen=True)
class Row:
    """One cell in both runs: medians in seconds, their ratio new / base, its lowest and its highest value.

    A `suspect` has a ratio that would be a slowdown if only it were certain.
    """

    cell: str
    base: float
    new: float
    ratio: float
    low: float
    high: float
    verdict: Verdict
    suspect: bool


@dataclass(frozen=True)
class Comparison:
    """Two runs: why they can't be compared, or a row for each cell of both, and the cells that only one has."""

    base: Run
    new: Run
    differences: tuple[str, ...]
    rows: tuple[Row, ...]
    missing: tuple[Result, ...]
    added: tuple[Result, ...]

    @property
    def counts(self) -> dict[Verdict, int]:
        """How many cells have which verdict."""
        counts: Counter[Verdict] = Counter(row.verdict for row in self.rows)
        counts["missing"], counts["new"] = len(self.missing), len(self.added)
        return counts

    def select_rows(self, verdict: Verdict) -> tuple[Row, ...]:
        """Select the rows with one verdict, in the order of the run."""
        return tuple(row for row in self.rows if row.verdict == verdict)

    def choose_exit_code(self, missing: str) -> int:
        """Choose the exit code: 0 fine, 1 a regression or a missing cell, 3 not comparable.

        With `missing` as ``warn``, not ``fail``, a missing cell is fine.
        """
        if self.differences:
            return 3
        return int(bool(self.select_rows("regression") or (self.missing and missing == "fail")))


def compare_runs(base: Run, new: Run, threshold: float) -> Comparison:
    """Compare two runs; without rows if they can't be compared.

    `threshold` is the fraction by which a cell must be slower to be a regression, unless its benchmark sets its own.
    """
    differences = tuple(find_differences(base, new))
    before, after = ({result.cell: result for result in run.results} for run in (base, new))
    pairs = [] if differences else [(result, after[cell]) for cell, result in before.items() if cell in after]
    scatter = estimate_scatter([math.log(new.median / base.median) for base, new in pairs])
    return Comparison(
        base=base,
        new=new,
        differences=differences,
        rows=tuple(_make_row(*pair, scatter, threshold) for pair in pairs),
        missing=tuple(result for cell, result in before.items() if cell not in after),
        added=tuple(result for cell, result in after.items() if cell not in before),
    )


def find_differences(base: Run, new: Run) -> list[str]:
    """List why two runs can't be compared, a line each; empty if they can. Text from the runs is made harmless.

    Free space, paths, the length of the measurement and the choice of cells aren't differences.
    """
    runs = {"base": base, "new run": new}
    words = [f"the {name} is incomplete: repeat it" for name, run in runs.items() if not run.complete]
    words += [
        f"the {name} was made before cells had definitions: repeat it"
        for name, run in runs.items()
        if any(result.definition is None for result in run.results)
    ]
    before, after = _list_facts(base), _list_facts(new)
    if _list_backends(base) != _list_backends(new):  # each brings its own libraries
        before, after = ({name: facts[name] for name in before if name in after} for facts in (before, after))
    for name in before | after:
        fact, old, now = (shorten_text(text, 120) for text in (name, before.get(name, "none"), after.get(name, "none")))
        if before.get(name) != after.get(name):
            words.append(f"{fact}: {old} in the base, {now} in the new run")
    return words + _find_other_cells(base, new)


def _list_facts(run: Run) -> dict[str, str]:
    """List what must be the same in both runs."""
    return {
        "images": f"{run.image_set.name} {run.image_set.sha256}",  # not how many: cells use the first ones
        "processor": run.machine.cpu,
        "number of processors": str(run.cpu_count),
        "system": run.machine.system,
        "kernel": run.machine.release,
        "file system": run.store_directory.file_system,
    } | {f"version of {name}": version for name, version in run.libraries.items()}


def _list_backends(run: Run) -> set[str]:
    return {result.backend for result in run.results}


def _find_other_cells(base: Run, new: Run) -> list[str]:
    """Find cells with the same id that are measured differently."""
    before, after = ({result.cell: result.definition for result in run.results} for run in (base, new))
    shared = [cell for cell in before if cell in after]
    if not shared:
        return ["the runs have no cell in common"]
    changed = [
        name_cell(cell) for cell in shared if None not in {before[cell], after[cell]} and before[cell] != after[cell]
    ]
    if not changed:
        return []
    more = f" and {len(changed) - _MAX_NAMES:,} more" if len(changed) > _MAX_NAMES else ""
    return [f"measured in another way than in the base: {', '.join(changed[:_MAX_NAMES])}{more}"]


def _make_row(base: Result, new: Result, scatter: float, threshold: float) -> Row:
    stable = not (base.unstable or new.unstable)
    low, high = estimate_interval(base.rounds, new.rounds, scatter, stable=stable)
    ratio = new.median / base.median
    limit = 1 + (threshold if new.threshold is None else new.threshold)
    difference = new.median - base.median
    verdict: Verdict = "ok"
    if low > limit and difference > Thresholds.least_seconds:
        verdict = "regression"
    elif high < 1 / limit and -difference > Thresholds.least_seconds:
        verdict = "improvement"
    elif not stable or high > MAX_INTERVAL * ratio:
        verdict = "inconclusive"
    suspect = ratio > limit and difference > Thresholds.least_seconds
    return Row(base.cell, base.median, new.median, ratio, low, high, verdict, suspect)
