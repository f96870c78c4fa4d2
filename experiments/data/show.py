"""What a data set looks like: figures in words, and samples as text or pictures."""

from __future__ import annotations

import math
import textwrap
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import torch
from numpy.typing import NDArray

from .base import SequenceData, Split
from .text import readable

_SHOWN_CHARACTERS = 400


def describe(data: SequenceData) -> str:
    """Sizes, lengths and label shares of the splits, a few lines of text."""
    kind = f"{data.vocabulary} symbols" if data.symbols else f"{data.channels} channels"
    pairs = ", pairs of documents" if data.documents == 2 else ""
    lines = [f"{data.name}: {data.classes} classes, at most {data.length} steps, {kind}{pairs}"]
    for name in ("train", "validation", "test"):
        split: Split = getattr(data, name)
        lengths = split.lengths.double()
        shares = torch.bincount(split.labels, minlength=data.classes) / len(split)
        lines.append(
            f"  {name:<10} {len(split):>7} examples, {int(lengths.min())} to {split.longest} steps "
            f"(mean {lengths.mean():.0f}), labels "
            + " ".join(f"{100 * share:.1f}" for share in shares)
            + " %"
        )
    return "\n".join(lines)


def sample_text(data: SequenceData, count: int = 4, seed: int = 0) -> str:
    """Training texts with their labels, the beginning of each."""
    if data.symbols is None:
        raise TypeError(f"{data.name} holds numbers: draw_samples shows them")
    blocks = []
    for index in _choice(data.train, count, seed):
        for document in np.atleast_2d(data.train.batch(index[None]).inputs[0].numpy()):
            text = readable(document, data.symbols)
            cut = text[:_SHOWN_CHARACTERS] + ("…" if len(text) > _SHOWN_CHARACTERS else "")
            lines = textwrap.fill(cut, 96, initial_indent="  ", subsequent_indent="  ")
            blocks.append(f"label {int(data.train.labels[index])}\n{lines}")
    return "\n".join(blocks)


def draw_samples(data: SequenceData, path: Path, count: int = 8, seed: int = 0) -> None:
    """Training pictures above their sequences, or waves, into one PNG file."""
    side = math.isqrt(data.length)
    pictures = not data.train.ragged and side**2 == data.length
    columns = count if pictures else 1
    rows = 2 if pictures else count
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(1.9 * columns, 3.4) if pictures else (9, 1.2 * rows),
        squeeze=False,
        layout="constrained",
    )
    for i, index in enumerate(_choice(data.train, count, seed)):
        sequence = _stored(data.train, int(index))
        label = int(data.train.labels[index])
        axis = axes[-1, i] if pictures else axes[i, 0]
        axis.plot(sequence, linewidth=0.6)
        axis.set_yticks([])
        axis.tick_params(labelsize=7)
        axis.margins(x=0)
        if pictures:
            axes[0, i].imshow(sequence.reshape(side, side, -1).squeeze(), cmap="gray")
            axes[0, i].set_axis_off()
            axes[0, i].set_title(f"label {label}", fontsize=9)
        else:
            axis.set_ylabel(f"label {label}", fontsize=8)
    figure.suptitle(f"{data.name}: {'pixels, row by row' if pictures else 'training sequences'}")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _choice(split: Split, count: int, seed: int) -> torch.Tensor:
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))
    return order[:count]


def _stored(split: Split, index: int) -> NDArray[Any]:
    """The sequence as stored, not normalised."""
    start, length = int(split.starts[index]), int(split.lengths[index])
    return split.values[start : start + length].numpy()
