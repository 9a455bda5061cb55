"""Datasets: image sets in any backend, saved atomically and verified when they are read.

On disk: ``manifest.json`` (see `manifest`), which names the parts, such as ``part-00003-5d1c0a9e``. Each is a plain
store of the backend. Beside it are ``<part>.json`` (see `details`); ``<part>.checksums``, little-endian integers of 64
bits: one per record, then one per block of records of pixels (see `checksums`); ``<part>.labels``, likewise one per
record; and, if there are any, ``<part>.names`` (see `names`), the table of `metadata`, and ``<part>.skipped``, a list
in JSON of what was left out and why. An array is one part; batches are gathered into parts of 128 MiB.
"""

from .appending import append, compact
from .reading import load, open  # noqa: A004 - used as storage.open
from .report import Report, check
from .saving import save

__all__ = ["Report", "append", "check", "compact", "load", "open", "save"]
