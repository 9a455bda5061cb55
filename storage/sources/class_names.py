"""Reads the names of the classes from ``batches.meta``, the pickle beside the CIFAR-10 batches.

It is not unpickled: the names stand in its opcodes, as one list of strings behind the string ``label_names``. So
nothing in it is run or built.
"""

import pickletools
from contextlib import closing
from pathlib import Path
from typing import Any

from fixtures.cifar10 import FOLDER, ImageSetNotFoundError

from .safe_pickle import PUTS, STRINGS, UnsafeInputError, read_archive

FILE = "batches.meta"
MAX_BYTES = 2**16  # the official one has 158
TEXTS = {*STRINGS, "SHORT_BINUNICODE"}
SLOTS = {*PUTS, "MEMOIZE"}  # where an unpickler would keep what it has


def read_class_names(path: Path) -> tuple[str, ...]:
    """Read the names of the classes.

    Parameters
    ----------
    path : Path
        The folder that holds the batches, or the archive.

    Returns
    -------
    tuple of str
        In the order of the labels; empty if there is no ``batches.meta``.

    Raises
    ------
    UnsafeInputError
        It is something else than a pickle with these names.
    """
    raw = _read_file(path)
    if raw is None:
        return ()
    try:
        return _find_names(raw)
    except Exception as error:
        raise UnsafeInputError(
            f"{FILE} of {path} does not say the names of the classes as the official one does ({error}): nothing in "
            "it was run; take the official one, or remove it: then classes have no names"
        ) from error


def _read_file(path: Path) -> bytes | None:
    try:
        if path.is_dir():
            with (path / FILE).open("rb") as file:
                return file.read(MAX_BYTES)
        with closing(read_archive(path, [f"{FOLDER}/{FILE}"], [0])) as members:
            return next(members)[1]
    except (FileNotFoundError, ImageSetNotFoundError):
        return None


def _find_names(raw: bytes) -> tuple[str, ...]:
    opcodes = [(code.name, value) for code, value, _ in pickletools.genops(raw[:MAX_BYTES]) if code.name not in SLOTS]
    texts = [_decode(value) if name in TEXTS else None for name, value in opcodes]
    start = texts.index("label_names") + 1
    end = start + [name for name, _ in opcodes[start:]].index("APPENDS")
    if [name for name, _ in opcodes[start : start + 2]] != ["EMPTY_LIST", "MARK"]:
        raise ValueError("no list follows label_names")
    names = tuple(text for text in texts[start + 2 : end] if text is not None)
    if len(names) != end - start - 2:
        raise ValueError("the list has something else than names")
    return names


def _decode(text: Any) -> str:  # noqa: ANN401 - what an opcode of `TEXTS` has: bytes, or a str
    return text.decode() if isinstance(text, bytes) else str(text)
