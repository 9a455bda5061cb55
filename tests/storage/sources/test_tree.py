"""The natural order of names."""

from storage.sources.tree import order_naturally


def test_numbers_in_names_count_whatever_zeros_they_begin_with() -> None:
    names = ["", "0", "00", "01", "1", "9", "10", "099", "100", "a", "a1", "a1b", "a01c", "a2", "a10", "b"]
    for mixed in (sorted(names), names[::-1]):
        assert sorted(mixed, key=order_naturally) == names


def test_a_number_may_have_more_digits_than_python_converts() -> None:
    one, two, three = "9" * 5_000, f"1{'0' * 5_000}", f"{'0' * 9_000}2"
    assert sorted([two, one, three], key=order_naturally) == [three, one, two]
