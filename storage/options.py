"""The options of `convert`, and what they choose."""

import argparse
import re

from .contract import Backend, Kind
from .dataset.conversion import FileSource, ImageSource
from .decoding import MAX_PIXELS
from .errors import InvalidInputError
from .pictures import Size
from .sources.archives import ArchiveSource
from .sources.folder import FolderSource
from .sources.payload import ENCODERS, FREE_PIXELS, MAX_QUALITY, PIXELS_PER_BYTE, Payload

CONVERT = """\
Save images as a dataset, from one of these:
  - a dataset, or its URL; each record is verified
  - a plain store of any backend, as its store_many wrote it
  - CIFAR-10 or CIFAR-100, as a folder or a .tar.gz: its training images
  - a .npy file, with labels in another one beside it: images.npy and labels.npy, or x.npy and y.npy
  - a .npz or HDF5 file that holds an array of images and, if there are labels, one of labels, whatever their names;
    strings are names of the images, or of the classes
  - MNIST's files (IDX), packed or not: name the one of images; the one of labels is beside it
  - a .zip or .tar of image files, packed or not, or a folder of .tar shards, as for webdataset. The folders directly in
    it are the classes, or those in the one folder that holds all, unless 000123.cls holds the label of 000123.jpg;
    000123.json and 000123.txt become metadata, and other files of such a sample are left out
  - a Parquet file with a column of image files, as the Hugging Face hub has it, or a folder with the shards of a split
  - a folder of image files (AVIF, BMP, GIF, JPEG, JPEG 2000, PCX, PNG, PPM, SGI, TGA, TIFF or WebP, if this Pillow
    reads it), in folders of any depth, of any sizes. The folders directly in it are the classes; if there are none, all
    images are of one class. Folders and files are read in natural order: 2 before 10. Links are followed. Names that
    begin with a dot, Thumbs.db, desktop.ini and __MACOSX are ignored.

Image files are saved byte for byte, and decoded when they are read: as 8-bit RGB, turned upright by their EXIF
orientation. --payload=pixels decodes them now. Either way, all are decoded once before anything is written, or with
workers as they are written. Files that
aren't images, damaged ones, those in no class, those that 8-bit RGB can't hold (see --allow), and, for pixels without
--size, those of another size than most are listed, each with the reason; --on-error says what happens then. An alpha
channel that is opaque everywhere is no loss, and of a phone's MPO only the first picture counts. Colour profiles are
kept in files, but not applied.

DESTINATION appears when it is complete. If a conversion was stopped, by a full disk or by a signal, the same command
resumes it after its last finished part (128 MiB of images): first it verifies all finished parts. If they are damaged,
or SOURCE or a library that makes pixels of its files was changed, it starts again. If SOURCE is changed meanwhile,
nothing is saved.
Exit codes: 0 saved, 1 some files can't be used, so nothing was written, or stopped in the middle, or saved but nothing
can be printed (the error says which), 2 wrong usage or input: nothing was written, 130 interrupted.
"""
SIZE = re.compile(r"([1-9][0-9]{0,8})(?:x([1-9][0-9]{0,8}))?")
FOR_FILES = ("payload", "size", "format", "quality", "allow", "on_error", "max_pixels")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments and options of `convert`."""
    add = parser.add_argument
    add("source", metavar="SOURCE", help="where the images are: a path, or the URL of a dataset")
    add_cache(parser)
    add(
        "destination",
        metavar="DESTINATION",
        help="where the dataset will be: a path, or a URL such as s3://bucket/photos",
    )
    add("--backend", required=True, metavar="NAME", help="how to store; an unknown name lists the backends")
    add("--overwrite", action="store_true", help="replace a dataset that is at DESTINATION")
    add(
        "--no-lock",
        action="store_false",
        dest="lock",
        help="for a file system without locks: make sure that nothing else reads or writes DESTINATION meanwhile",
    )
    add_workers(parser)
    _add_file_options(parser)


def add_cache(parser: argparse.ArgumentParser) -> None:
    """Add the option that chooses the cache."""
    default = "default FOLDER: $XDG_CACHE_HOME, or ~/.cache"
    where = "keep datasets in buckets in FOLDER/image-storage while they are read"
    parser.add_argument("--cache", metavar="FOLDER", help=f"{where} ({default})")


def add_workers(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose who does the work."""
    add = parser.add_mutually_exclusive_group().add_argument
    add(
        "--workers",
        type=_parse_count,
        metavar="N",
        help="share the work among N processes of this machine, at most four for each processor",
    )
    add(
        "--dask",
        type=_parse_address,
        metavar="ADDRESS",
        help="share it among the workers of this Dask scheduler, such as tcp://10.0.0.1:8786; they must find all files "
        "where they are here, and run as the same user",
    )


def _add_file_options(parser: argparse.ArgumentParser) -> None:
    """Add those that are about image files."""
    add = parser.add_argument
    add(
        "--payload",
        choices=("encoded", "pixels"),
        help="what is stored of each image file: the file (the default), or its pixels as 8-bit RGB, upright",
    )
    add(
        "--size",
        type=_parse_size,
        metavar="HxW",
        help="with --payload=pixels: scale each image, antialiased, until it covers H x W pixels (height x width), and "
        "crop its centre; 224 means 224x224. Without it, images of another size than most can't be used",
    )
    _add_rarer_options(parser)


def _add_rarer_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--format", choices=tuple(ENCODERS), help="encode each image file anew, upright; names stay as they are")
    add("--quality", type=int, metavar="N", help=f"with --format=jpeg or webp: from 1 to {MAX_QUALITY}, as Pillow's")
    add(
        "--class-depth",
        type=int,
        metavar="N",
        help="how deep in a folder or an archive the folders of the classes are (default: 1); 0: one class for all",
    )
    add(
        "--allow",
        type=lambda text: tuple(text.split(",")),
        metavar="LOSSES",
        help="what may be lost when files are decoded, separated by commas: transparency (the alpha channel is "
        "dropped), frames (the first one is read), depth (the upper 8 of 16 bits are kept). The dataset records this, "
        "and its reader does the same",
    )
    add(
        "--on-error",
        choices=("stop", "skip"),
        help="if some files can't be used: write nothing (the default), or save the others, and the list with them",
    )
    add(
        "--max-pixels",
        type=int,
        metavar="N",
        help=f"how many pixels an image file may have (default: {MAX_PIXELS:,}, or fewer if the file is small: "
        f"{FREE_PIXELS:,} and {PIXELS_PER_BYTE} for each byte)",
    )


def make_payload(options: argparse.Namespace, backend: Backend) -> Payload:
    """Make what the options choose; refuse what doesn't fit together, or what the backend can't store."""
    if (options.class_depth or 0) < 0:
        raise InvalidInputError(f"a class depth of {options.class_depth}", hint="give 0 or more")
    payload = Payload(
        options.payload or "encoded",
        options.size,
        options.format,
        options.quality,
        options.allow or (),
        options.max_pixels,
    )
    if options.payload or options.format:
        check_backend(options.backend, backend, payload.kind)
    return payload


def check_backend(name: str, backend: Backend, kind: Kind) -> None:
    """Refuse a backend that can't store what will come."""
    if kind not in backend.INFO.kinds:
        what = {"encoded": "image files", "pixels": "pixels"}[kind]
        hint = f"choose another backend{', or --payload=pixels' if kind == 'encoded' else ''}"
        raise InvalidInputError(f"{name} can't store {what}", hint=hint)


def check_options(options: argparse.Namespace, found: ImageSource | FileSource) -> None:
    """Refuse options that mean nothing for a source."""
    wrong = []
    if found.kind == "pixels":
        wrong = [name for name in FOR_FILES if getattr(options, name) not in {None, "pixels"}]
    has_folders = isinstance(found, FolderSource) or (isinstance(found, ArchiveSource) and not found.is_labelled)
    if options.class_depth is not None and not has_folders:
        wrong.append("class_depth")
    if wrong:
        what = "a folder or an archive whose folders are classes" if wrong == ["class_depth"] else "image files"
        option = f"--{wrong[0].replace('_', '-')}"
        raise InvalidInputError(f"{option} is for {what}", store=options.source, hint="leave it out")


def is_kept(options: argparse.Namespace, found: ImageSource | FileSource) -> bool:
    """Whether images are saved as they are: pixels, and files of a dataset or a store if no option is about files."""
    return hasattr(found, "read") and (
        found.kind == "pixels" or all(getattr(options, name) is None for name in FOR_FILES)
    )


def _parse_count(text: str) -> int:
    if not (text.isdecimal() and text.isascii() and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r} isn't a number of processes such as 4")
    return int(text)


def _parse_address(text: str) -> str:
    """Refuse what is no address of a scheduler, without repeating what may hold a secret."""
    if not text.strip():
        raise argparse.ArgumentTypeError("it is empty; give an address such as tcp://10.0.0.1:8786")
    if text == "local":
        raise argparse.ArgumentTypeError("local is no address; --workers N starts N processes of this machine")
    if any(mark in text for mark in "@?#"):
        raise argparse.ArgumentTypeError("the address has a user, a query or a fragment; leave it out")
    return text


def _parse_size(text: str) -> Size:
    found = SIZE.fullmatch(text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} isn't a size such as 224 or 224x320")
    size = Size(int(found[1]), int(found[2] or found[1]))
    if size.height * size.width > MAX_PIXELS:
        raise argparse.ArgumentTypeError(f"{text} is more than {MAX_PIXELS:,} pixels")
    return size
