"""Files: an ordinary file for each image, byte for byte, in folders.

On disk: ``3/00000007.jpg`` is image 7, with label 3: labels are padded with zeros to one length, so that the
alphabetical order of the folders is the order of the labels, as torchvision's ImageFolder assumes. The extension is
that of the content, or ``bin``. The folders are called by classes in place of labels if these are given and if that
changes no order: their names are in alphabetical order, can be those of folders, and no label is without one. So if
labels are 0..K-1, ImageFolder finds the same ones. If names are given, they are the paths, whatever it makes of them.
``index.tsv`` says what counts: a line ``images=10 characters=25``, a line ``label``, ``bytes``, ``path``, then for each
image, in order, these three, with tabs between them. Blanks before the labels bring all lines to one length, so one is
found without reading the others. If classes have names, the first line ends with ``classes=15``, and the second one has
as many bytes: the list of these names as JSON. The index is written last, so a store without it isn't complete.

Why it is fast: a read opens a file by its path in an open directory, reads it into its place with one call, which also
tries to read a byte more, and closes it. NumPy parses the numbers of the index when a store is opened.

What is checked: paths stay inside the store, folders and files aren't links, and a file has as many bytes as the index
says.

Library: Python's os (https://docs.python.org/3/library/os.html).
"""

import json
import os
import platform
import re
import stat
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..arrays import LABEL, check_files, check_index, make_array, read_range, refuse_out
from ..contract import BackendInfo, Images, Labels
from ..encoded import Encoded, find_extension, measure_offsets
from ..errors import CorruptStoreError, InvalidInputError, reading, writing
from ..limits import MAX_MEMORY, check_memory, check_store, measure_content
from ..paths import LINK, READ, create_folder, open_first, open_folder, open_regular, write_file
from ..reader import Description, Reader

FILE = "index.tsv"
HEADER = re.compile(rb"images=(\d{1,12}) characters=([1-9]\d{0,4})(?: classes=([1-9]\d{0,8}))?\n")
COLUMNS = b"label\tbytes\tpath\n"
MAX_HEADER = 64  # bytes
INDEX_COPIES = 4  # of the index's bytes: its lines, their numbers, and what is made of them to read everything
OTHER = f"{FILE} has another header: another program wrote it"
INSIDE = os.fsencode(f"{FILE}/")
PART = rb"(?!\.\.?[/\n])[^/\x00-\x1f\x7f]++"
LINE = re.compile(rb" *+-?\d{1,19}\t\d{1,19}\t" + PART + rb"(?:/" + PART + rb")*+\n")
LINES = re.compile(rb"(?:" + LINE.pattern + rb")*+")
NAME = re.compile(r"(?!\.\.?(?:/|$))[^/\x00-\x1f\x7f-\x9f]+(?:/(?!\.\.?(?:/|$))[^/\x00-\x1f\x7f-\x9f]+)*")
MAX_NAME, MAX_PATH = 255, 2047  # bytes: Linux allows 4,095 for a path, the folder of the store included
INFO = BackendInfo({"python": platform.python_version()}, "the Python core team", "PSF-2.0", kinds=("encoded",))


class Index(NamedTuple):
    """The header of the index; `start` is its length, `length` that of a line, `classes` the names in it."""

    images: int
    length: int
    start: int
    classes: tuple[str, ...]


def store_many(
    store: Path,
    images: Images | Encoded,
    labels: Labels,
    *,
    names: Sequence[str] | None = None,
    classes: Sequence[str] | None = None,
) -> None:
    """Store an image set; see `storage.Backend`."""
    files, labels = check_files(images, labels)
    listed = _format_classes(classes or ())
    with writing(store):
        paths = _check_names(_choose_names(files, labels.tolist(), classes or ()) if names is None else names)
        if len(paths) != len(files):
            raise InvalidInputError(f"{len(files)} images and {len(paths)} names", hint="give each image one name")
        folders = _check_places(paths)
        rows = zip(labels.tolist(), files.lengths.tolist(), paths, strict=True)
        lines = [b"%d\t%d\t%b" % row for row in rows]
    length = max(map(len, lines), default=1)
    named = b" classes=%d" % len(listed) if listed else b""
    header = b"images=%d characters=%d%b\n%b%b" % (len(lines), length, named, listed, COLUMNS)
    with create_folder(store) as folder:
        for name in sorted(folders):
            os.mkdir(name, dir_fd=folder)
        for path, file in zip(paths, files, strict=True):
            write_file(folder, path, file)
        write_file(folder, FILE, header + b"".join(line.rjust(length) + b"\n" for line in lines))


def read_single(store: Path, index: int) -> tuple[bytes, int]:
    """Read one image out of a store of any size; see `storage.Backend`."""
    with open_folder(store, FILE) as folder:
        with _open_index(store, folder) as (header, descriptor, _):
            position = check_index(store, index, header.images)
            line = os.pread(descriptor, header.length, header.start + position * header.length)
        if not LINE.fullmatch(line):
            raise CorruptStoreError(f"{FILE} has the line {line!r:.200}", store=store, record=position)
        label, size, path = line[:-1].split(b"\t")
        if not LABEL.min <= int(label) <= LABEL.max:
            raise CorruptStoreError(f"{FILE} has a label of more than 64 bits", store=store, record=position)
        check_store(store, int(size))
        content = make_array(store, (int(size),))
        _check_folders(store, folder, path)
        _read_file(store, folder, position, path, content)
        return content.tobytes(), int(label)


def read_many(store: Path, out: Images | None = None) -> tuple[Encoded, Labels]:
    """Read everything, in order; see `storage.Backend`."""
    with FilesReader(store) as reader:
        refuse_out(store, out)
        return reader.read_encoded(range(len(reader)))


def find_pixels(store: Path) -> dict[str, list[range]]:
    """Find the files of images; see `storage.Backend`."""
    with FilesReader(store) as reader, reading(store):
        return {os.fsdecode(path): [range(size)] for path, size in reader.list_files()}


class FilesReader(Reader):
    """Keeps the index and an open directory; opens a file for each image."""

    def _open(self) -> Description:
        with ExitStack() as stack:
            self._folder = stack.enter_context(open_folder(self.store, FILE))
            lines = self._read_lines()
            self._resources = stack.pop_all()
        count, length = lines.shape
        tabs = np.nonzero(lines == ord("\t"))[1].reshape(count, 2)
        self._labels, self._sizes = (_parse_numbers(lines, *ends) for ends in ((-1, tabs[:, 0]), tabs.T))
        places = np.arange(count) * length
        self._starts, self._ends = places + tabs[:, 1] + 1, places + length - 1  # of the paths
        self._text, self._folders = lines.tobytes(), set[bytes]()
        return Description(count)

    def _read_lines(self) -> NDArray[np.uint8]:
        with _open_index(self.store, self._folder) as (header, descriptor, status):
            check_memory(self.store, INDEX_COPIES * status.st_size, measure_content(descriptor, status))
            self._classes = header.classes
            lines = make_array(self.store, (header.images, header.length))
            read_range(self.store, descriptor, header.start, lines)
        ends = lines == ord("\n")
        if not LINES.fullmatch(lines.reshape(-1).data) or ends.sum() != header.images or not ends[:, -1].all():
            raise CorruptStoreError(
                f"{FILE} has lines other than a label, a number of bytes and a path inside the store", store=self.store
            )
        return lines

    @property
    def names(self) -> Sequence[str]:
        """The paths of the files."""
        self._be_ready()
        return [os.fsdecode(path) for path, _ in self.list_files()]

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the labels 0, 1, ...; empty if they weren't given."""
        return self._classes

    def list_files(self) -> Iterator[tuple[bytes, int]]:
        """List the path of each image, and its bytes."""
        places = zip(self._starts.tolist(), self._ends.tolist(), self._sizes.tolist(), strict=True)
        return ((self._text[start:end], size) for start, end, size in places)

    def _read_encoded(self, positions: NDArray[np.intp]) -> tuple[Encoded, Labels]:
        offsets = measure_offsets(self._sizes[positions])
        if offsets[-1] > MAX_MEMORY:
            check_store(self.store, sum(self._sizes[np.unique(positions)].tolist()))
        content = make_array(self.store, (int(offsets[-1]),))
        paths = zip(self._starts[positions].tolist(), self._ends[positions].tolist(), strict=True)
        places = pairwise(offsets.tolist())
        view, end_of_file = content.data, bytearray(1)
        for position, (first, last), (start, end) in zip(positions.tolist(), paths, places, strict=True):
            path = self._text[first:last]
            folder = path.rpartition(b"/")[0]
            if folder not in self._folders:
                _check_folders(self.store, self._folder, path)
                self._folders.add(folder)
            if not self._read_quickly(path, [view[start:end], end_of_file]):
                _read_file(self.store, self._folder, position, path, content[start:end])
        return Encoded(content, offsets), self._labels[positions]

    def _read_quickly(self, path: bytes, buffers: list[bytearray | memoryview]) -> bool:
        """Read a file whose bytes fill the first buffer and leave the second empty; return whether that is so."""
        try:
            descriptor = os.open(path, READ, dir_fd=self._folder)
        except OSError:
            return False
        try:
            return os.preadv(descriptor, buffers, 0) == len(buffers[0])
        except OSError:
            return False
        finally:
            os.close(descriptor)

    def _find_name(self, position: int) -> str | None:
        return os.fsdecode(self._text[self._starts[position] : self._ends[position]])

    def _read_labels(self) -> Labels:
        return self._labels.copy()

    def _close(self) -> None:
        del self._text, self._labels, self._sizes, self._starts, self._ends
        self._resources.close()


open_reader = FilesReader


def check_names(names: Iterable[str]) -> None:
    """Refuse names that can't be those of files; see `storage.Backend`."""
    _check_places(_check_names(names))


def _choose_names(files: Encoded, labels: Sequence[int], classes: Sequence[str]) -> Iterator[str]:
    """Choose a folder by the label, and a name by the index and the content."""
    folders = _choose_folders(set(labels), classes)
    for index, (label, file) in enumerate(zip(labels, files, strict=True)):
        yield f"{folders[label]}/{index:08}.{find_extension(file)}"


def _choose_folders(labels: Collection[int], classes: Sequence[str]) -> dict[int, str]:
    """Call the folder of each label by its class if their alphabetical order is that of the labels; else by number."""
    are_ordered = [*classes] == sorted(classes) and set(labels) <= set(range(len(classes)))
    if are_ordered and all(map(_can_be_folder, classes)):
        return {label: classes[label] for label in labels}
    digits = max((len(str(label)) for label in labels), default=1)
    return {label: f"{label:0{digits}}" for label in labels}


def _can_be_folder(name: str) -> bool:
    with suppress(InvalidInputError):
        return bool(_check_names([name])) and "/" not in name and name != FILE
    return False


def _format_classes(classes: Sequence[str]) -> bytes:
    """Make the line of the names of classes, if there are any; refuse what aren't distinct strings."""
    if not _are_names(classes):
        raise InvalidInputError("classes aren't distinct strings", hint="give the names of the labels 0, 1, ...")
    return json.dumps([*classes]).encode() + b"\n" if classes else b""


def _parse_classes(store: Path, line: bytes) -> tuple[str, ...]:
    with reading(store, TypeError):
        names = json.loads(line or b"[]")
        if not line.endswith(b"\n" * bool(line)) or not _are_names(names):
            raise ValueError(f"its classes are {line!r:.200}")
        return tuple(names)


def _are_names(classes: Any) -> bool:  # noqa: ANN401 - whatever a caller or a file gives
    are_texts = isinstance(classes, Sequence) and all(isinstance(name, str) for name in classes)
    return are_texts and not isinstance(classes, str) and len(set(classes)) == len(classes)


def _check_names(names: Iterable[Any]) -> list[bytes]:
    """Refuse what can't be a path inside a store; return the paths as the operating system has them."""
    paths = []
    for number, name in enumerate(names):
        try:
            path = os.fsencode(name) if NAME.fullmatch(name) else b""
        except (TypeError, UnicodeEncodeError):
            path = b""
        if not path:
            hint = "give relative paths without '.', '..' and control characters"
            shown = name if isinstance(name, str) else repr(name)
            raise InvalidInputError("its name can't be the path of a file", record=number, name=shown, hint=hint)
        if len(path) > MAX_PATH or max(map(len, path.split(b"/"))) > MAX_NAME:
            problem = f"its name is too long: a path has at most {MAX_PATH:,} bytes, each part of it {MAX_NAME}"
            raise InvalidInputError(problem, record=number, name=name, hint="shorten it")
        paths.append(path)
    return paths


def _check_places(paths: Sequence[bytes]) -> set[bytes]:
    """Refuse paths of which one is that of another file, or of a folder; return the folders."""
    folders: set[bytes] = set()
    for path in paths:
        parent = path.rpartition(b"/")[0]
        while parent and parent not in folders:
            folders.add(parent)
            parent = parent.rpartition(b"/")[0]
    taken = folders | {os.fsencode(FILE)}
    for number, path in enumerate(paths):
        if path in taken or path.startswith(INSIDE):
            problem = "its name is that of another file or folder of the store"
            raise InvalidInputError(problem, record=number, name=os.fsdecode(path), hint="give each image its own")
        taken.add(path)
    return folders


@contextmanager
def _open_index(store: Path, folder: int) -> Iterator[tuple[Index, int, os.stat_result]]:
    """Open the index; yield its header, its descriptor and its status."""
    descriptor, status = open_first(store, folder, FILE)
    try:
        match = HEADER.match(os.pread(descriptor, MAX_HEADER, 0))
        if match is None:
            raise CorruptStoreError(OTHER, store=store)
        images, characters, classes = map(int, match.groups(b"0"))
        check_memory(store, classes, measure_content(descriptor, status))
        rest = os.pread(descriptor, classes + len(COLUMNS), match.end())
        if rest[classes:] != COLUMNS:
            raise CorruptStoreError(OTHER, store=store)
        header = Index(images, characters + 1, match.end() + len(rest), _parse_classes(store, rest[:classes]))
        expected = header.start + images * header.length
        if status.st_size != expected:
            raise CorruptStoreError(f"{FILE} has {status.st_size} bytes, not {expected}: it is damaged", store=store)
        yield header, descriptor, status
    finally:
        os.close(descriptor)


def _parse_numbers(lines: NDArray[np.uint8], start: Any, end: Any) -> NDArray[np.int64]:  # noqa: ANN401 - columns
    """Parse the numbers between two columns, exclusive, of each line."""
    columns = np.arange(lines.shape[1])
    inside = (columns > np.reshape(start, (-1, 1))) & (columns < np.reshape(end, (-1, 1)))
    text = np.where(inside, lines, np.uint8(ord(" ")))
    return text.view(f"S{lines.shape[1]}").reshape(-1).astype(np.int64)


def _check_folders(store: Path, folder: int, path: bytes) -> None:
    """Refuse the path of a file if a link is on the way."""
    parts = path.split(b"/")[:-1]
    for count in range(1, len(parts) + 1):
        part = b"/".join(parts[:count])
        try:
            mode = os.stat(part, dir_fd=folder, follow_symlinks=False).st_mode
        except FileNotFoundError:
            return  # the file is missing, too
        if stat.S_ISLNK(mode):
            raise CorruptStoreError(LINK, store=Path(store, os.fsdecode(part)))


def _read_file(store: Path, folder: int, position: int, path: bytes, content: NDArray[np.uint8]) -> None:
    """Read the file of an image, or say why that is impossible."""
    name = os.fsdecode(path)
    try:
        descriptor, status = open_regular(path, folder, store)
    except (FileNotFoundError, NotADirectoryError):
        raise CorruptStoreError("its file is missing", store=store, record=position, name=name) from None
    try:
        if status.st_size != len(content):
            problem = f"its file has {status.st_size} bytes, not {len(content)}"
            raise CorruptStoreError(problem, store=store, record=position, name=name)
        read_range(store, descriptor, 0, content)
    finally:
        os.close(descriptor)
