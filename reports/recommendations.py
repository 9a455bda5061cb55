"""The answer in words: for each use the backends that are ahead, by how much, and which tie."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from reports.ranking import Place, rank_sizes, rank_times, select_largest
from reports.run import Axes, Disk, Result, Run, find_stored, group_results
from reports.text import add_params, count_noun, format_number, join_words, shorten_text

NAME = 40  # letters of a backend's name that are shown


@dataclass(frozen=True)
class Answer:
    """One ranking in words.

    `circumstances` say of what, such as ``10,000 images (warm)``, `way` what sets them apart from those of the use's
    other answers: ``warm``. `headline` names those that are ahead, in no order; `sentence` says how far the next are
    behind. The values of `places` are in `unit`; `results` are the cells behind times, by backend. `absent` are
    backends of the run that were not measured so.
    """

    circumstances: str
    way: str
    headline: str
    sentence: str
    unit: str
    places: tuple[Place, ...]
    results: Mapping[str, Result]
    absent: tuple[str, ...]


@dataclass(frozen=True)
class Use:
    """What a chooser may want: a title, what it means, an answer for each way of measuring it, and what is missing."""

    title: str
    meaning: str
    answers: tuple[Answer, ...]
    missing: tuple[str, ...]


_TIMED = {
    "read_many": ("Scan everything", "read all images in order", ("warm", "cold")),
    "read_epoch": ("Shuffled training", "read all images in shuffled batches of 256", ("warm", "cold")),
    "read_single": ("One random image", "open a store and read one of its images", ("warm", "cold")),
    "store_many": ("Write once", "store all images", ("buffered", "durable")),
}
_TAKE = ("takes", "take")
_OPTIONS = {"cold": "--cold measures it", "durable": "--durable measures it"}


def answer_uses(run: Run) -> tuple[Use, ...]:
    """Answer each use from the results of a run, at the largest number of images that can be compared."""
    groups = group_results(run.results)
    backends = sorted({result.backend for result in run.results})
    uses = []
    for operation, (title, meaning, ways) in _TIMED.items():
        own = {axes: cells for (name, axes), cells in groups.items() if name == operation}
        measured = {value for axes in own for _, value in axes}
        missing = tuple(_word_missing(way) for way in ways if own and way not in measured)
        answers = tuple(_answer_time(axes, cells, backends) for axes, cells in own.items())
        uses.append(Use(title, meaning, answers, missing))
    return (*uses, *_answer_sizes(groups, backends))


def _word_missing(way: str) -> str:
    option = _OPTIONS.get(way)
    return f"{way}: not measured in this run" + (f" ({option})" if option else "")


def _answer_time(axes: Axes, results: Iterable[Result], backends: Sequence[str]) -> Answer:
    largest = select_largest(results)
    count = max(result.store_images for result in largest.values())
    places = rank_times(largest.values())
    sentence = _word_sentence(places, _TAKE, "as long as", "No difference beyond the noise.")
    return _make_answer(count, axes, places, sentence, "median of a call", backends, largest)


def _answer_sizes(groups: Mapping[tuple[str, Axes], Sequence[Result]], backends: Sequence[str]) -> tuple[Use, Use]:
    """Answer what does not depend on time, from the first group that stored many images: buffered, if there is one."""
    stored = find_stored(groups)

    def answer(
        measure: Callable[[Disk, int], float], unit: str, verbs: tuple[str, str], how_much: str
    ) -> tuple[Answer, ...]:
        # Some file systems say that a store takes 0 bytes before it reaches the disk: then nothing is known.
        sizes = {each.cell: measure(each.disk, each.images) for each in stored if each.disk}
        largest = select_largest(each for each in stored if sizes.get(each.cell))
        count = max((result.store_images for result in largest.values()), default=0)
        places = rank_sizes({backend: sizes[result.cell] for backend, result in largest.items()})
        sentence = _word_sentence(places, verbs, how_much, "No difference.") if places else ""
        return (_make_answer(count, (), places, sentence, unit, backends),) if places else ()

    least = answer(lambda disk, images: disk.allocated_bytes / images, "bytes an image, allocated", _TAKE, "as much as")
    fewest = answer(lambda disk, _: disk.files, "files in a store", ("has", "have"), "as many as")
    return (
        Use("Least disk", "what the file system gives a store", least, ()),
        Use("Few files", "to copy, to back up and to delete", fewest, ()),
    )


def _make_answer(
    count: int,
    axes: Axes,
    places: tuple[Place, ...],
    sentence: str,
    unit: str,
    backends: Sequence[str],
    results: Mapping[str, Result] | None = None,
) -> Answer:
    measured = {place.backend for place in places}
    absent = tuple(shorten_text(backend, NAME) for backend in backends if backend not in measured)
    leaders = _name_tier(places, 0)
    headline = f"{join_words(leaders)} tie" if len(leaders) > 1 else leaders[0]
    circumstances, way = add_params(count_noun(count, "image"), axes), add_params("", axes)
    return Answer(circumstances, way, headline, sentence, unit, places, results or {}, absent)


def _word_sentence(places: Sequence[Place], verbs: tuple[str, str], how_much: str, no_difference: str) -> str:
    """Say how far the next are behind the best of those ahead."""
    followers = _name_tier(places, 1)
    if not followers:
        return no_difference if len(places) > 1 else "No other backend was measured."
    ratio = format_number(next(place.ratio for place in places if place.tier == 1))
    best = shorten_text(places[0].backend, NAME)
    if len(followers) > 1:
        return f"{join_words(followers)}, the next, {verbs[1]} at least {ratio} times {how_much} {best}."
    return f"{followers[0]}, the next, {verbs[0]} {ratio} times {how_much} {best}."


def _name_tier(places: Iterable[Place], tier: int) -> list[str]:
    """Name the backends of a tier in alphabetical order: they tie."""
    return sorted(shorten_text(place.backend, NAME) for place in places if place.tier == tier)
