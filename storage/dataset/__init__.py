"""Datasets: image sets in any backend, saved atomically and verified when they are read.

On disk: ``manifest.json`` (see `manifest`); ``checksums``, little-endian integers of 64 bits: for each part one per
record, then one per block of records (see `checksums`); and ``part-00000`` and so on, each a plain store of the
backend. An array is one part; batches are gathered into parts of 128 MiB.
"""

from .reading import load, open  # noqa: A004 - used as storage.open
from .report import Report, check
from .saving import save

__all__ = ["Report", "check", "load", "open", "save"]
