"""The answer in words: for each use the backends that are ahead, by how much, and which tie."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from reports.ranking import Place, rank_sizes, rank_times, select_largest
from reports.results import Axes, Disk, Result, Run
from reports.table import add_axes, group_results
from reports.wording import count_noun, format_number, format_time, join_words, shorten_text

NAME = 40  # letters of a backend's name that are shown


@dataclass(frozen=True)
class Answer:
    """One ranking in words.

    `circumstances` say of what, such as ``10,000 images (warm)``. `headline` names those that tie with the best, in no
    order; `sentence` says how far the next is behind. Each of `places` has a text for its value, measured in `unit`.
    `absent` are backends of the run that were not measured so.
    """

    circumstances: str
    headline: str
    sentence: str
    unit: str
    places: tuple[tuple[Place, str], ...]
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
    places = tuple((place, format_time(place.value)) for place in rank_times(largest.values()))
    circumstances = add_axes(count_noun(count, "image"), axes)
    return _make_answer(circumstances, places, "median of a call", "takes {} times as long", backends)


def _answer_sizes(groups: Mapping[tuple[str, Axes], Sequence[Result]], backends: Sequence[str]) -> tuple[Use, Use]:
    """Answer what does not depend on time, from the first group that stored many images: buffered, if there is one."""
    stored = next((cells for (name, _), cells in groups.items() if name == "store_many"), ())

    def answer(measure: Callable[[Disk, int], float], unit: str, how_much: str) -> tuple[Answer, ...]:
        # Some file systems say that a store takes 0 bytes before it reaches the disk: then nothing is known.
        sizes = {each.cell: measure(each.disk, each.images) for each in stored if each.disk}
        largest = select_largest(each for each in stored if sizes.get(each.cell))
        count = max((result.store_images for result in largest.values()), default=0)
        ranked = rank_sizes({backend: sizes[result.cell] for backend, result in largest.items()})
        places = tuple((place, f"{place.value:,.0f}") for place in ranked)
        return (_make_answer(count_noun(count, "image"), places, unit, how_much, backends),) if places else ()

    least = answer(
        lambda disk, images: disk.allocated_bytes / images, "bytes an image, allocated", "takes {} times as much"
    )
    fewest = answer(lambda disk, _: disk.files, "files in a store", "has {} times as many")
    return (
        Use("Least disk", "what the file system gives a store", least, ()),
        Use("Few files", "to copy, to back up and to delete", fewest, ()),
    )


def _make_answer(
    circumstances: str, places: tuple[tuple[Place, str], ...], unit: str, how_much: str, backends: Sequence[str]
) -> Answer:
    measured = {place.backend for place, _ in places}
    leaders = tuple(sorted(shorten_text(place.backend, NAME) for place, _ in places if place.ties))
    absent = tuple(shorten_text(backend, NAME) for backend in backends if backend not in measured)
    headline = f"{join_words(leaders)} tie" if len(leaders) > 1 else leaders[0]
    sentence = _word_sentence(leaders, [place for place, _ in places if not place.ties], how_much)
    return Answer(circumstances, headline, sentence, unit, places, absent)


def _word_sentence(leaders: Sequence[str], followers: Sequence[Place], how_much: str) -> str:
    if followers:
        ratio = format_number(followers[0].ratio)
        return f"{shorten_text(followers[0].backend, NAME)}, the next, {how_much.format(ratio)}."
    return "No difference beyond the noise." if len(leaders) > 1 else "No other backend was measured."
