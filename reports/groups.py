"""What may be compared with what: results in groups, and what sets them apart in words."""

from collections.abc import Iterable, Mapping, Sequence

from reports.run import Axes, Result
from reports.text import shorten_text

_OPERATIONS = ("store_single", "read_single", "store_many", "read_many", "read_epoch", "read_epoch_workers")
ORDINARY = {("cache", "warm"), ("durability", "buffered")}  # what is measured unless more is asked for


def group_results(results: Iterable[Result]) -> dict[tuple[str, Axes], list[Result]]:
    """Sort results into groups that may share a table or a figure: equal in operation and in all axes.

    Returns
    -------
    dict
        (operation, axes) -> results by number of images, then by time. Warm comes before cold, buffered before
        durable; unknown operations come last.
    """
    groups: dict[tuple[str, Axes], list[Result]] = {}
    for result in sorted(results, key=lambda result: (result.images, result.store_images, result.median, result.cell)):
        groups.setdefault((result.operation, result.axes), []).append(result)

    def place(group: tuple[str, Axes]) -> tuple[object, ...]:
        operation, axes = group
        rank = (*_OPERATIONS, operation).index(operation)
        return (
            rank,
            operation,
            [(name, (name, value) not in ORDINARY, isinstance(value, str), value) for name, value in axes],
        )

    return {group: groups[group] for group in sorted(groups, key=place)}


def find_stored(groups: Mapping[tuple[str, Axes], Sequence[Result]]) -> Sequence[Result]:
    """Find the results whose disk use counts in what `group_results` made: of many images, buffered if there are."""
    return next((cells for (name, _), cells in groups.items() if name == "store_many"), ())


def add_axes(title: str, axes: Axes) -> str:
    """Add to a title what the axes of its results say, such as `(durable, workers 2)`."""
    bare = {"cache", "durability"}
    words = shorten_text(", ".join(str(value) if name in bare else f"{name} {value}" for name, value in axes), 40)
    return f"{title} ({words})" if title and words else title or words
