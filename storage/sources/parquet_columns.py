"""Which columns of a Parquet file hold image files, their names, labels and metadata; all others are left out.

Image files are in a struct of ``bytes`` and ``path``, as the Hugging Face hub has them, or binary. If there are several
such columns, those count that the schema's metadata ``huggingface`` calls images, and of these the one named ``image``.
The label is the column ``label``, or else the first one that the hub calls a class label, or else the only one of
integers. Numbers, strings and lists of these become metadata. The format:
https://huggingface.co/docs/datasets/image_dataset.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..dataset.metadata import MAX_DEPTH
from ..errors import InvalidInputError

KIND = "a Parquet file"
IMAGE, BYTES, PATH, LABEL = "image", "bytes", "path", "label"
BINARY = {"binary", "large_binary", "binary_view"}
TEXT = {"string", "large_string", "string_view"}


class Columns(NamedTuple):
    """The columns of a file by their use, named as Parquet does: ``image.bytes`` is in a struct."""

    image: str
    path: str | None
    label: str | None
    others: tuple[str, ...]
    classes: tuple[str, ...]

    @property
    def described(self) -> list[str]:
        """The columns that describe images."""
        return [name for name in (self.path, self.label, *self.others) if name is not None]


class _Features(NamedTuple):
    """What the hub says about columns: which are images, and the names of classes by the column of their labels."""

    images: frozenset[str] = frozenset()
    classes: Mapping[str, tuple[str, ...]] = {}


def choose_columns(path: Path, schema: Any) -> tuple[Columns, dict[str, str]]:  # noqa: ANN401 - of pyarrow
    """Choose the columns that are read; return also why each of the others is left out."""
    from pyarrow import types  # noqa: PLC0415 - optional

    kinds = dict(zip(schema.names, map(_decode, schema.types), strict=True))
    inner = {name: {each.name: each.type for each in kind} for name, kind in kinds.items() if types.is_struct(kind)}
    _check_names(path, [*schema.names, *(f"{name}.{each}" for name, fields in inner.items() for each in fields)])
    features = _read_features(schema.metadata)
    image = _choose_image(path, kinds, inner, features)
    others = [name for name in kinds if name != image]
    label = _choose_label({name: kinds[name] for name in others}, features)
    kept = [name for name in others if name != label and _is_kept(kinds[name], 0)]
    left_out = {name: f"it is of type {kinds[name]!s:.80}" for name in others if name not in {*kept, label}}
    is_struct = image in inner
    columns = Columns(
        f"{image}.{BYTES}" if is_struct else image,
        f"{image}.{PATH}" if is_struct and str(inner[image].get(PATH)) in TEXT else None,
        label,
        tuple(kept),
        features.classes.get(label or "", ()),
    )
    return columns, left_out


def _choose_image(path: Path, kinds: Mapping[str, Any], inner: Mapping[str, Any], features: _Features) -> str:
    structs = [name for name, fields in inner.items() if str(fields.get(BYTES)) in BINARY]
    declared = [name for name in structs if name in features.images]
    found = declared or structs or [name for name, kind in kinds.items() if str(kind) in BINARY]
    if len(found) == 1 or IMAGE in found:
        return IMAGE if IMAGE in found else found[0]
    held = ", ".join(f"{name} {kind!s:.80}" for name, kind in kinds.items())
    which = f"more than one of its columns holds files: {', '.join(found)}" if found else "no column holds files"
    hint = f"name that of the images {IMAGE!r}" if found else "give a struct of bytes and path, as the hub has it"
    raise InvalidInputError(f"it is {KIND}, and {which:.300}; it has {held:.500}", store=path, hint=hint)


def _choose_label(kinds: Mapping[str, Any], features: _Features) -> str | None:
    """Choose the column of labels; booleans and strings are labels only in a column of that name."""
    from pyarrow import types  # noqa: PLC0415 - optional

    integers = [name for name, kind in kinds.items() if types.is_integer(kind)]
    named = kinds.get(LABEL)
    if named is not None and (LABEL in integers or types.is_boolean(named) or str(named) in TEXT):
        return LABEL
    declared = [name for name in integers if name in features.classes]
    return declared[0] if declared else integers[0] if len(integers) == 1 else None


def _decode(kind: Any) -> Any:  # noqa: ANN401 - of pyarrow
    """Find the type of the values of a dictionary, which stands for them."""
    from pyarrow import types  # noqa: PLC0415 - optional

    return kind.value_type if types.is_dictionary(kind) else kind


def _is_kept(kind: Any, depth: int) -> bool:  # noqa: ANN401 - of pyarrow
    """Whether metadata can hold values of a type: numbers, strings, and lists of these."""
    from pyarrow import types  # noqa: PLC0415 - optional

    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return depth < MAX_DEPTH and _is_kept(kind.value_type, depth + 1)
    return str(kind) in TEXT or types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)


def _check_names(path: Path, names: Sequence[str]) -> None:
    ((name, count),) = Counter(names).most_common(1) or [("", 0)]
    if count > 1:
        raise InvalidInputError(f"it is {KIND}, and has {count} columns {name}", store=path, hint="rename all but one")


def _read_features(metadata: Mapping[bytes, bytes] | None) -> _Features:
    try:
        features = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
    except (LookupError, ValueError, TypeError, RecursionError):
        return _Features()
    found = features if isinstance(features, dict) else {}
    kinds = {name: feature.get("_type") for name, feature in found.items() if isinstance(feature, dict)}
    named = {name: found[name].get("names") for name, kind in kinds.items() if kind == "ClassLabel"}
    classes = {
        name: tuple(names)
        for name, names in named.items()
        if isinstance(names, list) and all(isinstance(each, str) for each in names)
    }
    return _Features(frozenset(name for name, kind in kinds.items() if kind == "Image"), classes)
