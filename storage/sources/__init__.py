"""Where images come from: datasets, plain stores, folders of image files, CIFAR-10 and CIFAR-100."""

from .image_source import ArraySource, ImageSource
from .opening import open_source

__all__ = ["ArraySource", "ImageSource", "open_source"]
