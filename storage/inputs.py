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

PLAIN_MODES = {"L", "LA", "RGB", "RGBA", "I;16", "I;16L", "I;16B", "I;16N", "F"}  # of Pillow: an array holds all of it
MODE_HINTS = {  # what else to do than convert("RGB")
    "1": 'convert it: convert("L") makes 0 and 255 of it, numpy.asarray(picture).astype(numpy.uint8) makes 0 and 1',
    "P": 'choose: convert("RGB") makes its colours, and numpy.asarray(picture) their numbers, as in a mask',
    "I": "give an array of 16 bits or floats: numpy.asarray(picture).astype(numpy.uint16), if its values fit",
    "La": 'convert it: convert("LA")',
    **dict.fromkeys(("PA", "RGBa"), 'convert it: convert("RGBA")'),
}
IMAGE_AXES = 3  # at most: height, width, channels
CHANNELS = {1, 3, 4}  # of an image that is recognized by its last axis
AMBIGUOUS = "add an axis: images[..., numpy.newaxis] of gray images, images[numpy.newaxis] of one image"


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
    """Do what `take_images` does for what an iterator of batches yields: also one file, one picture, or one array."""
    if isinstance(batch, Content) or _is_a(batch, "PIL.Image", "Image"):
        return take_images([batch])
    images = take_images(batch)
    if isinstance(batch, list | tuple) or not _is_image(images):
        return images
    if images.ndim == IMAGE_AXES and len(images) == 1:
        raise InvalidInputError(f"an array of shape {images.shape} may be one image, or a gray one", hint=AMBIGUOUS)
    return images[np.newaxis]


def take_single(images: Any, count: int) -> Any:  # noqa: ANN401 - whatever a caller gives
    """Make an image set of a single image, if there is one label; refuse what may be one image or as many as labels."""
    if isinstance(images, Content):
        return Encoded.join([images]) if count == 1 else images
    if isinstance(images, list | tuple | Encoded):
        return images
    array = take_array("images", images)
    if not _is_image(array):
        return images
    if array.ndim == IMAGE_AXES and len(array) == count and not _is_a(images, "PIL.Image", "Image"):
        raise InvalidInputError(
            f"an array of shape {array.shape} for {count} labels may be one image, or {count} gray ones", hint=AMBIGUOUS
        )
    return array[np.newaxis] if count == 1 else array


def _is_image(array: object) -> bool:
    """Recognize an array that may be a single image: gray, or with its channels last."""
    if not isinstance(array, np.ndarray) or not array.size:
        return False
    return array.ndim == IMAGE_AXES - 1 or (array.ndim == IMAGE_AXES and array.shape[2] in CHANNELS)


def is_list_of_batches(images: Any, count: int) -> bool:  # noqa: ANN401 - whatever a caller gives
    """Tell a list of batches of `count` images together from a list of images."""
    if not isinstance(images, list | tuple) or not images:
        return False
    axes = getattr(images[0], "ndim", 0)
    if isinstance(images[0], list | tuple | Encoded) or axes > IMAGE_AXES:
        return True
    return axes == IMAGE_AXES and len(images) != count and sum(map(len, images)) == count  # batches of gray images


def take_labels(labels: Any) -> Any:  # noqa: ANN401 - whatever a caller gives
    """Make an array of 64-bit integers of labels that are such numbers, or booleans; return what isn't any as it is."""
    labels = take_array("labels", labels)
    if isinstance(labels, np.ndarray):
        if labels.dtype.kind not in "biu" or labels.dtype == np.int64:
            return labels
        if labels.dtype.kind == "u" and labels.max(initial=0) > np.iinfo(np.int64).max:
            raise InvalidInputError("a label does not fit in 64 bits", hint="give labels from -2**63 to 2**63 - 1")
        return labels.astype(np.int64)
    if isinstance(labels, str | Content) or not isinstance(labels, Sequence):
        return labels
    try:
        return np.fromiter(map(_take_label, labels), np.int64, len(labels))
    except OverflowError:
        raise InvalidInputError(
            "a label does not fit in 64 bits", hint="give labels from -2**63 to 2**63 - 1"
        ) from None
    except TypeError as error:
        raise InvalidInputError(f"a label isn't an integer ({error})", hint="give integers") from None


def _take_label(label: Any) -> int:  # noqa: ANN401 - whatever a caller gives
    return operator.index(bool(label) if isinstance(label, np.bool_) else label)


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
    return take_array("out", out) if not isinstance(out, np.ndarray) and is_tensor(out) else out


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
        hint = MODE_HINTS.get(picture.mode, 'convert it: convert("RGB")')
        raise InvalidInputError(f"{name} is a picture in Pillow's mode {picture.mode}", hint=hint)
    if "transparency" in picture.info:
        hint = 'keep it by convert("RGBA"), or forget it: del picture.info["transparency"]'
        raise InvalidInputError(f"{name} is a picture with a transparent colour, which an array can't hold", hint=hint)
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
