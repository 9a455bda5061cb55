"""How long a session still takes."""

from benchmarks.progress import Progress


def test_cells_are_expected_to_take_as_long_as_those_of_as_many_images() -> None:
    progress = Progress({"a": 10, "b": 10, "c": 1000, "d": 1000, "e": 1000, "f": 1})
    assert progress.describe() == "under 1 min left", "nothing is known yet"
    for cell, seconds in (("a", 6.0), ("c", 300.0), ("c", 300.0), ("unknown", 1e9)):
        progress.note(cell, seconds)
    assert progress.describe() == "25 min left"  # 6 + 2 x 600 + their mean, 303
    for cell in "bde":
        progress.note(cell, 2.0)
    assert progress.describe() == "2 min left"
    progress.note("f", 1.0)
    assert progress.describe() == "under 1 min left"
