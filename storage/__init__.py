"""How images are stored: one module a backend, all with the same functions, and one layer over all of them.

`save`, `load`, `open` and `check` keep image sets that survive: whole or absent, right or refused, in any backend. The
backends themselves are plain: `Backend` is their contract, `BACKENDS` holds those that are here.
"""

from .contract import Backend, BackendInfo, Image, Images, Labels
from .dataset import Report, check, load, open, save  # noqa: A004 - used as storage.open
from .errors import (
    BackendUnavailableError,
    CorruptStoreError,
    ForkedWriterError,
    InvalidInputError,
    ReaderClosedError,
    RecordNotFoundError,
    StorageError,
    StoreExistsError,
    StoreFullError,
    StoreLockedError,
    StoreNotFoundError,
)
from .reader import Reader
from .registry import BACKENDS, UNAVAILABLE

__all__ = [
    "BACKENDS",
    "UNAVAILABLE",
    "Backend",
    "BackendInfo",
    "BackendUnavailableError",
    "CorruptStoreError",
    "ForkedWriterError",
    "Image",
    "Images",
    "InvalidInputError",
    "Labels",
    "Reader",
    "ReaderClosedError",
    "RecordNotFoundError",
    "Report",
    "StorageError",
    "StoreExistsError",
    "StoreFullError",
    "StoreLockedError",
    "StoreNotFoundError",
    "check",
    "load",
    "open",
    "save",
]
