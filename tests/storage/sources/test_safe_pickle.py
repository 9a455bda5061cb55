"""Honest batches are read exactly; hostile ones are refused, and nothing in them runs."""

import pickle
import struct
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from storage.sources import safe_pickle
from storage.sources.cifar10 import UnsafeInputError, read_batch
from storage.sources.safe_pickle import load
from tests.support.cifar import ARRAY, DTYPE, IMAGE, RECONSTRUCT, make_batch, make_payloads, make_pixels
from tests.support.properties import given, st

FILE = Path("somewhere", "data_batch_1")
PIXELS = make_pixels(2)
HONEST = make_batch([3, 9], PIXELS)


def refuse(raw: bytes) -> str:
    with pytest.raises(UnsafeInputError) as caught:
        read_batch(raw, FILE)
    message = str(caught.value)
    assert message.startswith(f"{FILE}: it isn't an honest CIFAR batch (")
    assert "take the official files" in message
    assert len(message) < 600, "a hostile batch decides how long the message is"
    return message


def read_or_refuse(raw: bytes) -> None:
    try:
        planes, labels = read_batch(raw, FILE)
    except UnsafeInputError:
        return
    assert len(labels) > 0
    assert planes.shape == (len(labels), 3, 32, 32)
    assert set(labels.tolist()) <= set(range(10))


@pytest.mark.parametrize("count", [1, 2, 300])
@pytest.mark.parametrize("key", [bytes, str])
def test_a_batch_of_python_3_at_protocol_3_is_read_exactly(count: int, key: type) -> None:
    array = np.frombuffer(make_pixels(count), np.uint8).reshape(count, IMAGE)
    labels = [index % 10 for index in range(count)]
    names = [b"the same name"] * count  # Python writes it once, then takes it from its memo slot
    batch = {b"data": array, b"labels": labels, b"filenames": names}
    raw = pickle.dumps({name if key is bytes else name.decode(): value for name, value in batch.items()}, protocol=3)
    planes, found = read_batch(raw, FILE)
    assert planes.tobytes() == array.tobytes()
    assert found.tolist() == labels


def test_a_batch_of_10_000_images_is_read() -> None:
    names = [b"leptodactylus_pentadactylus_s_%06d.png" % number for number in range(10_000)]
    _, labels = read_batch(make_batch([7] * 10_000, bytes(10_000 * IMAGE), files=names), FILE)
    assert labels.tolist() == [7] * 10_000


@pytest.mark.parametrize("protocol", [0, 1, 2, 4, 5])
def test_other_protocols_of_python_3_are_refused_with_a_reason(protocol: int) -> None:
    reason = {0: "opcode DICT", 1: "_codecs.encode", 2: "_codecs.encode"}.get(protocol, "opcode STACK_GLOBAL")
    message = refuse(pickle.dumps({b"data": np.zeros((1, IMAGE), np.uint8), b"labels": [1]}, protocol=protocol))
    assert reason in message
    assert "protocol=3" in message


def test_the_reason_names_what_a_pickle_wants_to_call() -> None:
    assert "opcode GLOBAL at byte 2 names 'builtins.eval'" in refuse(b"\x80\x03cbuiltins\neval\nU\x011\x85R.")
    assert "opcode GLOBAL at byte 0 names 'os.system'" in refuse(b"cos\nsystem\n(S'true'\ntR.")


WATCH = """
import sys
from pathlib import Path
from storage.sources.cifar10 import UnsafeInputError, read_batch

payloads = [file.read_bytes() for file in Path(sys.argv[1]).iterdir()]
seen, refused = [], 0
sys.addaudithook(lambda event, arguments: seen.append(event))
for payload in payloads:
    try:
        read_batch(payload, Path("batch"))
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
    pickle.loads(payloads[7])  # noqa: S301 - shows that a payload would have run
    assert (tmp_path / "it ran").exists()


SELF = b"\x80\x02}q\x00(U\x06labels]q\x01(h\x01eu."
LAUGHS = b"\x80\x02}(U\x06labels](" + b"]q\x01(" + b"h\x01" * 50 + b"eeu."
NESTED_KEY = b"\x80\x02}(K\x01" + b"\x85" * 50_000 + b"K\x01u."
STATELESS = b"\x80\x02}(U\x06labels]U\x04data" + RECONSTRUCT + ARRAY + b"K\x00\x85U\x01b\x87Ru."


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        pytest.param(b"\x80\x02}]r" + struct.pack("<I", 2**31) + b"r\0\0\0\x80.", "a dictionary", id="memo-bomb"),
        pytest.param(SELF, "'labels'", id="a-list-in-itself"),
        pytest.param(LAUGHS, "'data' and 'labels'", id="billion-laughs"),
        pytest.param(NESTED_KEY, "opcode SETITEMS at byte 50008 has a key that isn't a string", id="deep-key"),
        pytest.param(
            b"\x80\x02" + b"(K\x01" * 300_000 + b".",
            "more than 500,000 opcodes",
            id="too-many-opcodes",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            b"\x80\x02}" + b"}" * 600_000 + b".",
            "more than 500,000 opcodes",
            id="too-many-containers",
            marks=pytest.mark.slow,
        ),
        pytest.param(b"\x80\x02T" + struct.pack("<i", -1) + b".", "byte count < 0", id="negative-length"),
        pytest.param(b"\x80\x02B" + struct.pack("<I", 2**32 - 1) + b".", "only 1 remain", id="huge-bytes"),
        pytest.param(b"\x80\x02h\x05.", "BINGET at byte 2 doesn't fit", id="empty-slot"),
        pytest.param(b"\x80\x02\x8a\x01\x05.", "opcode LONG1 at byte 2 isn't one of plain values", id="long"),
        pytest.param(b"\x80\x02Vx\n.", "opcode UNICODE", id="unknown-opcode"),
        pytest.param(b"\x80\x02cnumpy\ndtype\nNb.", "BUILD at byte 16 needs a call, not a name", id="state-of-a-name"),
        pytest.param(b"\x80\x02q\x00.", "BINPUT at byte 2 doesn't fit", id="memo-of-nothing"),
        pytest.param(b"\x80\x02\x86.", "TUPLE2 at byte 2 takes more than the stack holds", id="tuple-of-nothing"),
        pytest.param(b"\x80\x02.", "STOP at byte 2 doesn't fit", id="nothing"),
        pytest.param(b"\x80\x02e.", "APPENDS at byte 2 doesn't fit", id="no-mark"),
        pytest.param(b"\x80\x02}K\x01a.", "APPEND at byte 5 needs a list, not a dict", id="append-to-a-dictionary"),
        pytest.param(b"\x80\x02}(U\x01au.", "SETITEMS at byte 7", id="a-key-without-a-value"),
        pytest.param(b"", "exhausted", id="empty"),
        pytest.param(make_batch([3, 9], PIXELS, rows=10**9), "shape (1000000000, 3072)", id="claims-10**9-rows"),
        pytest.param(make_batch([3, 9, 1], PIXELS), "shape (3, 3072) and 6144 bytes", id="missing-pixels"),
        pytest.param(make_batch([], b""), "shape (0, 3072)", id="no-images"),
        pytest.param(make_batch([1] * 3072, PIXELS, rows=3072, columns=2), "shape (3072, 2)", id="other-shape"),
        pytest.param(make_batch([3, 9], PIXELS, rows=-2), "shape (-2, 3072)", id="negative-rows"),
        pytest.param(make_batch([3, 9], PIXELS, kind=b"x" * 10**6), "uint8 in C order", id="endless-dtype"),
        pytest.param(make_batch([3, 9], PIXELS, order=b"<"), "uint8 in C order", id="other-byte-order"),
        pytest.param(make_batch([3, 9], PIXELS, fortran=True), "uint8 in C order", id="fortran-order"),
        pytest.param(HONEST.replace(b"U\x01b", b"U\x01c"), "NumPy array", id="not-made-of-bytes"),
        pytest.param(make_batch([3, 9], PIXELS, maker=DTYPE), "NumPy array", id="another-maker"),
        pytest.param(b"\x80\x02}(U\x06labels]U\x04dataK\x01u.", "NumPy array", id="no-array"),
        pytest.param(STATELESS, "NumPy array", id="array-without-state"),
        pytest.param(make_batch([3, 10], PIXELS), "label 1 isn't a number from 0 to 9", id="label-10"),
        pytest.param(make_batch([-1, 3], PIXELS), "label 0 isn't a number from 0 to 9", id="label--1"),
        pytest.param(make_batch([3, True], PIXELS), "label 1 isn't a number", id="bool-label"),
        pytest.param(make_batch([3, 9, 1], PIXELS, rows=2), "a list of 2 numbers", id="too-many-labels"),
        pytest.param(make_batch([3, 9], PIXELS, without=b"labels"), "'labels'", id="no-labels"),
        pytest.param(make_batch([3, 9], PIXELS, without=b"data"), "'data'", id="no-data"),
        pytest.param(b"\x80\x02].", "it isn't a dictionary", id="no-dictionary"),
        pytest.param(HONEST + HONEST, f"{len(HONEST)} bytes follow its end", id="trailing-pickle"),
    ],
)
def test_a_dishonest_batch_is_refused_without_much_memory(raw: bytes, reason: str) -> None:
    tracemalloc.start()
    assert reason in refuse(raw)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * len(raw) + 50_000_000, "it made something far larger than itself"


def test_a_batch_of_too_many_opcodes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(safe_pickle, "MAX_OPCODES", 100)
    assert "it has more than 100 opcodes" in refuse(b"\x80\x02" + b"(K\x01" * 100 + b".")


def test_a_dictionary_or_a_list_may_be_filled_one_by_one() -> None:
    assert load(b"\x80\x02}U\x01aK\x01s.") == {"a": 1}
    assert load(b"\x80\x02]K\x02a.") == [2]


def test_a_batch_cut_off_at_any_byte_is_refused() -> None:
    for end in range(len(HONEST)):
        refuse(HONEST[:end])


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
