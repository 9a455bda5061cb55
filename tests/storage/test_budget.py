"""The pixels that threads decode at once are limited."""

import threading
from collections.abc import Callable

import pytest

from storage.decoding import Budget, decode_scaled
from tests.support.image_files import make_picture, save


def start(action: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=action)
    thread.start()
    return thread


def test_what_exceeds_the_budget_waits_until_others_are_done() -> None:
    budget, entered = Budget(10), threading.Event()

    def take() -> None:
        with budget.taking(5):
            entered.set()

    with budget.taking(6):
        waiting = start(take)
        assert not entered.wait(0.02)
        with budget.taking(4):
            pass
        assert not entered.is_set()
    waiting.join()
    assert entered.is_set()


def test_an_image_larger_than_the_budget_is_decoded_alone() -> None:
    budget = Budget(10)
    with budget.taking(1_000):
        waiting = start(lambda: budget.taking(1).__enter__())
        waiting.join(0.02)
        assert waiting.is_alive()
    waiting.join()


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_decoding_takes_from_the_budget(kind: str) -> None:
    budget = Budget(1)
    content = memoryview(save(make_picture(), kind))
    assert decode_scaled(content, budget=budget).shape == (24, 40, 3)
    with budget.taking(1):
        waiting = start(lambda: decode_scaled(content, budget=budget))
        waiting.join(0.02)
        assert waiting.is_alive()
    waiting.join()
