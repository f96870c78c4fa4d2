"""Files from official sources: resumed when interrupted, checked by size and sha256."""

from __future__ import annotations

import errno
import hashlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import requests
from tqdm import tqdm

from lticore.errors import LticoreError

_CHUNK = 1 << 16
_TIMEOUT = 30.0


class DataError(LticoreError, OSError):
    """Data is absent, damaged or cannot be stored."""


@dataclass(frozen=True)
class Remote:
    """A file of an official source; ``size`` and ``sha256`` are None where none is stated."""

    url: str
    size: int | None = None
    sha256: str | None = None

    @property
    def name(self) -> str:
        return self.url.rsplit("/", 1)[-1]


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def download(remote: Remote, folder: Path) -> Path:
    """The file in ``folder``, fetched if it is absent; a damaged one is fetched again, once.

    An interrupted transfer is kept as ``name.part`` and goes on where it stopped.

    Raises
    ------
    DataError
        Without a connection, when the disk is full, or when the file is damaged twice.
    """
    path = folder / remote.name
    if path.exists():
        damage = _damage(path, remote)
        if damage is None:
            return path
        print(f"{path} is refused and fetched again: {damage}", file=sys.stderr)
    part = folder / f"{remote.name}.part"
    damage = None
    for _ in range(2):
        _fetch(remote, part)
        damage = _damage(part, remote)
        if damage is None:
            os.replace(part, path)
            return path
        part.unlink()
        print(f"{remote.url} arrived damaged: {damage}", file=sys.stderr)
    raise DataError(
        f"{remote.url} is not the expected file, even when fetched again: {damage}. A proxy may "
        f"change it: put the right file at {path}"
    )


def _damage(path: Path, remote: Remote) -> str | None:
    """What is wrong with the file, or None."""
    size = path.stat().st_size
    if remote.size is not None and size != remote.size:
        return f"it has {size} bytes instead of {remote.size}"
    if remote.sha256 is not None and (found := sha256(path)) != remote.sha256:
        return f"its sha256 is {found} instead of {remote.sha256}"
    return None


def _fetch(remote: Remote, part: Path) -> None:
    """Fetch what ``part`` still lacks."""
    part.parent.mkdir(parents=True, exist_ok=True)
    have = part.stat().st_size if part.exists() else 0
    if have and have == remote.size:
        return
    try:
        _stream(remote, part, have)
    except requests.RequestException as error:
        if part.exists() and part.stat().st_size > have:  # broken off on the way: go on
            _fetch(remote, part)
            return
        raise DataError(f"{remote.url} cannot be fetched ({_reason(error)})") from error
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        part.unlink(missing_ok=True)
        needed = "" if remote.size is None else f" of {remote.size / 1e6:.0f} MB"
        raise DataError(
            f"no space left for {part.name.removesuffix('.part')}{needed} in {part.parent}: make "
            "room, or set LTICORE_DATA to a folder on another disk"
        ) from error


def _stream(remote: Remote, part: Path, have: int) -> None:
    headers = {"Range": f"bytes={have}-", "Accept-Encoding": "identity"} if have else {}
    with requests.get(remote.url, headers=headers, stream=True, timeout=_TIMEOUT) as answer:
        if have and answer.status_code == requests.codes.requested_range_not_satisfiable:
            part.unlink()  # longer than the file itself: from the beginning
            _stream(remote, part, 0)
            return
        answer.raise_for_status()
        resumed = answer.status_code == requests.codes.partial_content
        with (
            part.open("ab" if resumed else "wb") as file,
            tqdm(
                total=remote.size,
                initial=have if resumed else 0,
                desc=remote.name,
                unit="B",
                unit_scale=True,
            ) as bar,
        ):
            for chunk in answer.iter_content(_CHUNK):
                file.write(chunk)
                bar.update(len(chunk))


def _reason(error: requests.RequestException) -> str:
    if error.response is not None:
        return f"HTTP {error.response.status_code}"
    return "no connection" if isinstance(error, requests.ConnectionError) else str(error)
