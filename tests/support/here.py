"""A cluster without other processes: tasks and results are pickled, and done here, one after the other."""

import pickle
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from storage.cluster.conversion import close_sources


class Here:
    """Does what `storage.cluster.workers.Cluster` does; `order` says in which order."""

    def __init__(self, order: Callable[[list[Any]], Iterable[Any]] = iter) -> None:
        self._order = order
        self.done: list[int] = []

    def run(self, function: Callable[[Any], Any], tasks: Iterable[tuple[int, Any]]) -> Iterator[tuple[int, Any]]:
        """Do all tasks."""
        for number, task in self._order(list(tasks)):
            result = function(pickle.loads(pickle.dumps(task)))  # noqa: S301 - made a moment ago
            self.done.append(number)
            yield number, pickle.loads(pickle.dumps(result))  # noqa: S301 - likewise
        close_sources()

    def call(self, function: Callable[[], None]) -> None:
        """Call a function."""
        function()
