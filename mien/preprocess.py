"""From grey face crops to the network's input: the same function in validation and deployment."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien.modelinfo import ModelInfo


def normalize(faces: NDArray[np.uint8], info: ModelInfo) -> NDArray[np.float32]:
    """Standardise grey faces for ``info``'s network.

    Args:
        faces: uint8 (N, input_size, input_size), 0..255.

    Returns:
        float32 (N, channels, input_size, input_size): ``(p / 255 - mean) / std``.
    """
    scale = np.float32(1 / (255 * info.std))
    x = faces.astype(np.float32)[:, None]
    x *= scale
    x -= np.float32(info.mean / info.std)
    return np.repeat(x, 3, axis=1) if info.channels == 3 else x


def softmax(logits: NDArray[np.floating[Any]], temperature: float = 1.0) -> NDArray[np.float32]:
    """Softmax over the last axis at ``temperature``."""
    z = logits.astype(np.float32) / np.float32(temperature)
    z -= z.max(axis=-1, keepdims=True)
    np.exp(z, out=z)
    z /= z.sum(axis=-1, keepdims=True)
    return z
