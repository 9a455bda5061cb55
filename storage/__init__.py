"""How images are stored: one module per backend, all with the same functions, and datasets on top of any of them.

`save`, `load`, `open` and `check` keep datasets: written atomically, and verified when they are read. The backends
below are plain modules: `Backend` is their contract, and `BACKENDS` holds those that can be used.
"""

from .contract import Backend, BackendInfo, Image, Images, Labels
from .dataset import Report, append, check, compact, load, open, save  # noqa: A004 - used as storage.open
from .decoding import decode
from .encoded import Encoded
from .errors import (
    BackendUnavailableError,
    CorruptStoreError,
    DecodingError,
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
from .remote.cache import cache

__all__ = [
    "BACKENDS",
    "UNAVAILABLE",
    "Backend",
    "BackendInfo",
    "BackendUnavailableError",
    "CorruptStoreError",
    "DecodingError",
    "Encoded",
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
    "append",
    "cache",
    "check",
    "compact",
    "decode",
    "load",
    "open",
    "save",
]
