"""Files that are examined and made in threads: these end with what wanted them, not when garbage is collected.

The garbage collector may run while its thread holds a lock that the end of another thread needs.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from storage.cluster.conversion import Workers
from storage.dataset.conversion import convert
from storage.dataset.planning import RefusedError
from storage.errors import UnfinishedConversionError
from storage.sources.examination import assume, examine
from storage.sources.opening import open_source
from storage.sources.payload import Payload
from tests.support.backends import need_backend
from tests.support.folders import NAMES, write_images
from tests.support.here import Here
from tests.support.threads import NewThreads

pytestmark = need_backend("npy")
Ending = Callable[[type[BaseException]], AbstractContextManager[None]]
PAYLOADS = {"pixels": Payload("pixels"), "files": Payload(format="png")}


def interrupt(done: int, _: int) -> None:
    """Be a progress that Ctrl-C ends at the second image."""
    if done == 2:
        raise KeyboardInterrupt


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Any]:
    """Open a folder of images."""
    write_images(tmp_path / "tree", [f"{number:03}.png" for number in range(100)])
    with open_source(tmp_path / "tree") as found:
        yield found


@pytest.fixture
def ending(new_threads: NewThreads) -> Ending:
    """Expect an error, and that no thread is left while it is kept, with all that its traceback refers to."""

    @contextmanager
    def expect(error: type[BaseException]) -> Iterator[None]:
        with pytest.raises(error) as kept:
            yield
        assert not new_threads.find(), f"threads are left that the garbage collector would end, after {kept.value!r}"

    return expect


@pytest.fixture(params=PAYLOADS.values(), ids=list(PAYLOADS))
def save(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., int]:
    """Convert what `make` makes of a payload."""

    def call(make: Callable[[Payload], Any], progress: Callable[[int, int], None] = lambda *_: None) -> int:
        return convert(make(request.param), tmp_path / "set", "npy", overwrite=False, progress=progress)

    return call


def test_threads_end_when_an_examination_is_interrupted(source: Any, ending: Ending) -> None:  # noqa: ANN401
    with ending(KeyboardInterrupt):
        examine(source, Payload("pixels"), interrupt)


def test_threads_end_when_a_conversion_is_interrupted(
    source: Any,  # noqa: ANN401
    save: Callable[..., int],
    ending: Ending,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("storage.arrays.BATCH_BYTES", 1)
    with ending(KeyboardInterrupt):
        save(lambda payload: examine(source, payload, lambda *_: None), interrupt)


def test_threads_end_when_a_file_has_changed(
    source: Any,  # noqa: ANN401
    save: Callable[..., int],
    ending: Ending,
    tmp_path: Path,
) -> None:
    def change(payload: Payload) -> Any:  # noqa: ANN401
        examined = examine(source, payload, lambda *_: None)
        (tmp_path / "tree" / "001.png").write_bytes(b"no image")
        return examined

    with ending(UnfinishedConversionError):
        save(change)


def test_threads_end_when_a_file_that_was_assumed_to_be_an_image_is_none(
    source: Any,  # noqa: ANN401
    save: Callable[..., int],
    ending: Ending,
    tmp_path: Path,
) -> None:
    (tmp_path / "tree" / "001.png").write_bytes(b"no image")
    with ending(RefusedError):
        save(lambda payload: assume(source, payload, lambda _: None))


def test_what_workers_do_ends_with_an_interrupted_examination(tmp_path: Path) -> None:
    ended: list[bool] = []

    class Watched(Here):
        def run(self, function: Callable[[Any], Any], tasks: Any) -> Any:  # noqa: ANN401
            try:
                yield from super().run(function, tasks)
            finally:
                ended.append(True)

    write_images(tmp_path / "tree", NAMES)
    workers: Any = Workers(Watched(), tmp_path / "tree", None)  # type: ignore[arg-type]
    with open_source(tmp_path / "tree") as found:
        with pytest.raises(KeyboardInterrupt) as kept:
            examine(found, Payload("pixels"), interrupt, attempt=workers.attempt)
        assert ended, f"the tasks go on after {kept.value!r}"
