"""Conversion of any source into a dataset; one that ended too early goes on behind its last finished part."""

from collections.abc import Callable
from pathlib import Path

from ..errors import StorageError, UnfinishedConversionError
from ..sources.source import Source
from .writer import Writer


def convert(
    source: Source, destination: Path, backend: str, *, overwrite: bool, progress: Callable[[int, int], None]
) -> int:
    """Save all images of a source as a dataset.

    Parameters
    ----------
    source : Source
    destination : Path
        Where the dataset will be; the folder above must exist.
    backend : str
        A name in `storage.BACKENDS`.
    overwrite : bool
        Replace a dataset that is there.
    progress : callable
        Called with the number of images that were taken and of all, at the beginning and after each batch.

    Returns
    -------
    int
        How many images an earlier conversion of the same source had finished.

    Raises
    ------
    StorageError
        As `storage.save` raises them, before any image was read.
    UnfinishedConversionError
        It failed after that; or the source was changed meanwhile, so that what was read may be a mixture.
    """
    count = len(source.labels)
    with Writer(
        destination,
        source.labels,
        backend,
        durable=True,
        overwrite=overwrite,
        classes=source.classes,
        source=source.identity,
    ) as writer:
        finished = writer.done
        try:
            progress(finished, count)
            for batch in source.read(finished):
                (writer.add if count else writer.write_part)(batch)  # without images, the batch says their size
                progress(writer.done, count)
            is_changed = source.identify() != source.identity
            if not is_changed:
                writer.commit()
        except StorageError as error:
            waiting = (
                f"; {writer.finished:,} images wait in .{destination.name}.tmp-* beside it: the same conversion goes "
                "on behind them, unless its source was changed"
            )
            raise UnfinishedConversionError(f"{error}{waiting if writer.finished else ''}") from error
        if is_changed:
            raise UnfinishedConversionError(
                f"{destination}: nothing was saved, as the source was changed while it was read: end what writes to "
                "it, then convert it again, from the beginning"
            )
    return finished
