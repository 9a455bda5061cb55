"""The cases of a fault that are tried."""

from tests.faults.extent import Extent

CALLS = ["open", *["write"] * 50, "close", *["write"] * 50]


def choose(extent: Extent) -> list[str]:
    return extent.choose(CALLS, 1, str)


def test_one_case_of_each_name_is_tried_whatever_kind_of_images_it_comes_with() -> None:
    pixels, files = (choose(part) for _, part in Extent(sample=False, backends=60).divide(["pixels", "encoded"]))
    assert set(pixels) == set(CALLS)
    assert "close" not in files


def test_every_test_tries_each_name_again() -> None:
    assert choose(Extent(sample=False, backends=60)) == choose(Extent(sample=False, backends=60))
