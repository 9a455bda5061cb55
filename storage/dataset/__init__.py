"""Datasets: image sets that survive, in any backend. Whole or absent, right or refused.

On disk: ``manifest.json`` (see `storage.dataset.manifest`), ``checksums``, little-endian integers of 64 bits: for each
part one a record, then one a block of records (see `storage.dataset.checksums`), and ``part-00000`` and so on, each a
plain store of the backend. An array is one part; batches are gathered into parts of 128 MiB.
"""

from .reading import load, open  # noqa: A004 - used as storage.open
from .report import Report, check
from .saving import save

__all__ = ["Report", "check", "load", "open", "save"]
