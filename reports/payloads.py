"""What to store of each image: its file as it is, or its pixels at one size. The answer of a run that measured these.

Both ways end with arrays of one size, in shuffled batches. Files are decoded and scaled on the way, by the number of
threads that is fastest; pixels are ready. The backend is the one with the best score in the matrix: in epochs of files
many tie, because decoding takes most of the time. All figures are of warm cells with the same number of images.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from reports.matrix import State, make_view
from reports.ranking import Rank, rank_times
from reports.recommendations import CROWD
from reports.run import ENCODED, PIXELS, Result, Run
from reports.sentence import MUCH, POPULAR
from reports.text import count_noun, format_number, join_words

FILES = "files"  # the backend whose stores are the files themselves


@dataclass(frozen=True)
class Part:
    """What takes a part of the time of an image: `seconds`, and the fraction of the whole."""

    name: str
    seconds: float
    fraction: float


@dataclass(frozen=True)
class Choice:
    """The best backend of a payload; what an image takes in an epoch, on disk, and to be written."""

    payload: str
    side: int | None  # of the arrays, which are squares; None if the run doesn't say
    epoch: Result
    ties: tuple[str, ...]  # other backends whose epoch is as fast
    faster: tuple[str, ...]  # backends whose epoch is faster, though they have worse scores
    parts: tuple[Part, ...]  # of an epoch; empty if they weren't measured
    disk: float | None  # bytes of an image, allocated; None if unknown
    writing: float | None  # seconds an image, without decoding; None if not measured
    popular: Result | None  # the epoch of what people take who don't measure

    @property
    def seconds(self) -> float:
        """Seconds an image, in an epoch."""
        return self.epoch.median / self.epoch.images

    @property
    def speed(self) -> str:
        """Images a second, rounded so that a reader can remember them."""
        return f"{format_number(float(f'{self.epoch.images_per_second:.3g}'))} images/s"

    @property
    def name(self) -> str:
        """Payload and backend, such as `files in lmdb`."""
        if self.epoch.backend == FILES:
            return f"files as they are ({FILES})"
        pixels = f"{self.side:,} x {self.side:,} pixels" if self.side else "pixels"
        return f"{'files' if self.payload == ENCODED else pixels} in {self.epoch.backend}"

    @property
    def decoding(self) -> str:
        """How many threads decode, after a comma; empty if none does."""
        threads = dict(self.epoch.params).get("threads")
        return f", decoded by {threads} thread{'' if threads == 1 else 's'}" if self.payload == ENCODED else ""

    @property
    def price(self) -> str:
        """What the popular choice costs, as the end of a sentence; empty if it's little."""
        if self.popular is None or self.popular.median < MUCH * self.epoch.median:
            return ""
        ratio = format_number(self.popular.median / self.epoch.median)
        return f"; in {self.popular.backend}, training is {ratio} times slower than in {self.epoch.backend}"

    @property
    def circumstances(self) -> str:
        """How many images the epoch has, how many threads decode, and which other backends are as fast."""
        words = f"{self.name}: an epoch of {count_noun(self.epoch.images, 'image')} in shuffled batches, warm"
        words += self.decoding
        for title, names in (("Faster", self.faster), ("As fast, within the noise", self.ties)):
            if names:
                words += f". {title}: {join_words(names) if len(names) <= CROWD else f'{len(names)} other backends'}"
        return f"{words}."


@dataclass(frozen=True)
class Answer:
    """The choices of a run, files first."""

    choices: tuple[Choice, ...]

    @property
    def sentences(self) -> tuple[str, ...]:
        """A sentence for each choice; the second one says how it differs from the first."""
        first, *others = self.choices
        the = "the " if first.payload == ENCODED else ""
        keep = f"Keep {the}{first.name}: {first.speed}{first.decoding}{first.price}."
        return (keep, *(_compare(first, other) for other in others))


def _compare(first: Choice, other: Choice) -> str:
    factor = first.seconds / other.seconds
    faster = f"{format_number(max(factor, 1 / factor))} times {'faster' if factor >= 1 else 'slower'}"
    disk = f" for {format_number(other.disk / first.disk)} times the disk" if first.disk and other.disk else ""
    return f"As {other.name}: {other.speed} ({faster}){disk}{other.price}."


def choose_payloads(run: Run) -> Answer | None:
    """Choose the fastest backend of each payload; None if the run has no epochs of payloads."""
    decoded, pixels = _select(run, "read_epoch_decoded", ENCODED), _select(run, "read_epoch", PIXELS)
    found = [epochs for epochs in (decoded, pixels) if epochs]
    if not found:
        return None
    shared = set.intersection(*({each.images for each in epochs} for epochs in found))
    count = max(shared or {each.images for each in found[0]})
    same = [[each for each in epochs if each.images == count] for epochs in found]
    return Answer(tuple(_choose(run, epochs) for epochs in same if epochs))


def _select(run: Run, operation: str, payload: str) -> list[Result]:
    """Select the warm cells of an operation on a payload."""
    wanted = {("payload", payload), ("cache", "warm")}
    return [each for each in run.results if each.operation == operation and wanted <= set(each.params)]


def _choose(run: Run, epochs: Sequence[Result]) -> Choice:
    fastest: dict[str, Result] = {}  # of each backend, among numbers of threads
    for each in sorted(epochs, key=lambda each: each.median):
        fastest.setdefault(each.backend, each)
    payload, count = epochs[0].payload, epochs[0].images
    part = run.parts[("payload", payload),]
    view = make_view(part, State(count, payload, "warm", "one"))
    scored = (row.backend for row in view.rows if row.score is not None and row.backend in fastest)
    epoch = fastest[next(scored, next(iter(fastest)))]
    ranks = {rank.backend: rank for rank in rank_times(fastest.values())}
    own = ranks.pop(epoch.backend)
    readings = {each.backend: each.median for each in _select(run, "read_epoch", payload) if each.images == count}
    store = next((each for each in part.stored if (each.backend, each.images) == (epoch.backend, count)), None)
    return Choice(
        payload=payload,
        side=run.image_set.sample.side if run.image_set.sample else None,
        epoch=epoch,
        ties=tuple(sorted(name for name, rank in ranks.items() if _tie(rank, own))),
        faster=tuple(name for name, rank in ranks.items() if rank.tier < own.tier),
        parts=_split(run, epoch, payload, readings.get(epoch.backend)),
        disk=(store.disk.allocated_bytes / store.images or None) if store and store.disk else None,
        writing=store.median / store.images if store else None,
        popular=next((fastest[name] for name in POPULAR if name in fastest), None),
    )


def _tie(one: Rank, other: Rank) -> bool:
    return one.tier == other.tier and not one.noisy and not other.noisy


def _split(run: Run, epoch: Result, payload: str, reading: float | None) -> tuple[Part, ...]:
    """Split the time of an image: what copying its bytes takes, what reading them takes on top of that, and the rest.

    If a cell contradicts the next one, because cells scatter, the two parts between which it lies are one.
    """
    floors = [
        each.median
        for each in run.floors
        if (each.operation, each.images, each.params) == ("read_epoch", epoch.images, (("payload", payload),))
    ]
    if reading is None or not floors:
        return ()
    starts = {"moving data": 0.0, "container": floors[0]}
    if payload == ENCODED:
        starts["decoding and scaling"] = reading
    parts: list[Part] = []
    names: list[str] = []
    end = epoch.median
    for name, start in reversed(starts.items()):
        names.insert(0, name)
        if start < end:
            parts.insert(0, Part(join_words(names), (end - start) / epoch.images, (end - start) / epoch.median))
            names, end = [], start
    return tuple(parts)
