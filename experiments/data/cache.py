"""Prepared data sets on disk: one .npz each, complete and checked, or absent."""

from __future__ import annotations

import errno
import os
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
from numpy.typing import NDArray

from .download import DataError, Remote, download, sha256

Arrays = dict[str, NDArray[Any]]


def folders(root: Path | str | None = None) -> list[Path]:
    """Where data is looked for: ``root``, or LTICORE_DATA and then the user's cache."""
    if root is not None:
        return [Path(root)]
    cache = platformdirs.user_cache_path("lticore")
    chosen = os.environ.get("LTICORE_DATA")
    return [Path(chosen), cache] if chosen else [cache]


def find(name: str, root: Path | str | None = None) -> list[Path]:
    """All such files in the data folders."""
    return [folder / name for folder in folders(root) if (folder / name).exists()]


def writable_folder(root: Path | str | None = None) -> Path:
    """The first data folder that may be written: one without write permission is left alone."""
    for folder in folders(root):
        existing = next(f for f in (folder, *folder.absolute().parents) if f.exists())
        # The mode is asked as well, because to the superuser every folder seems writable.
        if existing.stat().st_mode & 0o222 and os.access(existing, os.W_OK):
            folder.mkdir(parents=True, exist_ok=True)
            return folder
    raise DataError(f"{folders(root)[-1]} cannot be written: set LTICORE_DATA to another folder")


def converted(
    name: str,
    known: str | None,
    remotes: tuple[Remote, ...],
    convert: Callable[[list[Path]], Arrays],
    root: Path | str | None = None,
) -> Arrays:
    """Arrays of ``name``, made from the official files if no folder holds it.

    A file is accepted when its sha256 is ``known`` or the one recorded beside it, in
    ``name.sha256``, when it was converted here from official files; another one is refused and
    made again.

    Raises
    ------
    DataError
        When the file is absent or damaged and the official ones cannot be had.
    """
    refused = ""
    for path in find(name, root):
        note = path.with_name(f"{name}.sha256")
        found = sha256(path)
        if found == known or (note.exists() and note.read_text().strip() == found):
            return _read(path)
        refused = f"{path} is damaged (its sha256 is {found}). "
        print(f"{refused}It is made again.", file=sys.stderr)
    folder = writable_folder(root)
    try:
        files = [_official(remote, folder, root) for remote in remotes]
    except DataError as error:
        places = " or ".join(map(str, folders(root)))
        wanted = " and ".join(remote.name for remote in remotes)
        ours = f"{name} (sha256 {known}), or " if known else ""
        raise DataError(
            f"{refused or f'{name} is not in {places}. '}{error}. Put {ours}the official {wanted} "
            f"into {folders(root)[0]}, or set LTICORE_DATA to the folder that holds it"
        ) from error
    arrays = convert(files)
    write_arrays(folder / name, arrays)
    (folder / f"{name}.sha256").write_text(sha256(folder / name) + "\n")
    return arrays


def generated(name: str, generate: Callable[[], Arrays], root: Path | str | None = None) -> Arrays:
    """Arrays of ``name``, generated and stored if no folder holds it; a damaged file is remade."""
    for path in find(name, root):
        try:
            return _read(path)
        except (zipfile.BadZipFile, ValueError, EOFError) as error:
            print(f"{path} is damaged ({error}) and generated again", file=sys.stderr)
    folder = writable_folder(root)
    arrays = generate()
    write_arrays(folder / name, arrays)
    return arrays


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write a compressed .npz under a temporary name, then rename.

    Raises
    ------
    DataError
        When the disk is full; nothing half-written stays.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException as error:
        Path(name).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise DataError(
                f"no space left for {path.name} in {path.parent}: make room, or set LTICORE_DATA "
                "to a folder on another disk"
            ) from error
        raise


def _official(remote: Remote, folder: Path, root: Path | str | None) -> Path:
    """The official file where it lies already, else downloaded."""
    present = find(remote.name, root)
    return download(remote, present[0].parent if present else folder)


def _read(path: Path) -> Arrays:
    # Opened here, because NumPy leaves a damaged file open.
    with path.open("rb") as content, np.load(content, allow_pickle=False) as file:
        return {key: file[key] for key in file.files}
