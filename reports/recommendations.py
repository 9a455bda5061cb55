"""Recommends backends: for each use case the ones that are ahead, by how much, and which tie; then each in words."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from reports.ranking import Rank, rank_sizes, rank_times, select_largest
from reports.run import Disk, Params, Result, Run
from reports.text import add_params, count_noun, format_number, join_words

COLUMNS = ("backend", "what it is", "kept by", "licence", "choose it for", "not for")
FAR = 10  # times the best: a backend that is so far behind is not for that use case
CROWD = 5  # backends: if more of them tie for first, that is no reason to choose one of them
MAX_WARNINGS = 3  # named use cases that a backend is not for


@dataclass(frozen=True)
class Recommendation:
    """One ranking in words."""

    circumstances: str  # such as "10,000 images (warm)"
    way: str  # the part that differs within the use case: "warm"
    headline: str  # the backends that are ahead, in no order
    sentence: str  # how far the next are behind
    unit: str  # of the ranks' values
    ranks: tuple[Rank, ...]
    results: Mapping[str, Result]  # the cells behind times, by backend
    absent: tuple[str, ...]  # backends of the run that were not measured this way


@dataclass(frozen=True)
class UseCase:
    """Something a reader may want to do, with a recommendation for each way it was measured."""

    title: str
    activity: str  # such as "sequential reads", for sentences
    meaning: str
    recommendations: tuple[Recommendation, ...]
    missing: tuple[str, ...]  # ways that were not measured


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
    "read_many": ("Scan everything", "sequential reads", "read all images in order", ("warm", "cold")),
    "read_epoch": (
        "Shuffled training",
        "shuffled reads",
        "read all images in shuffled batches of 256",
        ("warm", "cold"),
    ),
    "read_single": ("One random image", "single reads", "open a store and read one of its images", ("warm", "cold")),
    "store_many": ("Write once", "writes", "store all images", ("buffered", "durable")),
}
_OPTIONS = {"cold": "--cold measures it", "durable": "--durable measures it"}


def recommend(run: Run) -> tuple[UseCase, ...]:
    """Recommend backends for each use case, at the largest number of images that can be compared."""
    use_cases = []
    for operation, (title, activity, meaning, ways) in _TIMED.items():
        groups = run.select_groups(operation)
        measured = {value for params in groups for _, value in params}
        missing = tuple(_describe_missing(way) for way in ways if groups and way not in measured)
        found = tuple(_recommend_time(params, results, run) for params, results in groups.items())
        use_cases.append(UseCase(title, activity, meaning, found, missing))
    return (*use_cases, *_recommend_sizes(run))


def _describe_missing(way: str) -> str:
    option = _OPTIONS.get(way)
    return f"{way}: not measured in this run" + (f" ({option})" if option else "")


def _recommend_time(params: Params, results: Iterable[Result], run: Run) -> Recommendation:
    largest = select_largest(results)
    count = max(result.store_images for result in largest.values())
    ranks = rank_times(largest.values())
    sentence = _describe_next(ranks, ("takes", "take"), "as long as", "No difference beyond the noise.")
    return _make(count, params, ranks, sentence, "median of a call", run, largest)


def _recommend_sizes(run: Run) -> Iterator[UseCase]:
    def measure(
        size: Callable[[Disk, int], float], unit: str, verbs: tuple[str, str], how_much: str
    ) -> tuple[Recommendation, ...]:
        # Some file systems report 0 bytes until a store reaches the disk: its size is then unknown.
        sizes = {each.cell: size(each.disk, each.images) for each in run.stored if each.disk}
        largest = select_largest(each for each in run.stored if sizes.get(each.cell))
        ranks = rank_sizes({backend: sizes[result.cell] for backend, result in largest.items()})
        if not ranks:
            return ()
        count = max(result.store_images for result in largest.values())
        return (_make(count, (), ranks, _describe_next(ranks, verbs, how_much, "No difference."), unit, run, {}),)

    take, have = ("takes", "take"), ("has", "have")
    bytes_ = measure(
        lambda disk, images: disk.allocated_bytes / images, "bytes an image, allocated", take, "as much as"
    )
    files = measure(lambda disk, _: disk.files, "files in a store", have, "as many as")
    yield UseCase("Least disk", "disk space", "space that the file system gives a store", bytes_, ())
    yield UseCase("Few files", "few files", "to copy, to back up and to delete", files, ())


def _make(
    count: int,
    params: Params,
    ranks: tuple[Rank, ...],
    sentence: str,
    unit: str,
    run: Run,
    results: Mapping[str, Result],
) -> Recommendation:
    measured = {rank.backend for rank in ranks}
    absent = tuple(backend for backend in run.backends if backend not in measured)
    leaders = _select_tier(ranks, 0)
    headline = f"{join_words(leaders)} tie" if len(leaders) > 1 else leaders[0]
    circumstances = add_params(count_noun(count, "image"), params)
    return Recommendation(circumstances, add_params("", params), headline, sentence, unit, ranks, results, absent)


def _describe_next(ranks: Sequence[Rank], verbs: tuple[str, str], how_much: str, no_difference: str) -> str:
    """Describe how far the second tier is behind the best."""
    followers = _select_tier(ranks, 1)
    if not followers:
        return no_difference if len(ranks) > 1 else "No other backend was measured."
    ratio = format_number(next(rank.ratio for rank in ranks if rank.tier == 1))
    best = ranks[0].backend
    if len(followers) > 1:
        return f"{join_words(followers)} come next and {verbs[1]} at least {ratio} times {how_much} {best}."
    return f"{followers[0]} comes next and {verbs[0]} {ratio} times {how_much} {best}."


def _select_tier(ranks: Iterable[Rank], tier: int) -> list[str]:
    return sorted(rank.backend for rank in ranks if rank.tier == tier)


def summarise_backends(run: Run, use_cases: Iterable[UseCase]) -> tuple[BackendSummary, ...]:
    """Summarise the measured backends in alphabetical order, then those that could not be measured, and why."""
    standings: dict[str, list[_Standing]] = {name: [] for name in run.backends}
    for case in use_cases:
        for standing in _list_standings(case):
            standings[standing[1].backend].append(standing)

    def find(texts: Mapping[str, str] | None, name: str) -> str:
        return (texts or {}).get(name, "")

    measured = [
        BackendSummary(
            name,
            find(run.layouts, name),
            find(run.maintainers, name),
            find(run.licences, name),
            _describe_strengths(own),
            _describe_weaknesses(own),
        )
        for name, own in standings.items()
    ]
    absent = [
        BackendSummary(name, f"not measured: {reason}", "", "", "", "")
        for name, reason in sorted((run.unavailable or {}).items())
        if name not in standings
    ]
    return (*measured, *absent)


_Standing = tuple[str, Rank, Recommendation]  # an activity, and the rank that one backend has in it


def _list_standings(case: UseCase) -> Iterator[_Standing]:
    """List the ranks of all backends; a backend that was measured alone has none."""
    for each in case.recommendations:
        activity = f"{case.activity}, {each.way}" if len(case.recommendations) > 1 else case.activity
        yield from ((activity, rank, each) for rank in each.ranks if len(each.ranks) > 1)


def _describe_strengths(standings: Iterable[_Standing]) -> str:
    """Name the use cases in which a backend is ahead of most, or else its best one."""
    behind, strengths = [], []
    for activity, rank, recommendation in standings:
        leaders = _select_tier(recommendation.ranks, 0)
        if rank.tier > 0:
            behind.append((rank.tier, rank.ratio, _compare(activity, rank, recommendation)))
        elif len(leaders) <= CROWD:
            others = [name for name in leaders if name != rank.backend]
            strengths.append(f"{activity} (with {join_words(others)})" if others else activity)
    if strengths or not behind:
        return "; ".join(strengths)
    tier, _, words = min(behind)
    return f"{_write_ordinal(tier + 1)} in {words}"


def _describe_weaknesses(standings: Iterable[_Standing]) -> str:
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
