"""Recommends backends: for each use case the ones that are ahead, by how much, and which tie; then each in words."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from reports.ranking import Rank, rank_sizes, rank_times, select_largest
from reports.run import Disk, Params, Result, Run
from reports.text import add_params, count_noun, format_bytes, format_number, format_time, join_words

COLUMNS = ("backend", "what it is", "kept by", "licence", "choose it for", "not for")
FAR = 10  # times the best: a backend that is so far behind is not for that use case
CROWD = 5  # backends: if more of them tie for first, that is not a reason to choose one of them
TRAINING = "shuffled reads"  # the activity that most people store images for
MAX_WARNINGS = 3  # named use cases that a backend is not for


@dataclass(frozen=True)
class Recommendation:
    """The ranking of a use case that was measured one way."""

    params: Params
    write: Callable[[float], str]  # a value with its unit
    ranks: tuple[Rank, ...]
    results: Mapping[str, Result]  # the cells behind the ranks, by backend
    absent: tuple[str, ...]  # backends of the run that were not measured this way

    @property
    def is_timed(self) -> bool:
        """Whether the ranks are of times, in seconds, not of sizes."""
        return self.write is format_time

    def select_tier(self, tier: int) -> list[str]:
        """Return the names of the backends in a tier, sorted, because they tie; without those too noisy to rank."""
        return sorted(rank.backend for rank in self.ranks if rank.tier == tier and not rank.noisy)


@dataclass(frozen=True)
class UseCase:
    """Something a reader may want to do, with a recommendation for each way it was measured."""

    title: str
    activity: str  # such as "sequential reads", for sentences
    recommendations: tuple[Recommendation, ...]


@dataclass(frozen=True)
class BackendSummary:
    """One backend in the words of `COLUMNS`; a text is empty if there is nothing to say."""

    name: str
    layout: str
    maintainer: str
    licence: str
    choose: str
    avoid: str


_TIMED = {
    "read_many": ("Scan everything", "sequential reads"),
    "read_epoch": ("Shuffled training", TRAINING),
    "read_epoch_decoded": ("Training on files", "decoded epochs"),
    "read_epoch_dataloader": ("PyTorch", "DataLoader"),
    "read_single": ("One random image", "single reads"),
    "read_open_single": ("The same, reader open", "single reads of an open reader"),
    "store_many": ("Write once", "writes"),
}
_SOMETIMES = (
    "read_epoch_decoded",
    "read_epoch_dataloader",
    "read_open_single",
)  # not in all sessions: absent otherwise


def recommend(run: Run) -> tuple[UseCase, ...]:
    """Recommend backends for each use case, at the largest number of images that can be compared."""
    use_cases = []
    for operation, (title, activity) in _TIMED.items():
        groups = run.select_groups(operation)
        if operation in _SOMETIMES and not groups:
            continue
        found = tuple(_recommend_time(params, results, run) for params, results in groups.items())
        use_cases.append(UseCase(title, activity, found))
    sizes = _recommend_sizes(run, format_bytes, lambda disk, images: disk.allocated_bytes / images)
    files = _recommend_sizes(run, _write_files, lambda disk, _: disk.files)
    return (
        *use_cases,
        UseCase("Least disk", "disk space", sizes),
        UseCase("Few files", "few files", files),
    )


def _recommend_time(params: Params, results: Iterable[Result], run: Run) -> Recommendation:
    largest = select_largest(results)
    return Recommendation(params, format_time, rank_times(largest.values()), largest, _find_absent(run, largest))


def _write_files(number: float) -> str:
    return f"{count_noun(round(number), 'file')} in all"


def _recommend_sizes(
    run: Run, write: Callable[[float], str], measure: Callable[[Disk, int], float]
) -> tuple[Recommendation, ...]:
    found = (_recommend_size(payload, part, write, measure) for payload, part in run.parts.items())
    return tuple(each for each in found if each.ranks)


def _recommend_size(
    payload: Params, run: Run, write: Callable[[float], str], measure: Callable[[Disk, int], float]
) -> Recommendation:
    # Some file systems report 0 bytes until a store reaches the disk: its size is then unknown.
    sizes = {each.cell: measure(each.disk, each.images) for each in run.stored if each.disk}
    largest = select_largest(each for each in run.stored if sizes.get(each.cell))
    ranks = rank_sizes({backend: sizes[result.cell] for backend, result in largest.items()})
    return Recommendation(payload, write, ranks, largest, _find_absent(run, largest))


def _find_absent(run: Run, measured: Mapping[str, Result]) -> tuple[str, ...]:
    return tuple(backend for backend in run.backends if backend not in measured)


def summarise_backends(run: Run, use_cases: Iterable[UseCase]) -> tuple[BackendSummary, ...]:
    """Summarise the measured backends in alphabetical order, then those that could not be measured, and why."""
    standings: dict[str, list[_RankedUse]] = {name: [] for name in run.backends}
    for standing in (each for case in use_cases for each in _list_ranks(case)):
        standings[standing[1].backend].append(standing)
    layouts, maintainers, licences = (texts or {} for texts in (run.layouts, run.maintainers, run.licences))
    measured = []
    for name, own in standings.items():
        facts = layouts.get(name, ""), maintainers.get(name, ""), licences.get(name, "")
        measured.append(BackendSummary(name, *facts, _describe_strengths(own), _describe_weaknesses(own)))
    absent = [
        BackendSummary(name, f"not measured: {reason}", "", "", "", "")
        for name, reason in sorted((run.unavailable or {}).items())
        if name not in standings
    ]
    return (*measured, *absent)


_RankedUse = tuple[str, Rank, Recommendation]  # an activity, and the rank that one backend has in it


def _list_ranks(case: UseCase) -> Iterator[_RankedUse]:
    """List the ranks of all backends; a backend that was measured alone has none."""
    for each in case.recommendations:
        way = f", {add_params('', each.params)}" if len(case.recommendations) > 1 else ""
        yield from ((case.activity + way, rank, each) for rank in each.ranks if len(each.ranks) > 1)


def _describe_strengths(standings: Iterable[_RankedUse]) -> str:
    """Name the use cases in which a backend is ahead of most, or else its best one."""
    behind, strengths = [], []
    for activity, rank, recommendation in standings:
        leaders = recommendation.select_tier(0)
        if rank.noisy:
            continue
        if rank.tier > 0:
            behind.append((rank.tier, rank.ratio, _compare(activity, rank, recommendation)))
        elif len(leaders) <= CROWD:
            others = [name for name in leaders if name != rank.backend]
            strengths.append(f"{activity} (with {join_words(others)})" if others else activity)
    if strengths or not behind:
        return "; ".join(strengths)
    tier, _, words = min(behind)
    return f"{_write_ordinal(tier + 1)} in {words}"


def _describe_weaknesses(standings: Iterable[_RankedUse]) -> str:
    """Name the use cases in which a backend is far behind, the worst first."""
    far = sorted((each for each in standings if each[1].ratio >= FAR and each[1].tier), key=lambda each: -each[1].ratio)
    words = [_compare(*each) for each in far]
    if len(words) > MAX_WARNINGS:
        words[MAX_WARNINGS:] = [f"and {count_noun(len(words) - MAX_WARNINGS, 'other use')}"]
    return "; ".join(words)


def _compare(activity: str, rank: Rank, recommendation: Recommendation) -> str:
    return f"{activity} ({format_number(rank.ratio)}x {recommendation.ranks[0].backend})"


def _write_ordinal(number: int) -> str:
    special = {} if number % 100 in {11, 12, 13} else {1: "st", 2: "nd", 3: "rd"}
    return f"{number}{special.get(number % 10, 'th')}"
