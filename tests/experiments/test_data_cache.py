"""Prepared files: recognised, checked, made again, complete or absent."""

import errno

import numpy as np
import pytest

from experiments.data import cache
from experiments.data.cache import converted, folders, generated, write_arrays
from experiments.data.download import DataError, Remote, sha256

ARRAYS = {"x": np.arange(5, dtype=np.uint8)}
NOWHERE = Remote("http://127.0.0.1:9/raw.bin", 3, "0" * 64)


def never(*_):
    raise AssertionError("nothing needs to be converted")


def test_data_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("LTICORE_DATA", raising=False)
    (own,) = folders()
    assert own.name == "lticore"
    monkeypatch.setenv("LTICORE_DATA", str(tmp_path / "chosen"))
    assert folders() == [tmp_path / "chosen", own]
    assert folders(tmp_path / "given") == [tmp_path / "given"]


def test_a_known_file_is_recognised(tmp_path):
    path = tmp_path / "set.npz"
    write_arrays(path, ARRAYS)
    arrays = converted("set.npz", sha256(path), (NOWHERE,), never, tmp_path)
    assert np.array_equal(arrays["x"], ARRAYS["x"])


def test_official_files_are_converted_once(tmp_path):
    raw = tmp_path / "raw.bin"
    raw.write_bytes(b"\1\2\3")
    remote = Remote(NOWHERE.url, 3, sha256(raw))

    def convert(files):
        return {"x": np.frombuffer(files[0].read_bytes(), np.uint8)}

    first = converted("set.npz", "0" * 64, (remote,), convert, tmp_path)
    assert first["x"].tolist() == [1, 2, 3]
    assert (tmp_path / "set.npz.sha256").read_text().strip() == sha256(tmp_path / "set.npz")
    again = converted("set.npz", "0" * 64, (remote,), never, tmp_path)
    assert again["x"].tolist() == [1, 2, 3]


def test_a_damaged_file_is_refused_and_made_again(tmp_path, capsys):
    raw = tmp_path / "raw.bin"
    raw.write_bytes(b"\1\2\3")
    (tmp_path / "set.npz").write_bytes(b"PK half a file")
    remote = Remote(NOWHERE.url, 3, sha256(raw))
    arrays = converted("set.npz", "0" * 64, (remote,), lambda _: ARRAYS, tmp_path)
    assert np.array_equal(arrays["x"], ARRAYS["x"])
    assert "is damaged" in capsys.readouterr().err
    assert np.array_equal(np.load(tmp_path / "set.npz")["x"], ARRAYS["x"])


def test_without_file_and_connection_the_error_says_what_to_put_where(tmp_path):
    with pytest.raises(DataError) as caught:
        converted("set.npz", "ab12", (NOWHERE,), never, tmp_path)
    message = str(caught.value)
    for part in (f"set.npz is not in {tmp_path}", "no connection", "sha256 ab12", "raw.bin"):
        assert part in message
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_no_half_written_file(tmp_path, monkeypatch):
    def fill(file, **_):
        file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(cache.np, "savez_compressed", fill)
    with pytest.raises(DataError, match=r"no space left for set\.npz"):
        write_arrays(tmp_path / "set.npz", ARRAYS)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_write_keeps_the_old_file(tmp_path, monkeypatch):
    write_arrays(tmp_path / "set.npz", ARRAYS)

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(cache.os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_arrays(tmp_path / "set.npz", {"x": np.zeros(1)})
    assert [path.name for path in tmp_path.iterdir()] == ["set.npz"]
    assert np.array_equal(np.load(tmp_path / "set.npz")["x"], ARRAYS["x"])


def test_generated_data_is_stored_and_remade_when_damaged(tmp_path, capsys):
    calls = []

    def generate():
        calls.append(1)
        return ARRAYS

    for _ in range(2):
        assert np.array_equal(generated("g.npz", generate, tmp_path)["x"], ARRAYS["x"])
    assert len(calls) == 1
    path = tmp_path / "g.npz"
    path.write_bytes(path.read_bytes()[:-10])
    assert np.array_equal(generated("g.npz", generate, tmp_path)["x"], ARRAYS["x"])
    assert len(calls) == 2
    assert "generated again" in capsys.readouterr().err


def test_a_read_only_folder_is_read_but_left_alone(tmp_path, monkeypatch):
    chosen = tmp_path / "chosen"
    chosen.mkdir()
    write_arrays(chosen / "g.npz", ARRAYS)
    chosen.chmod(0o555)
    monkeypatch.setenv("LTICORE_DATA", str(chosen))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert np.array_equal(generated("g.npz", never)["x"], ARRAYS["x"])
    generated("other.npz", lambda: ARRAYS)
    assert [path.name for path in chosen.iterdir()] == ["g.npz"]
    assert (tmp_path / "cache" / "lticore" / "other.npz").exists()
    with pytest.raises(DataError, match="cannot be written"):
        generated("third.npz", lambda: ARRAYS, chosen)


def test_a_damaged_file_in_a_read_only_folder_is_made_once(tmp_path, monkeypatch):
    chosen, raw = tmp_path / "chosen", tmp_path / "cache" / "lticore" / "raw.bin"
    chosen.mkdir()
    (chosen / "set.npz").write_bytes(b"damaged")
    chosen.chmod(0o555)
    raw.parent.mkdir(parents=True)
    raw.write_bytes(b"\1\2\3")
    monkeypatch.setenv("LTICORE_DATA", str(chosen))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    remote = Remote(NOWHERE.url, 3, sha256(raw))
    converted("set.npz", None, (remote,), lambda _: ARRAYS)
    assert np.array_equal(converted("set.npz", None, (remote,), never)["x"], ARRAYS["x"])
    assert (chosen / "set.npz").read_bytes() == b"damaged"
