"""The pixels that threads decode at once are limited."""

import threading
from collections.abc import Callable

import pytest
from PIL.ImageFile import ImageFile
from PIL.PngImagePlugin import PngInfo

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


def test_a_picture_is_not_loaded_before_there_are_pixels_left(monkeypatch: pytest.MonkeyPatch) -> None:
    budget, described, taken = Budget(1), PngInfo(), []
    described.add_text("Software", "exif")  # so that Pillow loads the file to look for metadata behind its pixels
    load = ImageFile.load

    def note(picture: ImageFile) -> object:
        taken.append(budget._used)  # noqa: SLF001
        return load(picture)

    monkeypatch.setattr(ImageFile, "load", note)
    decode_scaled(memoryview(save(make_picture(), "PNG", pnginfo=described)), budget=budget)
    assert set(taken) == {24 * 40}
