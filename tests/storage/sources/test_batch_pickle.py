"""Honest batches are read exactly; hostile ones are refused, and nothing in them runs."""

import itertools
import os
import pickle
import struct
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from storage.sources import safe_pickle as batch_pickle
from storage.sources.safe_pickle import UnsafeInputError
from tests.support.properties import given, st

IMAGE = 3 * 32 * 32
PUT = b""  # where Python 2 numbers a memo slot
NONE, TRUE, FALSE, MARK, STOP = b"N", b"\x88", b"\x89", b"(", b"."
RECONSTRUCT, ARRAY, DTYPE = b"cnumpy.core.multiarray\n_reconstruct\n", b"cnumpy\nndarray\n", b"cnumpy\ndtype\n"


def write_number(number: int) -> bytes:
    """Write an int or a bool as Python 2 does."""
    if isinstance(number, bool):
        return TRUE if number else FALSE
    return b"K%c" % number if 0 <= number < 256 else b"J" + struct.pack("<i", number)


def write_string(string: bytes) -> bytes:
    """Write a byte string as Python 2 does."""
    return b"U%c" % len(string) + string if len(string) < 256 else b"T" + struct.pack("<i", len(string)) + string


def write_list(items: Sequence[bytes]) -> list[bytes]:
    """Write a list as Python 2 does, in groups of 1,000."""
    groups = [b"".join([MARK, *items[start : start + 1000], b"e"]) for start in range(0, len(items), 1000)]
    return [b"]", PUT, *groups]


def make_batch(
    labels: Sequence[int],
    pixels: bytes,
    *,
    rows: int | None = None,
    columns: int = IMAGE,
    kind: bytes = b"u1",
    order: bytes = b"|",
    fortran: bool = False,
    maker: bytes = RECONSTRUCT,
    without: bytes = b"",
    files: Sequence[bytes] = (b"leptodactylus_pentadactylus_s_000004.png",),
) -> bytes:
    """Write a batch as Python 2 did, at protocol 2, or one that differs in what is named."""
    shape = [write_number(len(labels) if rows is None else rows), write_number(columns), b"\x86", PUT]
    made = [maker, PUT, ARRAY, PUT, write_number(0), b"\x85", PUT, write_string(b"b"), PUT, b"\x87", PUT, b"R", PUT]
    dtype = [DTYPE, PUT, write_string(kind), PUT, write_number(0), write_number(1), b"\x87", PUT, b"R", PUT]
    sizes = [write_number(number) for number in (-1, -1, 0)]
    state = [MARK, write_number(3), write_string(order), PUT, NONE * 3, *sizes, b"t", PUT, b"b"]
    raw = [write_number(fortran), b"T" + struct.pack("<i", len(pixels)) + pixels, PUT]
    entries = {
        b"batch_label": [write_string(b"training batch 1 of 5"), PUT],
        b"labels": write_list([write_number(label) for label in labels]),
        b"data": [*made, MARK, write_number(1), *shape, *dtype, *state, *raw, b"t", PUT, b"b"],
        b"filenames": write_list([write_string(name) for name in files]),
    }
    pieces = [b"\x80\x02}", PUT, MARK]
    for key, value in entries.items():
        pieces += [write_string(key), PUT, *value] if key != without else []
    slots = itertools.count(1)
    numbered = [piece or struct.pack("<cI", b"r", next(slots)) for piece in pieces]
    return b"".join([*numbered, b"u", STOP])


def make_pixels(count: int, seed: int = 1) -> bytes:
    """Make the pixel bytes of some images, no two alike."""
    return np.random.default_rng(seed).integers(0, 256, count * IMAGE, np.uint8).tobytes()


PIXELS = make_pixels(2)
HONEST = make_batch([3, 9], PIXELS)


def refuse(raw: bytes) -> str:
    """Read what must be refused; give the reason."""
    with pytest.raises(UnsafeInputError) as caught:
        batch_pickle.read(raw, "data_batch_1 of somewhere")
    message = str(caught.value)
    assert message.startswith("data_batch_1 of somewhere is not an honest CIFAR-10 batch: "), "the file is not named"
    assert "python -m fixtures.cifar10" in message, "nothing says what to do next"
    assert len(message) < 600, "a hostile batch decides how long the message is"
    return message


def read_or_refuse(raw: bytes) -> None:
    """Read what may be honest or not: nothing but a valid batch or a refusal may come of it."""
    try:
        batch = batch_pickle.read(raw, "batch")
    except UnsafeInputError:
        return
    count = len(batch.labels)
    assert count > 0
    assert batch.planes.shape == (count, 3, 32, 32)
    assert set(batch.labels.tolist()) <= set(range(10))


@given(st.lists(st.integers(0, 9), min_size=1, max_size=40), st.integers(0, 2**32), st.integers(0, 300))
def test_a_batch_of_python_2_is_read_exactly(labels: list[int], seed: int, length: int) -> None:
    pixels = make_pixels(len(labels), seed)
    batch = batch_pickle.read(make_batch(labels, pixels, files=[b"x" * length] * len(labels)), "batch")
    assert (batch.labels.tolist(), batch.labels.dtype.name) == (labels, "int64")
    assert (batch.planes.tobytes(), batch.planes.shape) == (pixels, (len(labels), 3, 32, 32))


@pytest.mark.parametrize("count", [1, 2, 300])
def test_a_batch_of_python_3_at_protocol_3_is_read_exactly(count: int) -> None:
    array = np.frombuffer(make_pixels(count), np.uint8).reshape(count, IMAGE)
    labels = [index % 10 for index in range(count)]
    names = [b"the same name"] * count  # which Python writes once and then takes from its memo slot
    raw = pickle.dumps({b"data": array, b"labels": labels, b"filenames": names}, protocol=3)
    batch = batch_pickle.read(raw, "batch")
    assert batch.planes.tobytes() == array.tobytes()
    assert batch.labels.tolist() == labels


def test_a_batch_of_10_000_images_is_read() -> None:
    names = [b"leptodactylus_pentadactylus_s_%06d.png" % number for number in range(10_000)]
    batch = batch_pickle.read(make_batch([7] * 10_000, bytes(10_000 * IMAGE), files=names), "batch")
    assert batch.labels.tolist() == [7] * 10_000


@pytest.mark.parametrize("protocol", [0, 1, 2, 4, 5])
def test_other_protocols_of_python_3_are_refused_with_a_reason(protocol: int) -> None:
    reason = {0: "opcode DICT", 1: "_codecs.encode", 2: "_codecs.encode"}.get(protocol, f"pickle protocol {protocol}")
    message = refuse(pickle.dumps({b"data": np.zeros((1, IMAGE), np.uint8), b"labels": [1]}, protocol=protocol))
    assert reason in message
    assert "protocol=3" in message


class Call:
    """Pickles as a call of anything."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        """Give the call to write."""
        return self.call


def make_payloads(sentinel: Path) -> list[bytes]:
    """Make pickles that create the sentinel file when they are loaded, alone and inside a batch, of every protocol."""
    code = f"__import__('pathlib').Path({str(sentinel)!r}).touch()"
    command = f'"{sys.executable}" -c "{code}"'
    calls = [Call(os.system, command), Call(eval, code), Call(exec, code)]
    array = np.zeros((1, IMAGE), np.uint8)
    batches: list[Any] = [{b"data": array, b"labels": call} for call in calls]
    return [pickle.dumps(payload, protocol) for payload in [*calls, *batches] for protocol in range(6)]


def test_a_pickle_that_calls_anything_is_refused_and_nothing_runs(tmp_path: Path) -> None:
    sentinel, payloads = tmp_path / "it ran", make_payloads(tmp_path / "it ran")
    for payload in payloads:
        refuse(payload)
        assert not sentinel.exists(), "the payload ran"
    pickle.loads(payloads[7])  # noqa: S301 - shows that the payload would have run
    assert sentinel.exists(), "the payload is harmless, so this test shows nothing"


def test_nothing_runs_even_if_the_opcodes_were_not_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_pickle, "_check_opcodes", lambda _raw: None)
    for payload in make_payloads(tmp_path / "it ran"):
        refuse(payload)
    assert not (tmp_path / "it ran").exists(), "a payload ran"


def test_the_reason_names_what_a_pickle_wants_to_call() -> None:
    assert "opcode GLOBAL at byte 2 names 'builtins.eval'" in refuse(b"\x80\x03cbuiltins\neval\nU\x011\x85R.")
    assert "opcode GLOBAL at byte 0 names 'os.system'" in refuse(b"cos\nsystem\n(S'true'\ntR.")


WATCH = """
import sys
from pathlib import Path
from storage.sources.safe_pickle import UnsafeInputError, read

payloads = [file.read_bytes() for file in Path(sys.argv[1]).iterdir()]
seen, refused = [], 0
sys.addaudithook(lambda event, arguments: seen.append(event))
for payload in payloads:
    try:
        read(payload, "batch")
    except UnsafeInputError:
        refused += 1
sys.audit("the hook listens")
print(len(payloads), refused, *seen)
"""


def test_the_interpreter_sees_no_call_import_or_open_while_payloads_are_refused(tmp_path: Path) -> None:
    payloads, folder = make_payloads(tmp_path / "it ran"), tmp_path / "payloads"
    folder.mkdir()
    for number, payload in enumerate(payloads):
        (folder / str(number)).write_bytes(payload)
    command = [sys.executable, "-c", WATCH, str(folder)]
    output = subprocess.run(command, cwd=Path(__file__).parents[3], capture_output=True, text=True, check=True).stdout
    events = output.split(maxsplit=2)
    assert events == [str(len(payloads)), str(len(payloads)), "the hook listens\n"]  # made, refused, every audit event


SELF = b"\x80\x02}q\x00(U\x06labels]q\x01(h\x01eu."
LAUGHS = b"\x80\x02}(U\x06labels](" + b"]q\x01(" + b"h\x01" * 50 + b"eeu."
NESTED_KEY = b"\x80\x02}(K\x01" + b"\x85" * 50_000 + b"K\x01u."
STATELESS = b"\x80\x02}(U\x06labels]U\x04data" + RECONSTRUCT + ARRAY + b"K\x00\x85U\x01b\x87Ru."


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        pytest.param(b"\x80\x02]r" + struct.pack("<I", 2**31) + b".", "memo slot 2147483648", id="memo-bomb"),
        pytest.param(SELF, "BINGET at byte 18 takes a container a second time", id="a-list-in-itself"),
        pytest.param(LAUGHS, "takes a container a second time", id="billion-laughs"),
        pytest.param(b"\x80\x02Kxq\x01]q\x01h\x01.", "takes a container a second time", id="reused-slot"),
        pytest.param(NESTED_KEY, "opcode TUPLE1", id="deep-key"),
        pytest.param(b"\x80\x02" + b"(K\x01" * 60_000 + b".", "a batch has at most 100,000", id="too-many-opcodes"),
        pytest.param(b"\x80\x02}" + b"}" * 200_000 + b".", "opcode EMPTY_DICT at byte 3", id="too-many-containers"),
        pytest.param(b"\x80\x02T" + struct.pack("<i", -1) + b".", "byte count < 0", id="negative-length"),
        pytest.param(b"\x80\x02T" + struct.pack("<i", 2**31 - 1) + b".", "only 1 remain", id="huge-length"),
        pytest.param(b"\x80\x02B" + struct.pack("<I", 2**32 - 1) + b".", "only 1 remain", id="huge-bytes"),
        pytest.param(b"\x80\x02h\x05.", "BINGET at byte 2", id="empty-slot"),
        pytest.param(b"\x80\x02\x8a\x01\x05.", "opcode LONG1", id="long"),
        pytest.param(b"\x80\x02Vx\n.", "opcode UNICODE", id="unknown-opcode"),
        pytest.param(b"\x80\x02cnumpy\ndtype\nNb.", "__setstate__", id="state-of-a-class"),
        pytest.param(b"\x80\x02q\x00.", "stack", id="memo-of-nothing"),
        pytest.param(b"", "exhausted", id="empty"),
        pytest.param(make_batch([3, 9], PIXELS, rows=10**9), "shape (1000000000, 3072)", id="claims-10**9-rows"),
        pytest.param(make_batch([3, 9, 1], PIXELS), "claims 3 images of 3072 bytes", id="missing-pixels"),
        pytest.param(make_batch([3], PIXELS), "claims 1 images", id="too-many-pixels"),
        pytest.param(make_batch([], b""), "shape (0, 3072)", id="no-images"),
        pytest.param(make_batch([1] * 3072, PIXELS, rows=3072, columns=2), "shape (3072, 2)", id="other-shape"),
        pytest.param(make_batch([3, 9], PIXELS, rows=-2), "shape (-2, 3072)", id="negative-rows"),
        pytest.param(make_batch([3, 9], PIXELS, kind=b"i1"), "b'i1'", id="other-dtype"),
        pytest.param(make_batch([3, 9], PIXELS, kind=b"x" * 10**6), "of type bytes", id="endless-dtype"),
        pytest.param(make_batch([3, 9], PIXELS, order=b"<"), "no plain uint8", id="other-byte-order"),
        pytest.param(make_batch([3, 9], PIXELS, fortran=True), "Fortran order", id="fortran-order"),
        pytest.param(HONEST.replace(b"U\x01b", b"U\x01c"), "no NumPy array", id="not-made-of-bytes"),
        pytest.param(make_batch([3, 9], PIXELS, maker=DTYPE), "no NumPy array", id="another-maker"),
        pytest.param(b"\x80\x02}(U\x06labels]U\x04dataK\x01u.", "no NumPy array", id="no-array"),
        pytest.param(STATELESS, "no two-dimensional NumPy array", id="array-without-state"),
        pytest.param(make_batch([3, 10], PIXELS), "label 1 is 10", id="label-10"),
        pytest.param(make_batch([-1, 3], PIXELS), "label 0 is -1", id="label--1"),
        pytest.param(make_batch([3, True], PIXELS), "label 1 is True", id="bool-label"),
        pytest.param(make_batch([3, 9, 1], PIXELS, rows=2), "no list of 2 numbers", id="too-many-labels"),
        pytest.param(make_batch([3], PIXELS, rows=2), "no list of 2 numbers", id="too-few-labels"),
        pytest.param(make_batch([3, 9], PIXELS, without=b"labels"), "b'labels'", id="no-labels"),
        pytest.param(make_batch([3, 9], PIXELS, without=b"data"), "b'data'", id="no-data"),
        pytest.param(b"\x80\x02].", "no dictionary", id="no-dictionary"),
        pytest.param(HONEST + b".", "1 bytes follow its end", id="trailing-byte"),
        pytest.param(HONEST + HONEST, f"{len(HONEST)} bytes follow its end", id="trailing-pickle"),
    ],
)
def test_what_no_honest_batch_has_is_refused_without_much_memory(raw: bytes, reason: str) -> None:
    tracemalloc.start()
    assert reason in refuse(raw)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * len(raw) + 2_000_000, "it made something far larger than itself"


def test_a_batch_cut_off_at_any_byte_is_refused() -> None:
    for end in range(len(HONEST)):
        refuse(HONEST[:end])


def test_a_batch_with_any_bit_flipped_is_valid_or_refused() -> None:
    start = HONEST.index(PIXELS)
    for position in (*range(start), *range(start + len(PIXELS), len(HONEST))):
        for bit in range(8):
            read_or_refuse(HONEST[:position] + bytes([HONEST[position] ^ 1 << bit]) + HONEST[position + 1 :])


@given(st.data())
def test_a_batch_with_bytes_put_in_taken_out_or_changed_is_valid_or_refused(data: st.DataObject) -> None:
    raw = bytearray(HONEST)
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, HONEST.index(PIXELS)))
        raw[position : position + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    read_or_refuse(bytes(raw))


@given(st.binary(max_size=200))
def test_any_bytes_are_valid_or_refused(raw: bytes) -> None:
    read_or_refuse(raw)
    read_or_refuse(b"\x80\x02" + raw + b".")
