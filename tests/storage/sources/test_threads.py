"""Calls in threads: in order, with few arguments at once, and ended early."""

import os
from collections.abc import Iterator

import pytest

from storage.sources.threads import map_in_threads
from tests.support.threads import NewThreads


@pytest.mark.parametrize("ahead", [None, 1, 3])
def test_results_come_in_order_and_few_arguments_are_taken_ahead(
    ahead: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    taken = []

    def count() -> Iterator[int]:
        for number in range(20):
            taken.append(number)
            yield number

    for done, result in enumerate(map_in_threads(lambda number: number * number, count(), ahead)):
        assert result == done * done
        assert len(taken) <= done + (ahead or 4)
    assert len(taken) == 20


def test_an_error_ends_the_calls_and_their_threads(new_threads: NewThreads) -> None:
    def fail(number: int) -> int:
        if number == 3:
            raise ValueError("the third")
        return number

    found = map_in_threads(fail, range(100))
    with pytest.raises(ValueError, match="the third"):
        list(found)
    assert not new_threads.find()


def test_results_that_nobody_wants_are_not_computed(new_threads: NewThreads) -> None:
    calls: list[int] = []
    results = map_in_threads(calls.append, range(1_000))
    next(results)
    results.close()
    assert len(calls) < 1_000
    assert not new_threads.find()
