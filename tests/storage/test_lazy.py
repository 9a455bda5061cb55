"""A lazy property is computed once, and a fork meanwhile does no harm."""

import threading
from concurrent.futures import ThreadPoolExecutor

from storage.lazy import LazyProperty
from tests.faults.children import Ending, run_child
from tests.support.suite import ROOT


class Slow:
    """Its value takes as long as the event isn't set."""

    def __init__(self) -> None:
        self.begun, self.go_on, self.count = threading.Event(), threading.Event(), 0

    @LazyProperty
    def value(self) -> int:
        """Return how often it was computed."""
        self.count += 1
        self.begun.set()
        self.go_on.wait()
        return self.count


def test_it_is_computed_once_for_each_object() -> None:
    one, two = Slow(), Slow()
    one.go_on.set()
    two.go_on.set()
    assert (one.value, one.value, two.value) == (1, 1, 1)
    assert isinstance(Slow.value, LazyProperty)


def test_a_child_that_is_forked_while_a_thread_computes_it_computes_its_own() -> None:
    slow, other = Slow(), Slow()
    other.go_on.set()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(lambda: slow.value)
        slow.begun.wait()
        ending = run_child(lambda: "" if other.value == 1 else "wrong", 20)
        slow.go_on.set()
    assert ending == Ending(0, "")


def test_storage_uses_no_cached_property_of_python_3_11_which_locks() -> None:
    texts = {path: path.read_text(encoding="utf-8") for path in (ROOT / "storage").rglob("*.py")}
    assert [path.name for path, text in texts.items() if "import cached_property" in text] == []
