"""A stand-in for what the training loops of the documents use of PyTorch, where that isn't installed."""

from typing import Any

import numpy as np


class Tensor(np.ndarray[Any, Any]):
    """An array with the methods of a tensor that the loops call."""

    def permute(self, *axes: int) -> "Tensor":
        """Put the axes into another order."""
        return self.transpose(axes)

    def float(self) -> "Tensor":
        """Convert to 32-bit floats."""
        return self.astype(np.float32).view(Tensor)


def from_numpy(array: np.ndarray[Any, Any]) -> Tensor:
    """View an array as a tensor."""
    return array.view(Tensor)
