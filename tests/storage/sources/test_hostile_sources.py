"""Sources that claim, hide or refer to what they shouldn't: each is refused, in its own words, and costs little."""

import gzip
import os
import struct
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from storage import BACKENDS, StorageError
from storage.parquet_footer import read_footer, read_pages
from storage.sources.opening import open_source
from tests.support.cifar import join, regular
from tests.support.hostile import find_excess
from tests.support.image_files import make_picture, save
from tests.support.image_sets import make_set
from tests.support.source_files import make_idx, write_parquet

IMAGES, LABELS = make_set(4, 5, 7)
PNG = save(make_picture(), "png")
Write = Callable[[Path], object]


def make_npy(shape: object, descr: object = "|u1", *, order: bool = False, version: bytes = b"\1\0") -> bytes:
    """Make a .npy file of any header."""
    header = f"{{'descr': {descr!r}, 'fortran_order': {order}, 'shape': {shape}}}\n".encode()
    length = struct.pack("<H" if version == b"\1\0" else "<I", len(header))
    return b"\x93NUMPY" + version + length + header + IMAGES.tobytes()


NPY = make_npy((4, 5, 7, 3))


def npy(*arguments: Any, **options: Any) -> Write:  # noqa: ANN401 - those of `make_npy`
    return lambda path: path.write_bytes(make_npy(*arguments, **options))


def write_sparse_npy(path: Path) -> None:
    path.write_bytes(make_npy((1 << 30, 5, 7, 3)))
    os.truncate(path, len(make_npy((1 << 30, 5, 7, 3))) - IMAGES.nbytes + (105 << 30))


def write_beside_pipe(path: Path) -> None:
    np.save(path.with_name("images.npy"), IMAGES)
    os.mkfifo(path.with_name("labels.npy"))


def npz(members: Mapping[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> Write:
    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w", compression, compresslevel=1) as archive:
            for name, content in members.items():
                archive.writestr(f"{name}.npy", content)

    return write


def change(write: Write, before: bytes, after: bytes) -> Write:
    """Replace some bytes of a file, wherever they are."""

    def do(path: Path) -> None:
        write(path)
        content = path.read_bytes()
        assert before in content
        path.write_bytes(content.replace(before, after))

    return do


def write_references(path: Path) -> None:
    """Write an HDF5 file of 1,000 references to a string of 1 MiB."""
    with pytest.importorskip("h5py").File(path, "w") as file:
        file["images"] = np.zeros((1000, 1, 1, 5), np.uint8)
        file["names"] = ["x" * (1 << 20), *(f"{number:03}" for number in range(999))]
        place = file["names"].id.get_offset()
    content = bytearray(path.read_bytes())
    content[place : place + 16_000] = 1000 * content[place : place + 16]
    path.write_bytes(content)


def write_nested_heaps(path: Path) -> None:
    """Write an HDF5 file of 1,000 references to heaps, each of which has all that follow in it."""
    with pytest.importorskip("h5py").File(path, "w") as file:
        file["images"] = np.zeros((1000, 1, 1, 5), np.uint8)
        file["names"] = [f"{number:03}" for number in range(1000)]
        place = file["names"].id.get_offset()
    content = bytearray(path.read_bytes())
    for number in range(1000):
        struct.pack_into("<IQI", content, place + 16 * number, 3, len(content) + 32 * number, 1)
    for number in range(1000):
        rest = 32 * (999 - number)
        content += struct.pack("<4sB3xQHHIQ", b"GCOL", 1, 32 + rest, 1, 0, 0, rest)
    path.write_bytes(content)


def write_long_list(path: Path) -> None:
    """Write a zip file that has nothing but a list of members of 64 MiB."""
    size = 64 << 20
    path.write_bytes(b"PK\3\4" + bytes(size) + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, size, 4, 0))


def idx(shape: tuple[int, ...], content: bytes = IMAGES.tobytes(), kind: int = 8) -> Write:
    def write(path: Path) -> None:
        path.write_bytes(struct.pack(f">HBB{len(shape)}I", 0, kind, len(shape), *shape) + content)
        path.with_name("labels").write_bytes(make_idx(LABELS.astype(np.uint8)))

    return write


def pack(write: Write, extra: bytes = b"", cut: int = 0) -> Write:
    def do(path: Path) -> None:
        write(path)
        packed = gzip.compress(path.read_bytes() + extra, 1)
        path.write_bytes(packed[: len(packed) - cut])

    return do


def hdf5(make: Callable[[Any, Path], object]) -> Write:
    """Write an HDF5 file; the table's functions fill it."""

    def write(path: Path) -> None:
        h5py = pytest.importorskip("h5py")
        with h5py.File(path, "w") as file:
            make(file, path)

    return write


def write_virtual(file: Any, path: Path) -> None:  # noqa: ANN401 - of h5py
    h5py = pytest.importorskip("h5py")
    layout = h5py.VirtualLayout((4, 5, 7, 3), np.uint8)
    layout[...] = h5py.VirtualSource(str(path.with_name("other.h5")), "images", (4, 5, 7, 3))
    file.create_virtual_dataset("images", layout)


def link(kind: str, *target: str) -> Write:
    def make(file: Any, _: Path) -> None:  # noqa: ANN401 - of h5py
        file["images"] = getattr(pytest.importorskip("h5py"), kind)(*target)

    return hdf5(make)


def dataset(*shape: int, **options: Any) -> Write:  # noqa: ANN401 - of h5py
    return hdf5(lambda file, _: file.create_dataset("images", shape, np.uint8, **options))


def write_groups(file: Any, _: Path) -> None:  # noqa: ANN401 - of h5py
    file["images"] = IMAGES
    group = file.create_group("more")
    for number in range(1_001):
        group[str(number)] = file["images"]


def write_circle(file: Any, _: Path) -> None:  # noqa: ANN401 - of h5py
    file.create_group("circle")["again"] = file


def claim(size: int) -> Write:
    """Write a member that claims to have another size."""
    return change(npz({"a": NPY}, zipfile.ZIP_STORED), struct.pack("<L", len(NPY)), struct.pack("<L", size))


def tar(kind: bytes, size: int, *, name: str = "a.png", content: bytes = b"") -> Write:
    """Write an archive whose first member claims to have a size."""

    def write(path: Path) -> None:
        member = tarfile.TarInfo(name)
        member.type, member.size = kind, size
        rest = join(regular("b.png", PNG))
        path.write_bytes(member.tobuf(tarfile.GNU_FORMAT) + content.ljust(-(-len(content) // 512) * 512, b"\0") + rest)

    return write


def parquet(files: Callable[[], Any], **options: Any) -> Write:  # noqa: ANN401 - of pyarrow
    return lambda path: write_parquet(path, {"image": files()}, dictionary_pagesize_limit=1 << 30, **options)


def bomb(codec: str) -> Write:
    return parquet(lambda: [bytes(1 << 20)] * 100, use_dictionary=False, compression=codec)


def claim_pages(claimed: int, write: Write) -> Write:
    """Have the first page of a Parquet file claim another unpacked size, in as many bytes."""

    def encode(number: int, length: int = 0) -> bytes:
        groups = [(number << 1) >> shift & 0x7F for shift in range(0, max(7 * length, (number << 1).bit_length()), 7)]
        return bytes([*(group | 0x80 for group in groups[:-1]), groups[-1]])

    def do(path: Path) -> None:
        write(path)
        with path.open("rb") as file:
            chunk = read_footer(file.fileno())[0].chunks[0]
            true = encode(read_pages(file.fileno(), chunk)[0].unpacked)
        content = path.read_bytes()
        place = content.index(true, chunk.start)
        path.write_bytes(content[:place] + encode(claimed, len(true)) + content[place + len(true) :])

    return do


def write_endless_lengths(path: Path) -> None:
    """Write a page in which 12 bytes stand for 2**28 lengths of files."""
    options = {"use_dictionary": False, "column_encoding": {"image": "DELTA_LENGTH_BYTE_ARRAY"}}
    write_parquet(path, {"image": [b"x" * 100]}, compression="none", **options)
    lengths = b"\x80\x80\x80\x80\x01\x01\x80\x80\x80\x80\x01\0\0\0"
    content = path.read_bytes()
    start = content.index(b"\x80\x01\x04\x01")
    path.write_bytes(content[:start] + lengths + content[start + len(lengths) :])


def write_large_descriptions(path: Path) -> None:
    """Write columns whose values are repeated, and would take far more memory than the file has bytes."""
    lists = [[None, 1] * (1 << 20)]
    columns = {"image": [PNG], "text": ["x" * (60 << 20)], "lists": lists}
    write_parquet(path, columns, compression="zstd")


def change_footer(path: Path) -> None:
    """Write a file whose footer claims another number of rows."""
    write_parquet(path, {"image": [PNG] * 5})
    content = path.read_bytes()
    start = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    footer = content[start:].replace(b"\x16\x0a", b"\x16\x09")  # 5 becomes -5
    assert footer != content[start:]
    path.write_bytes(content[:start] + footer)


HOSTILE: dict[str, tuple[str, Write, str]] = {
    "many images": ("images.npy", npy((1 << 40, 5, 7, 3)), "don't fit an array of shape"),
    "absurd": ("images.npy", npy((10**30, 5, 7, 3)), "don't fit an array of shape"),
    "negative": ("images.npy", npy((-4, -5, 7, 3)), "don't fit an array of shape"),
    "no pixels": ("images.npy", npy((1 << 60, 0, 7, 3)), "don't fit|have no pixels"),
    "not a shape": ("images.npy", npy("'x'"), "it is a .npy file, and can't be read"),
    "nested": ("images.npy", npy("(" * 5_000), "it is a .npy file, and can't be read"),
    "long header": ("images.npy", npy("(1,)" + " " * 40_000), "it is a .npy file, and can't be read"),
    "claims a header": (
        "images.npy",
        lambda path: path.write_bytes(b"\x93NUMPY\2\0\xff\xff\xff\xff"),
        "it is a .npy file, and can't be read",
    ),
    "version": ("images.npy", npy((4, 5, 7, 3), version=b"\7\0"), "its format is of version 7.0"),
    "version 3": ("images.npy", npy((4, 5, 7, 3), version=b"\3\0"), ""),
    "true": ("images.npy", npy((True, 20, 7, 3)), r"can't be read \(its shape is \(True, 20, 7, 3\)\)"),
    "objects": ("images.npy", npy((4, 5, 7, 3), "|O"), "holds Python objects: unpickling them could run any program"),
    "fields": ("images.npy", npy((140,), [("r", "|u1"), ("g", "|u1"), ("b", "|u1")]), "isn't of images"),
    "fortran": ("images.npy", npy((4, 5, 7, 3), order=True), "in Fortran order"),
    "holes": ("images.npy", write_sparse_npy, "of them are on the disk"),
    "a pipe for labels": ("images.npy", write_beside_pipe, "labels.npy: it isn't a regular file"),
    "python 2": ("images.npy", npy("(4L, 5L, 7L, 3L)"), ""),
    "two arrays": ("a.npz", npz({"a": NPY, "b": NPY}), r"a \(4, 5, 7, 3\) uint8, b \("),
    "no labels": (
        "a.npz",
        npz({"x": NPY, "y": make_npy((105,), "<f4")}),
        r"at most one of labels: x \(4, 5, 7, 3\) uint8, y \(105,\) float32",
    ),
    "no members": ("a.npz", npz({}), "none of its 0 files is an image"),
    "many arrays": ("a.npz", npz(dict.fromkeys(map(str, range(101)), b"")), "more than 100 arrays"),
    "objects in a zip": ("a.npz", npz({"a": make_npy((4, 5, 7, 3), "|O")}), "and a holds Python objects"),
    "bzip2": ("a.npz", npz({"a": NPY}, zipfile.ZIP_BZIP2), "of a, it is compressed in the archive by another"),
    "twice": ("a.npz", change(npz({"a": NPY, "b": b""}), b"b.npy", b"a.npy"), "of a, it is there twice"),
    "claims more": ("a.npz", claim(1 << 25), "a.npz"),
    "a bomb": ("a.npz", claim(1 << 30), "may unpack to"),
    "a long list": ("a.npz", write_long_list, "its list of members has 67,108,864 bytes"),
    "empty zip": ("a.npz", lambda path: path.write_bytes(b"PK\5\6"), "it is a zip file, and can't be read"),
    "external link": ("a.h5", link("ExternalLink", "other.h5", "/images"), "images is a link, maybe to another file"),
    "soft link": ("a.h5", link("SoftLink", "/other"), "images is a link, maybe to another file"),
    "external values": (
        "a.h5",
        dataset(4, 5, 7, 3, external=[("/dev/zero", 0, 420)]),
        "values of images in other files",
    ),
    "virtual": ("a.h5", hdf5(write_virtual), "values of images in other files"),
    "another filter": ("a.h5", dataset(4, 5, 7, 3, compression="lzf"), "compressed by filter 32000"),
    "a huge chunk": ("a.h5", dataset(400, 500, 700, 3, chunks=(400, 500, 700, 3)), "a chunk of images takes"),
    "never written": ("a.h5", dataset(1 << 40, 5, 7, 3, chunks=(1, 5, 7, 3)), "may unpack to"),
    "many objects": ("a.h5", hdf5(write_groups), "more than 1,000 groups and datasets"),
    "deep groups": ("a.h5", hdf5(lambda file, _: file.create_group("/a" * 40)), "nested more than 32 deep"),
    "a circle": ("a.h5", hdf5(write_circle), "at most one of labels: none"),
    "strings": ("a.h5", hdf5(lambda file, _: file.create_dataset("images", data=["x"])), r"images \(1,\) strings"),
    "one long string": ("a.h5", write_references, "the list of its strings takes"),
    "nested heaps": ("a.h5", write_nested_heaps, "there is no heap at byte"),
    "no HDF5": (
        "a.h5",
        lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(99)),
        "it is an HDF5 file, and can't",
    ),
    "wide": ("images", idx((0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF)), "don't fit an array of shape"),
    "long": ("images", idx((4, 5, 7, 3), IMAGES.tobytes() + b"x"), "don't fit an array of shape"),
    "cut header": ("images", lambda path: path.write_bytes(b"\0\0\x08\3\0\0"), "an IDX file, .* can't be read"),
    "other labels": ("images", idx((2, 10, 7, 3)), "labels of shape .* for 2 images"),
    "packed wide": ("images", pack(idx((4, 1 << 20, 1 << 20, 3))), "may unpack to"),
    "packed long": ("images", pack(idx((4, 5, 7, 3)), b"x"), "more follows after 440 bytes"),
    "packed short": ("images", pack(idx((4, 6, 7, 3))), "it was cut short: 84 bytes are missing"),
    "no gzip": ("images", lambda path: path.write_bytes(b"\x1f\x8bnothing"), "compressed by gzip, and can't be read"),
    "packed and cut": ("images", pack(idx((4, 5, 7, 3)), cut=9), "can't be read"),
    "a negative size": ("a.tar", tar(tarfile.REGTYPE, -512), "it is a tar archive, and can't be read"),
    "a large member": ("a.tar", tar(tarfile.REGTYPE, 1 << 60), "it is a tar archive, and can't be read"),
    "a large folder": ("a.tar", tar(tarfile.DIRTYPE, 1 << 60), "it is a tar archive, and can't be read"),
    "a large name": ("a.tar", tar(tarfile.GNUTYPE_LONGNAME, 1 << 30), "a header has 1,073,741,824 bytes"),
    "a negative name": ("a.tar", tar(tarfile.GNUTYPE_LONGNAME, -1024), "a header has -1,024 bytes"),
    "large attributes": (
        "a.tar",
        tar(tarfile.XHDTYPE, 1 << 17, content=b"1" * (1 << 17)),
        "header has 131,072 bytes",
    ),
    "an archive that is a bomb": (
        "a.tar",
        pack(tar(tarfile.REGTYPE, 1 << 40)),
        "it is a tar archive, and can't be read",
    ),
    "a packed archive that is cut": (
        "a.tar",
        pack(tar(tarfile.REGTYPE, 0), cut=9),
        "it is a tar archive, and can't be",
    ),
    "a packed archive and more": ("a.tar", pack(tar(tarfile.REGTYPE, 0), b"x"), "doesn't end as one"),
    "many rows": ("a.parquet", parquet(lambda: [b""] * (1 << 21)), "the list of its rows takes"),
    "one large file, often": ("a.parquet", parquet(lambda: [bytes(3 << 20)] * 60, compression="none"), ""),
    "a large row group": ("a.parquet", parquet(lambda: [bytes(1 << 20)] * 150, use_dictionary=False), "a row group of"),
    **{
        f"a {codec} bomb": ("a.parquet", bomb(codec), "a row group of its images takes")
        for codec in ("gzip", "brotli", "lz4", "zstd")
    },
    **{
        f"a {codec} bomb that claims {claimed:,}": ("a.parquet", claim_pages(claimed, bomb(codec)), reason)
        for codec in ("gzip", "brotli", "lz4", "zstd")
        for claimed, reason in ((1_000, "it is a Parquet file, and can't be read"), ((1 << 31) - 1, "a row group of"))
    },
    "a dictionary that is a bomb": (
        "a.parquet",
        parquet(lambda: [bytes(30 << 20)] * 2, compression="zstd"),
        "a row group of its images takes",
    ),
    "endless lengths": ("a.parquet", write_endless_lengths, "image is encoded as DELTA_LENGTH_BYTE_ARRAY"),
    "large descriptions": ("a.parquet", write_large_descriptions, ""),
    "a negative number of rows": ("a.parquet", change_footer, "it is a Parquet file, and can't be read"),
    "no footer": ("a.parquet", lambda path: path.write_bytes(b"PAR1" + bytes(99) + b"PAR1"), "can't be read"),
}


def read(path: Path) -> None:
    with open_source(path) as source:
        is_pixels = hasattr(source, "read")
        for _batch in source.read(0) if is_pixels else source.read_files(range(len(source.labels))):
            pass


@pytest.mark.parametrize(
    ("name", "write", "reason"),
    [
        pytest.param(
            *case, marks=[pytest.mark.slow] if title.startswith(("a brotli bomb", "a gzip bomb", "a lz4 bomb")) else []
        )
        for title, case in HOSTILE.items()
    ],
    ids=HOSTILE,
)
def test_a_hostile_source_is_refused_and_costs_little(name: str, write: Write, reason: str, tmp_path: Path) -> None:
    path = tmp_path / name
    write(path)
    assert find_excess(BACKENDS["npy"], tmp_path, {"convert": lambda *_: read(path)}) == ""
    if not reason:
        read(path)
        return
    with pytest.raises(StorageError, match=reason):
        read(path)
