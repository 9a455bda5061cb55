"""What was read against what was stored: pixel for pixel, label for label."""

import hashlib

import numpy as np
import pytest

from storage import Images, Labels

COMPARED = 1_000  # images at a time, so that comparing needs little memory


def as_set(images: Images, labels: Labels | int) -> tuple[Images, Labels]:
    """Take one image and its label for an image set of one; return an image set as it is."""
    return images.reshape(-1, *images.shape[-3:]), np.atleast_1d(np.asarray(labels, np.int64))


def compare(result: tuple[Images, Labels | int], images: Images, labels: Labels) -> None:
    """Fail unless what was read is what was stored."""
    read_images, read_labels = as_set(*result)
    if read_images.shape != images.shape or read_labels.shape != labels.shape:
        pytest.fail(f"stored {images.shape} with {len(labels)} labels, read {read_images.shape}, {len(read_labels)}")
    for start in range(0, len(images), COMPARED):
        part = slice(start, start + COMPARED)
        wrong = (read_images[part] != images[part]).any(axis=(1, 2, 3)) | (read_labels[part] != labels[part])
        if wrong.any():
            pytest.fail(f"image or label {start + int(wrong.argmax())} was not read as it was stored")


def compute_digest(images: Images, labels: Labels) -> str:
    """Compute what tells a batch from every other: for one that was read in another process."""
    digest = hashlib.sha256(f"{images.shape} {labels.shape}".encode())
    digest.update(np.ascontiguousarray(images, np.uint8).data)
    digest.update(np.ascontiguousarray(labels, np.int64).data)
    return digest.hexdigest()
