"""Official files to arrays to sequences, on tiny files in the official formats."""

import gzip
import io
import pickle
import tarfile
import wave

import numpy as np
import pytest
import torch
from PIL import Image

from experiments.data import DATASETS, DataError, load
from experiments.data.aan import load_aan
from experiments.data.fsdd import convert_fsdd
from experiments.data.images import image_split, pixel_statistics
from experiments.data.imdb import convert_imdb, load_imdb
from experiments.data.scifar import convert_cifar, luma
from experiments.data.show import describe, draw_samples, sample_text
from experiments.data.smnist import convert_mnist, read_idx
from experiments.data.text import (
    BYTE_SYMBOLS,
    byte_tokens,
    character_tokens,
    character_vocabulary,
    count_characters,
    readable,
)
from lticore.errors import ArgumentError


def pack(path, files):
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def encoded(*texts):
    data = [text.encode() for text in texts]
    return np.frombuffer(b"".join(data), np.uint8), np.cumsum([0, *map(len, data)])


def test_mnist_files(tmp_path):
    random = np.random.default_rng(0)
    arrays = [
        random.integers(256, size=s, dtype=np.uint8) for s in ((3, 28, 28), 3, (2, 28, 28), 2)
    ]
    files = []
    for i, array in enumerate(arrays):
        header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
        path = tmp_path / f"{i}.gz"
        path.write_bytes(gzip.compress(header + array.tobytes()))
        files.append(path)
    converted = convert_mnist(files)
    assert list(converted) == ["x_train", "y_train", "x_test", "y_test"]
    for array, found in zip(arrays, converted.values(), strict=True):
        assert np.array_equal(array, found)
    files[0].write_bytes(gzip.compress(b"\0\0\x0d\1something else"))
    with pytest.raises(DataError, match="IDX format"):
        read_idx(files[0])


def test_cifar_archive(tmp_path):
    random = np.random.default_rng(0)
    files, expected = {}, {}
    for batch in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        pictures = random.integers(256, size=(2, 32, 32, 3), dtype=np.uint8)
        rows = pictures.transpose(0, 3, 1, 2).reshape(2, -1)
        labels = random.integers(10, size=2).tolist()
        files[f"cifar-10-batches-py/{batch}"] = pickle.dumps({b"data": rows, b"labels": labels})
        expected[batch] = pictures, labels
    arrays = convert_cifar(pack(tmp_path / "cifar.tar.gz", files))
    assert arrays["x_train"].shape == (10, 32, 32, 3)
    assert np.array_equal(arrays["x_train"][4:6], expected["data_batch_3"][0])
    assert arrays["y_train"][4:6].tolist() == expected["data_batch_3"][1]
    assert np.array_equal(arrays["x_test"], expected["test_batch"][0])


def test_luma_is_that_of_pil():
    levels = np.arange(0, 256, 5, dtype=np.uint8)
    colours = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(1, 52, -1, 3)
    expected = np.asarray(Image.fromarray(colours[0]).convert("L"))
    assert np.array_equal(luma(colours)[0], expected)


def test_colour_pictures_are_normalised_per_channel():
    pictures = np.random.default_rng(0).integers(256, size=(20, 4, 4, 3), dtype=np.uint8)
    pictures[..., 2] //= 4
    mean, std = pixel_statistics(pictures)
    assert mean == pytest.approx(pictures.reshape(-1, 3).mean(0), rel=1e-6)
    assert std == pytest.approx(pictures.reshape(-1, 3).std(0), rel=1e-6)
    split = image_split(pictures, np.zeros(20, np.uint8), normalize=(mean, std))
    inputs, _, lengths = split.batch(torch.arange(20))
    assert inputs.shape == (20, 16, 3)
    assert lengths is None
    assert inputs.mean((0, 1)).tolist() == pytest.approx([0, 0, 0], abs=1e-6)
    assert inputs.std((0, 1), correction=0).tolist() == pytest.approx([1, 1, 1], rel=1e-6)


def reviews(parts=("train", "test"), each=20):
    return {
        f"aclImdb/{part}/{side}/{i}_{rating}.txt": f"{part} {side} {i} café".encode()
        for part in parts
        for side, rating in (("neg", 2), ("pos", 9))
        for i in range(each)
    }


def test_imdb_archive(tmp_path):
    files = {**reviews(), "aclImdb/train/unsup/0_0.txt": b"no label", "aclImdb/README": b"read"}
    arrays = convert_imdb(pack(tmp_path / "imdb.tar.gz", files))
    text, offsets = arrays["text_train"].tobytes(), arrays["offsets_train"]
    assert len(offsets) == 41
    assert text[offsets[10] : offsets[11]].decode() == "train neg 10 café"  # by number, not name
    assert arrays["label_test"].tolist() == [0] * 20 + [1] * 20
    assert set(arrays["rating_test"][:20]) == {2}


@pytest.mark.parametrize(("name", "length"), [("bytes", 8), ("129", 500), ("min15", 500)])
def test_imdb_sequences(tmp_path, monkeypatch, name, length):
    arrays = convert_imdb(pack(tmp_path / "imdb.tar.gz", reviews()))
    monkeypatch.setattr("experiments.data.imdb.converted", lambda *_: arrays)
    data = load_imdb(vocabulary=name, length=length)
    assert [len(s) for s in (data.train, data.validation, data.test)] == [36, 4, 40]
    assert data.validation.labels.sum() == 2
    assert data.test.longest <= length
    inputs, labels, _ = data.test.batch(torch.tensor([23]))
    assert labels.tolist() == [1]
    assert inputs.shape[1] == min(length, 15)
    rare = "<unk>" if name == "min15" else "3"  # occurs 4 times in the training reviews
    assert readable(inputs[0].numpy(), data.symbols) == f"test pos {rare} café"[:length]
    with pytest.raises(ArgumentError, match="length must be at least 1"):
        load_imdb(vocabulary=name, length=0)


def test_character_vocabularies():
    text, offsets = encoded("aab€", "b", "aé€x")
    counts = count_characters(text)
    assert counts.sum() == 9
    symbols = character_vocabulary(counts)
    assert symbols == ("<pad>", "<unk>", "a", "b", "€", "x", "é")
    assert character_vocabulary(counts, least_count=2) == symbols[:5]
    assert character_vocabulary(counts, most=4) == symbols[:4]
    tokens, starts = character_tokens(text, offsets, symbols[:5])
    assert starts.tolist() == [0, 4, 5, 9]
    assert tokens.tolist() == [2, 2, 3, 4, 3, 2, 1, 4, 1]
    assert readable(tokens[:4], symbols) == "aab€"


def test_bytes_are_shifted_by_the_padding():
    text, _ = encoded("Az é")
    tokens = byte_tokens(text)
    assert tokens.tolist() == [66, 123, 33, 196, 170]
    assert len(BYTE_SYMBOLS) == 257
    assert readable(np.append(tokens, 0), BYTE_SYMBOLS) == "Az é"


def recording(samples, rate=8000):
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.array(samples, "<i2").tobytes())
    return buffer.getvalue()


def test_fsdd_archive(tmp_path):
    folder = "free-spoken-digit-dataset-1.0.10"
    files = {
        f"{folder}/recordings/7_jackson_10.wav": recording([5, -6]),
        f"{folder}/recordings/7_jackson_4.wav": recording([1, -32768, 3]),
        f"{folder}/recordings/0_theo_5.wav": recording([9]),
        f"{folder}/README.md": b"no recording",
    }
    archive = pack(tmp_path / "fsdd.tar.gz", files)
    arrays = convert_fsdd(archive, audio_sha256=None)
    assert arrays["audio"].tolist() == [9, 5, -6, 1, -32768, 3]
    assert arrays["offsets"].tolist() == [0, 1, 3, 6]
    assert arrays["label"].tolist() == [0, 7, 7]
    assert arrays["speaker"].tolist() == ["theo", "jackson", "jackson"]
    assert arrays["is_test"].tolist() == [False, False, True]  # the first five of each
    with pytest.raises(DataError, match=r"3 000 recordings of version 1\.0\.10"):
        convert_fsdd(archive)
    files[f"{folder}/recordings/0_theo_5.wav"] = recording([9], rate=16000)
    with pytest.raises(DataError, match="8 kHz"):
        convert_fsdd(pack(tmp_path / "other.tar.gz", files), audio_sha256=None)


def test_aan_files(tmp_path):
    first, second, third = "b'one \"paper\"'", "b'another'", "x" * 50
    rows = {
        "train": [(1.0, first, second), (0.0, second, first), (1.0, second, third)],
        "eval": [(0.0, first, third)],
        "test": [(1.0, first, first)],
    }
    folder = tmp_path / "aan"
    folder.mkdir()
    for part, pairs in rows.items():
        lines = ["\t".join([str(y), "id1", "id2", a, b]) + "\n" for y, a, b in pairs]
        (folder / f"new_aan_pairs.{part}.tsv").write_text("".join(lines))
    for _ in range(2):  # from the official files, then as stored
        data = load_aan(tmp_path, length=20)
        assert data.documents == 2
        assert [len(s) for s in (data.train, data.validation, data.test)] == [3, 1, 1]
        inputs, labels, lengths = data.train.batch(torch.arange(3))
        assert inputs.shape == (3, 2, 20)
        assert labels.tolist() == [1, 0, 1]
        assert lengths.tolist() == [[14, 10], [10, 14], [10, 20]]
        assert readable(inputs[0, 0].numpy(), data.symbols) == first
        assert len(data.train.values) == 14 + 10 + 20  # each document is stored once
    assert "another" in sample_text(data, 3)
    assert "pairs of documents" in describe(data)


def test_aan_says_what_to_put_where(tmp_path):
    with pytest.raises(DataError, match=r"lra_release\.gz.*new_aan_pairs\.eval\.tsv.*into .*aan"):
        load("aan", root=tmp_path)


def test_aan_refuses_other_columns(tmp_path):
    for part in ("train", "eval", "test"):
        (tmp_path / f"new_aan_pairs.{part}.tsv").write_text("1.0\tonly\tfour\tcolumns\n")
    with pytest.raises(DataError, match="4 instead of 5 columns"):
        load("aan", root=tmp_path)


def test_unknown_names_and_options_name_the_nearest():
    with pytest.raises(ArgumentError, match="'smnst': did you mean smnist"):
        load("smnst")
    with pytest.raises(ArgumentError, match="choose from digits, smnist"):
        load("zzz")
    with pytest.raises(ArgumentError, match="imdb has no option 'lenght': did you mean length"):
        load("imdb", lenght=5)
    assert all(entry.summary for entry in DATASETS.values())


def test_subsets_are_stratified_and_the_same():
    data = load("digits", train_examples=100, test_examples=50)
    assert [len(s) for s in (data.train, data.validation, data.test)] == [100, 50, 50]
    assert torch.bincount(data.train.labels).tolist() == pytest.approx([10] * 10, abs=1)
    again = load("digits", train_examples=100)
    assert torch.equal(again.train.starts, data.train.starts)
    assert len(again.test) == 450
    whole = load("digits")
    sets = [set(split.starts.tolist()) for split in (whole.train, whole.validation)]
    assert sets[0].isdisjoint(sets[1])
    assert whole.test.values is not whole.train.values


def test_without_a_connection_a_set_says_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    with pytest.raises(DataError, match=r"mnist\.npz \(sha256 06af5.*train-images-idx3-ubyte\.gz"):
        load("smnist", root=tmp_path)


def test_show_draws_pictures_waves_and_text(tmp_path):
    digits = load("digits")
    draw_samples(digits, tmp_path / "new" / "digits.png", count=3)
    with Image.open(tmp_path / "new" / "digits.png") as image:
        assert len(image.convert("RGB").getcolors(1 << 20)) > 50
    text = describe(digits)
    assert "digits: 10 classes, at most 64 steps, 1 channels" in text
    assert "1212 examples" in text
    listops = load("listops", root=tmp_path, size=(50, 5, 5), longer_than=20, shorter_than=60)
    assert "\n  [M" in sample_text(listops, 8)
    assert "16 symbols" in describe(listops)
    with pytest.raises(TypeError, match="holds numbers"):
        sample_text(digits)
