"""ListOps: the value 0–9 of a nested expression of MIN, MAX, MED (median) and SM (sum mod 10).

A node at depth d (root: 1) is, with probability 1/4 and only if d < 10, an operator with 2 to 10
arguments at depth d + 1, otherwise a digit; all choices are uniform. The length of a tree is
the number of its tokens, brackets included: trees of length in (500, 2000) are kept, about 8 %,
each once. MED of an even number of values is the mean of the middle two, rounded down.

Tokens: 0 padding, 1 to 10 the digits, 11 to 14 the opened operators, 15 the closing bracket.
Source: Y. Tay et al., Long Range Arena, 2021, §2.1 and its published generator; N. Nangia and
S. Bowman, ListOps, 2018. The published files carry no seed, so these are other draws of the same
distribution.
"""

from __future__ import annotations

from pathlib import Path

import numba
import numpy as np
import torch
from numpy.typing import NDArray

from lticore.errors import ArgumentError

from .base import SequenceData, Split
from .cache import Arrays, generated
from .generate import in_parallel, random_stream

SYMBOLS = ("<pad>", *"0123456789", "[MIN", "[MAX", "[MED", "[SM", "]")
_DIGIT, _OPERATOR, _CLOSE = 1, 11, 15
_DEEPEST = 10
_MOST_ARGUMENTS = 10
_OPERATOR_PROBABILITY = 0.25
#: Trees kept per part: a part has its own stream of random numbers.
_PART = 500


def load_listops(
    root: Path | str | None = None,
    *,
    size: tuple[int, int, int] = (96_000, 2_000, 2_000),
    longer_than: int = 500,
    shorter_than: int = 2000,
    seed: int = 0,
    workers: int | None = None,
) -> SequenceData:
    """``size`` training, validation and test expressions, generated once and stored."""
    if min(size) < 1:
        raise ArgumentError(f"size must be three positive numbers, but is {size}")
    if not 0 <= longer_than < shorter_than - 1:
        raise ArgumentError(
            f"no length lies between longer_than = {longer_than} and shorter_than = {shorter_than}"
        )
    name = f"listops-{sum(size)}-{longer_than}-{shorter_than}-seed{seed}.npz"
    arrays = generated(
        name,
        lambda: generate_listops(sum(size), longer_than, shorter_than, seed, workers),
        root,
    )
    every = Split(
        values=torch.from_numpy(arrays["tokens"]),
        starts=torch.from_numpy(arrays["offsets"][:-1]),
        lengths=torch.from_numpy(np.diff(arrays["offsets"])),
        labels=torch.from_numpy(arrays["label"].astype(np.int64)),
    )
    train, validation, test = (every.select(part) for part in torch.arange(sum(size)).split(size))
    return SequenceData(
        name="listops",
        length=shorter_than - 1,
        classes=10,
        symbols=SYMBOLS,
        train=train,
        validation=validation,
        test=test,
    )


def generate_listops(
    count: int, longer_than: int, shorter_than: int, seed: int, workers: int | None = None
) -> Arrays:
    """``count`` different trees: tokens end to end, offsets, labels, and the trees drawn."""
    seen: set[bytes] = set()
    texts: list[bytes] = []
    labels: list[int] = []
    drawn = 0

    def draw(part: int) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.uint8], int]:
        return draw_trees(_PART, longer_than, shorter_than, random_stream(seed, part))

    first = 0
    while len(texts) < count:
        before = len(texts)
        parts = range(first, first + -(-(count - len(texts)) // _PART))
        first = parts.stop
        for tokens, offsets, values, tries in in_parallel(
            draw, parts, workers=workers, label="listops"
        ):
            drawn += tries
            for i, value in enumerate(values):
                text = tokens[offsets[i] : offsets[i + 1]].tobytes()
                if text not in seen and len(texts) < count:
                    seen.add(text)
                    texts.append(text)
                    labels.append(value)
        if len(texts) == before:
            raise ArgumentError(
                f"there seem to be only {before} different trees longer than {longer_than} and "
                f"shorter than {shorter_than}: ask for fewer than {count}"
            )
    return {
        "tokens": np.frombuffer(bytearray().join(texts), np.uint8),
        "offsets": np.cumsum([0, *map(len, texts)], dtype=np.int64),
        "label": np.array(labels, np.uint8),
        "drawn": np.array(drawn),
    }


@numba.njit(nogil=True, cache=True)
def draw_trees(
    count: int, longer_than: int, shorter_than: int, random: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.uint8], int]:
    """``count`` trees of accepted length: tokens, offsets, values, and the number drawn for them.

    A tree is drawn in the order of its text. The operator is not drawn after the arguments as in
    the published code, but before them, and a tree is given up as soon as it is too long: both
    leave the distribution as it is.
    """
    tokens = np.empty(count * (shorter_than - 1), np.uint8)
    offsets = np.zeros(count + 1, np.int64)
    values = np.empty(count, np.uint8)
    # One level per open operator: its kind, the arguments still to come, those evaluated.
    operator = np.empty(_DEEPEST, np.int64)
    missing = np.empty(_DEEPEST, np.int64)
    number = np.empty(_DEEPEST, np.int64)
    arguments = np.empty((_DEEPEST, _MOST_ARGUMENTS), np.int64)
    accepted = drawn = 0
    while accepted < count:
        drawn += 1
        start = offsets[accepted]
        length = open_operators = value = 0
        while True:
            if open_operators < _DEEPEST - 1 and random.random() <= _OPERATOR_PROBABILITY:
                missing[open_operators] = 2 + int(random.random() * (_MOST_ARGUMENTS - 1))
                number[open_operators] = 0
                operator[open_operators] = int(random.random() * 4)
                token = _OPERATOR + operator[open_operators]
                open_operators += 1
                complete = False
            else:
                value = int(random.random() * 10)
                token = _DIGIT + value
                complete = True
            length += 1
            if length >= shorter_than:
                break
            tokens[start + length - 1] = token
            # A complete value closes every operator that it is the last argument of.
            while complete and open_operators > 0:
                level = open_operators - 1
                arguments[level, number[level]] = value
                number[level] += 1
                complete = number[level] == missing[level]
                if complete:
                    value = _evaluate(operator[level], arguments[level, : number[level]])
                    length += 1
                    if length >= shorter_than:
                        break
                    tokens[start + length - 1] = _CLOSE
                    open_operators -= 1
            if length >= shorter_than or open_operators == 0:
                break
        if longer_than < length < shorter_than:
            values[accepted] = value
            accepted += 1
            offsets[accepted] = start + length
    return tokens[: offsets[count]], offsets, values, drawn


@numba.njit(nogil=True, cache=True)
def _evaluate(operator: int, arguments: NDArray[np.int64]) -> int:
    if operator == 0:
        return arguments.min()
    if operator == 1:
        return arguments.max()
    if operator == 2:
        ordered = np.sort(arguments)
        half = len(ordered) // 2
        return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) // 2
    return arguments.sum() % 10
