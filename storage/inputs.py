"""Images and labels as people have them become arrays, or image files, where nothing is lost by it.

PyTorch isn't imported: its tensors are recognized by their type.
"""

import operator
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from .encoded import Content, Encoded
from .errors import FOREIGN, InvalidInputError, StorageError

PLAIN_MODES = {"L", "RGB", "RGBA", "I;16", "I;16B", "F"}  # of Pillow: an array of the picture is all there is to it
IMAGE_AXES = 3  # at most: height, width, channels


def take_images(images: Any) -> Any:  # noqa: ANN401 - whatever a caller gives
    """Make an array of a list of equal images or of a tensor, and `Encoded` of a list of files.

    What is none of these is returned as it is, for `check_images` to refuse.
    """
    if isinstance(images, np.ndarray | Encoded):
        return images
    if not isinstance(images, list | tuple) or not images:
        return take_array("images", images)
    if all(isinstance(image, Content) for image in images):
        return Encoded.join(images)
    arrays = [_take_listed(number, image) for number, image in enumerate(images)]
    for number, array in enumerate(arrays):
        if (array.shape, array.dtype) != (arrays[0].shape, arrays[0].dtype):
            raise InvalidInputError(
                f"an image of shape {array.shape} and dtype {array.dtype}, and the first of {arrays[0].shape} and "
                f"{arrays[0].dtype}",
                record=number,
                hint="bring all to one size and dtype, or give the files: storage.Encoded",
            )
    return _make("images", partial(np.stack, arrays))


def take_batch(batch: Any) -> Any:  # noqa: ANN401 - whatever a caller gives
    """Do what `take_images` does for what an iterable of batches yields: also one file, or one picture."""
    is_one = isinstance(batch, Content) or _is_a(batch, "PIL.Image", "Image")
    return take_images([batch] if is_one else batch)


def is_list_of_batches(images: Any, count: int) -> bool:  # noqa: ANN401 - whatever a caller gives
    """Tell a list of batches of `count` images together from a list of images."""
    if not isinstance(images, list | tuple) or not images:
        return False
    axes = getattr(images[0], "ndim", 0)
    if isinstance(images[0], list | tuple | Encoded) or axes > IMAGE_AXES:
        return True
    return axes == IMAGE_AXES and len(images) != count and sum(map(len, images)) == count  # batches of gray images


def take_labels(labels: Any) -> Any:  # noqa: ANN401 - whatever a caller gives
    """Make an array of 64-bit integers of labels that are such numbers; return what isn't any as it is."""
    labels = take_array("labels", labels)
    if isinstance(labels, np.ndarray):
        if labels.dtype.kind not in "iu" or labels.dtype == np.int64:
            return labels
        if labels.dtype.kind == "u" and labels.max(initial=0) > np.iinfo(np.int64).max:
            raise InvalidInputError("a label does not fit in 64 bits", hint="give labels from -2**63 to 2**63 - 1")
        return labels.astype(np.int64)
    if isinstance(labels, str | Content) or not isinstance(labels, Sequence):
        return labels
    try:
        return np.fromiter(map(operator.index, labels), np.int64, len(labels))
    except OverflowError:
        raise InvalidInputError(
            "a label does not fit in 64 bits", hint="give labels from -2**63 to 2**63 - 1"
        ) from None
    except TypeError as error:
        raise InvalidInputError(f"a label isn't an integer ({error})", hint="give integers") from None


def take_array(name: str, given: Any) -> Any:  # noqa: ANN401 - whatever a caller gives
    """View a tensor, a picture, or what else says that it is one as an array; return anything else as it is."""
    if isinstance(given, np.ndarray | Encoded):
        return given
    if is_tensor(given):
        return _make(name, given.numpy)
    if _is_a(given, "PIL.Image", "Image"):
        return _read_picture(name, given)
    return _make(name, partial(np.asarray, given)) if hasattr(given, "__array__") else given


def take_out(out: object) -> object:
    """View a tensor that is to be filled as an array over the same memory; return anything else as it is."""
    return take_array("out", out) if is_tensor(out) else out


def is_tensor(given: object) -> bool:
    """Recognize a tensor of PyTorch."""
    return _is_a(given, "torch", "Tensor")


def _is_a(given: object, module: str, name: str) -> bool:
    return any((base.__module__, base.__name__) == (module, name) for base in type(given).__mro__)


def _take_listed(number: int, image: object) -> Any:  # noqa: ANN401 - an array
    array = take_array("an image", image)
    if not isinstance(array, np.ndarray):
        raise InvalidInputError(
            f"an image is a {type(image).__name__}", record=number, hint="give arrays of one shape, or bytes of files"
        )
    return array


def _read_picture(name: str, picture: Any) -> Any:  # noqa: ANN401 - of Pillow
    if picture.mode not in PLAIN_MODES:
        raise InvalidInputError(
            f"{name} is a picture in Pillow's mode {picture.mode}", hint='convert it, for example by convert("RGB")'
        )
    if getattr(picture, "is_animated", False) and picture.format != "MPO":
        raise InvalidInputError(f"{name} is a picture of several frames", hint="choose one, by seek and copy")
    from PIL import ImageOps  # noqa: PLC0415 - optional; who has a picture has it

    return _make(name, lambda: np.asarray(ImageOps.exif_transpose(picture)))


def _make(name: str, make: Any) -> Any:  # noqa: ANN401 - of another library
    """Make an array of what another library holds; say why that fails."""
    try:
        return make()
    except MemoryError as error:
        raise StorageError(f"{name} can't be copied ({error})", hint="free some memory, or give batches") from error
    except (*FOREIGN, TypeError) as error:
        raise InvalidInputError(f"{name} can't be made an array ({error})", hint="give a NumPy array") from error
