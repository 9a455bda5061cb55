"""Where a dataset is: a path, or the URL of a prefix in a bucket."""

import os
import re
from pathlib import Path, PurePosixPath
from typing import TypeAlias
from urllib.parse import unquote_to_bytes

from .errors import InvalidInputError

SCHEMES = ("s3", "gs", "az")
SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):/")
PLACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{2,62}")  # the name of a bucket, or of a container of Azure
HINT = "give a path, or a URL such as s3://bucket/prefix (or gs://, az://)"
ANSWER_HINT = "see what is between this machine and the server, such as a proxy that asks for a password"


class Url(PurePosixPath):
    """A URL such as ``s3://bucket/prefix``, which is joined and taken apart as a path is; make it with `find_location`.

    Examples
    --------
    >>> url = find_location("s3://bucket/photos") / "manifest.json"
    >>> print(url)
    s3://bucket/photos/manifest.json
    >>> url.bucket, url.prefix, url.name
    ('bucket', 'photos/manifest.json', 'manifest.json')
    """

    def __str__(self) -> str:
        """Return the URL; of a relative one, what would be joined."""
        joined = "/".join(self.parts)
        return joined.replace("/", "//", 1) if self.scheme in SCHEMES else joined

    def __repr__(self) -> str:
        """Return an expression that gives the same URL."""
        return f"{type(self).__name__}({str(self)!r})"

    def __fspath__(self) -> str:
        """Refuse to be taken for a path of the file system."""
        raise TypeError(f"{self} is a URL, not a path")

    @property
    def scheme(self) -> str:
        """What comes before the colon."""
        return self.parts[0].removesuffix(":") if self.parts else ""

    @property
    def bucket(self) -> str:
        """The bucket, or the container."""
        return self.parts[1]

    @property
    def prefix(self) -> str:
        """What is after the bucket; empty for all of it."""
        return "/".join(self.parts[2:])


Location: TypeAlias = Path | Url


def find_location(path: Path | Url | str) -> Location:
    """Take a URL of a bucket apart; anything else is a path. Refusals don't repeat what may hold a secret."""
    if isinstance(path, Url):
        return path
    text = str(path)
    found = SCHEME.match(text)
    scheme = found[1].lower() if found else ""
    if not found or not (isinstance(path, str) and text.startswith("/", found.end())):
        if scheme in {*SCHEMES, "file"}:
            hint = "give the URL as a string: a Path keeps one slash of two"
            raise InvalidInputError(f"{scheme}:/ begins neither a path nor a URL", hint=hint)
        return Path(path)
    rest = text[found.end() + 1 :]
    if scheme == "file":
        return _find_path(rest)
    if scheme not in SCHEMES:
        raise InvalidInputError(f"no bucket has a URL with {scheme}://", hint=HINT)
    _refuse_extras(scheme, rest)
    bucket, _, prefix = rest.removesuffix("/").partition("/")
    if PLACE.fullmatch(bucket) is None:
        raise InvalidInputError(f"the {scheme}:// URL names no bucket", hint=HINT)
    if prefix and any(part in {"", ".", ".."} for part in prefix.split("/")):
        raise InvalidInputError(f"the {scheme}:// URL has an empty part, '.' or '..'", hint=HINT)
    return Url(f"{scheme}:", rest)


def _refuse_extras(scheme: str, rest: str) -> None:
    """Refuse what else a URL may have, such as a password."""
    user = rest.partition("/")[0].rpartition("@")[1]
    found = [what for what, mark in (("a user", user), ("a query", "?" in rest), ("a fragment", "#" in rest)) if mark]
    if found:
        hint = "leave it out: credentials and endpoints come from the environment"
        raise InvalidInputError(f"the {scheme}:// URL has {found[0]}", hint=hint)
    if not rest.isprintable() or "\\" in rest:
        problem = f"the {scheme}:// URL has a backslash, or a character that can't be printed"
        raise InvalidInputError(problem, hint="choose another name: not every server keeps such names")


def _find_path(rest: str) -> Path:
    host, slash, path = rest.partition("/")
    if host not in {"", "localhost"} or not slash or "?" in path or "#" in path:
        raise InvalidInputError("the file:// URL isn't that of a path on this machine", hint="give the path instead")
    return Path(os.fsdecode(unquote_to_bytes(f"/{path}")))
