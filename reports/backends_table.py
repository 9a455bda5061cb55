"""What each store of a run is, and when to choose it and when not: said by the cells of that run alone."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from reports.ranking import Place
from reports.recommendations import NAME, Answer, Use, answer_uses
from reports.run import Run
from reports.text import count_noun, format_number, join_words, shorten_text

COLUMNS = ("backend", "what it is", "kept by", "licence", "choose it for", "not for")
FAR = 10  # times the best: so far behind, a store is not for that use
CROWD = 5  # backends: where more of them tie for the first place, that is no reason to choose one of them
MOST = 3  # uses that a store is not for, and that are named

_NOTHING = "-"


@dataclass(frozen=True)
class Store:
    """One backend in the words of `COLUMNS`: one line each, a dash where the run says nothing."""

    name: str
    layout: str
    maintainer: str
    licence: str
    choose: str
    avoid: str


@dataclass(frozen=True)
class _Standing:
    """Where a backend stands in one use: its name and way, who is ahead, who is the best of these."""

    use: str
    place: Place
    leaders: tuple[str, ...]
    best: str

    def compare(self) -> str:
        """Say how far behind the best it is."""
        return f"{self.use} ({format_number(self.place.ratio)} times {self.best})"

    def share(self) -> str:
        """Say with whom it is ahead."""
        others = [name for name in self.leaders if name != shorten_text(self.place.backend, NAME)]
        return f"{self.use} (with {join_words(others)})" if others else self.use


def describe_stores(run: Run) -> tuple[Store, ...]:
    """Describe the backends of a run in alphabetical order; behind them those that could not be measured, and why."""
    standings: dict[str, list[_Standing]] = {result.backend: [] for result in run.results}
    for use in answer_uses(run):
        for answer in use.answers:
            for standing in _list_standings(use, answer):
                standings[standing.place.backend].append(standing)
    measured = [
        Store(
            shorten_text(name, NAME),
            _find_text(run.layouts, name),
            _find_text(run.maintainers, name),
            _find_text(run.licences, name),
            _word_choice(own),
            _word_warning(own),
        )
        for name, own in sorted(standings.items())
    ]
    absent = [
        Store(shorten_text(name, NAME), f"not measured: {shorten_text(reason)}", *[_NOTHING] * 4)
        for name, reason in sorted((run.unavailable or {}).items())
        if name not in standings
    ]
    return (*measured, *absent)


def _find_text(texts: Mapping[str, str] | None, name: str) -> str:
    return shorten_text((texts or {}).get(name, "")) or _NOTHING


def _list_standings(use: Use, answer: Answer) -> Iterator[_Standing]:
    """Tell where each backend stands; nowhere, if it was measured alone."""
    leaders = tuple(sorted(shorten_text(place.backend, NAME) for place in answer.places if place.tier == 0))
    title = f"{use.title}, {answer.way}" if len(use.answers) > 1 else use.title
    best = shorten_text(answer.places[0].backend, NAME)
    for place in answer.places:
        if len(answer.places) > 1:
            yield _Standing(title, place, leaders, best)


def _word_choice(standings: list[_Standing]) -> str:
    """Name the uses in which a backend is ahead of most, else the one in which the fewest are ahead of it."""
    ahead = [each.share() for each in standings if each.place.tier == 0 and len(each.leaders) <= CROWD]
    if ahead:
        return "; ".join(ahead)
    behind = [each for each in standings if each.place.tier > 0]
    if not behind:
        return _NOTHING
    best = min(behind, key=lambda each: (each.place.tier, each.place.ratio))
    return f"never first; place {best.place.tier + 1}: {best.compare()}"


def _word_warning(standings: list[_Standing]) -> str:
    """Name the uses in which a backend is far behind, the worst first, else the worst one."""
    behind = sorted((each for each in standings if each.place.tier > 0), key=lambda each: -each.place.ratio)
    far = [each.compare() for each in behind if each.place.ratio >= FAR]
    if len(far) > MOST:
        far[MOST:] = [f"and {count_noun(len(far) - MOST, 'other use')}"]
    if far:
        return "; ".join(far)
    return f"never far behind; worst: {behind[0].compare()}" if behind else _NOTHING
