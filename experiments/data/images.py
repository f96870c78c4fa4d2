"""Pictures as sequences of pixels, row by row."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from .base import Split


def image_split(
    images: NDArray[np.uint8],
    labels: NDArray[np.integer],
    *,
    white: float = 255.0,
    normalize: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None,
) -> Split:
    """Pictures (N, ...) or (N, height, width, 3) as sequences.

    Values enter as value/white in [0, 1], or as (value − mean)/std with ``normalize``.
    """
    count = len(images)
    channels = images.shape[3] if images.ndim == 4 else 1
    values = torch.from_numpy(np.ascontiguousarray(images)).reshape(-1, channels)
    steps = len(values) // count
    mean, std = normalize or (np.zeros(channels), np.full(channels, white))
    return Split(
        values=values,
        starts=torch.arange(count) * steps,
        lengths=torch.full((count,), steps),
        labels=torch.from_numpy(labels.astype(np.int64)),
        mean=torch.as_tensor(mean, dtype=torch.float32),
        std=torch.as_tensor(std, dtype=torch.float32),
    )


def pixel_statistics(images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and standard deviation of each channel over all pixels, exact from the histogram."""
    channels = images.shape[3] if images.ndim == 4 else 1
    levels = np.arange(256)
    mean, std = np.empty(channels, np.float32), np.empty(channels, np.float32)
    for channel in range(channels):
        pixels = images[..., channel] if images.ndim == 4 else images
        parts = np.array_split(pixels, 1 + len(pixels) // 1000)
        share = sum(np.bincount(part.ravel(), minlength=256) for part in parts) / pixels.size
        mean[channel] = share @ levels
        std[channel] = np.sqrt(share @ (levels - share @ levels) ** 2)
    return mean, std
