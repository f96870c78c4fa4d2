"""Spoken digits (FSDD): raw audio at 8 kHz in [−1, 1), 1 148 to 18 262 samples.

Recordings 0 to 4 of each digit and speaker are the official test set; a stratified tenth of the
others validates.
Source: Z. Jackson et al., Free Spoken Digit Dataset v1.0.10, 3 000 recordings, CC BY-SA 4.0.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
import wave
from pathlib import Path

import numpy as np
import torch

from lticore.errors import ArgumentError

from .base import SequenceData, Split, held_out
from .cache import Arrays, converted
from .download import DataError, Remote

# GitHub makes such archives on demand and promises no bytes: the audio in it is checked instead.
_ARCHIVE = Remote(
    "https://github.com/Jakobovski/free-spoken-digit-dataset/archive/refs/tags/v1.0.10.tar.gz"
)
_AUDIO_SHA256 = "6f643a7422de89763625dfc9aa79427e69f7a690223a5bc5752a2f56db5af465"
_SHA256 = "1c186b344f1ae6bfc1a43240a670e2f58f251b7d8722fccdc61d32be22e9ffcc"
_RATE = 8000
_LONGEST = 18262


def load_fsdd(root: Path | str | None = None, *, length: int = _LONGEST) -> SequenceData:
    """2 430 training, 270 validation and 300 official test recordings, cut after ``length``."""
    if length < 1:
        raise ArgumentError(f"length must be at least 1, but is {length}")
    arrays = converted("fsdd.npz", _SHA256, (_ARCHIVE,), lambda f: convert_fsdd(f[0]), root)
    recordings = Split(
        values=torch.from_numpy(arrays["audio"])[:, None],
        starts=torch.from_numpy(arrays["offsets"][:-1]),
        lengths=torch.from_numpy(np.minimum(np.diff(arrays["offsets"]), length)),
        labels=torch.from_numpy(arrays["label"].astype(np.int64)),
        mean=torch.zeros(1),
        std=torch.full((1,), 32768.0),
    )
    is_test = torch.from_numpy(arrays["is_test"])
    train, validation = held_out(recordings.select((~is_test).nonzero()[:, 0]))
    return SequenceData(
        name="fsdd",
        length=min(length, _LONGEST),
        classes=10,
        channels=1,
        train=train,
        validation=validation,
        test=recordings.select(is_test.nonzero()[:, 0]),
    )


def convert_fsdd(archive: Path, audio_sha256: str | None = _AUDIO_SHA256) -> Arrays:
    """Recordings ``digit_speaker_index.wav`` of the official archive, sorted by name.

    Raises
    ------
    DataError
        When the audio is not that of version 1.0.10.
    """
    recordings = {}
    with tarfile.open(archive) as tar:
        for member in tar:
            path = Path(member.name)
            if path.parent.name == "recordings" and path.suffix == ".wav":
                file = tar.extractfile(member)
                assert file is not None
                recordings[path.stem] = _samples(file.read())
    names = sorted(recordings, key=lambda name: f"{name}.wav")
    audio = np.concatenate([recordings[name] for name in names])
    if audio_sha256 and hashlib.sha256(audio.tobytes()).hexdigest() != audio_sha256:
        raise DataError(
            f"{archive} does not hold the 3 000 recordings of version 1.0.10: delete it, so that "
            "it is fetched again"
        )
    digits, speakers, numbers = zip(*(name.split("_") for name in names), strict=True)
    indices = np.array(numbers, np.uint8)
    return {
        "audio": audio,
        "offsets": np.cumsum([0, *(len(recordings[name]) for name in names)], dtype=np.int64),
        "label": np.array(digits, np.uint8),
        "speaker": np.array(speakers),
        "index": indices,
        "is_test": indices < 5,
        "sample_rate": np.array(_RATE, np.int32),
    }


def _samples(content: bytes) -> np.ndarray:
    with wave.open(io.BytesIO(content)) as file:
        if (file.getframerate(), file.getnchannels(), file.getsampwidth()) != (_RATE, 1, 2):
            raise DataError("a recording is not 16-bit mono at 8 kHz")
        return np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.int16)
