"""Texts as tokens: bytes, or characters of a vocabulary. Token 0 is the padding."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

PADDING = "<pad>"
UNKNOWN = "<unk>"

#: Byte b is token b + 1, as in the Long Range Arena.
BYTE_SYMBOLS = (PADDING, *(bytes([b]).decode("ascii", "backslashreplace") for b in range(256)))


def byte_tokens(text: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Bytes of UTF-8 as tokens: 255 never occurs in UTF-8, so that b + 1 fits a byte."""
    return text + np.uint8(1)


def count_characters(text: NDArray[np.uint8]) -> NDArray[np.int64]:
    """How often each code point occurs in UTF-8 text, (0x110000,)."""
    return np.bincount(_code_points(text), minlength=0x110000)


def character_vocabulary(
    counts: NDArray[np.int64], *, most: int | None = None, least_count: int = 1
) -> tuple[str, ...]:
    """Padding, the unknown character, then the characters from the most to the least frequent.

    At most ``most`` symbols in all; only characters that occur ``least_count`` times.
    """
    order = np.argsort(-counts, kind="stable")
    kept = [chr(point) for point in order[: (counts >= least_count).sum()]]
    return (PADDING, UNKNOWN, *kept)[:most]


def character_tokens(
    text: NDArray[np.uint8], offsets: NDArray[np.int64], symbols: Sequence[str]
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Tokens of the characters of UTF-8 texts, and the offsets of the texts in them."""
    table = np.ones(0x110000, np.uint8)
    for token, symbol in enumerate(symbols[2:], start=2):
        table[ord(symbol)] = token
    first_bytes = (text & 0xC0) != 0x80  # all but the continuation bytes of UTF-8
    lengths = np.add.reduceat(first_bytes, offsets[:-1], dtype=np.int64)
    return table[_code_points(text)], np.concatenate([[0], np.cumsum(lengths)])


def _code_points(text: NDArray[np.uint8]) -> NDArray[np.uint32]:
    return np.frombuffer(text.tobytes().decode("utf-8").encode("utf-32-le"), np.uint32)


def readable(tokens: NDArray[np.integer], symbols: Sequence[str]) -> str:
    """The text that tokens stand for, without padding; operators and digits apart by spaces."""
    if symbols is BYTE_SYMBOLS:
        return (tokens[tokens > 0] - 1).astype(np.uint8).tobytes().decode("utf-8", "replace")
    words = any(len(symbol) > 1 for symbol in symbols[2:])
    return (" " if words else "").join(symbols[token] for token in tokens if token)
