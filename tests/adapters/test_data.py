"""The readers give what the files hold, and answer every hostile file with a DataError of one line."""

from __future__ import annotations

import contextlib
import gzip
import io
import struct
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnxmark_torch.data import (
    FASHION_MNIST,
    Examples,
    cifar10,
    load_cifar10,
    load_digits,
    load_fashion_mnist,
    read_idx,
)

from onnxmark.errors import DataError, MissingExtra

NAMES = ("a", "b", "c")
CIFAR_FILES = (*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin")
RECORDS = 4
real_fashion = pytest.mark.skipif(not FASHION_MNIST.is_dir(), reason="Debian's dataset-fashion-mnist is not installed")


def idx_bytes(array: np.ndarray) -> bytes:
    """IDX as its description says, written with struct."""
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


class TestExamples:
    def test_nobody_can_write_to_them(self):
        examples = Examples(noise(3, 1, 2, 2), np.array([0, 1, 2]), NAMES)
        assert len(examples) == 3
        with pytest.raises(ValueError, match="read-only"):
            examples.images[0] = 0
        with pytest.raises(ValueError, match="read-only"):
            examples.labels[0] = 1

    def test_the_first_are_the_first(self):
        examples = Examples(noise(3, 1, 2, 2), np.array([0, 1, 2]), NAMES)
        first = examples.first(2)
        np.testing.assert_array_equal(first.images, noise(3, 1, 2, 2)[:2])
        assert first.labels.tolist() == [0, 1]
        assert np.shares_memory(first.images, examples.images)

    @pytest.mark.parametrize("count", [0, -1, 4])
    def test_there_are_only_so_many(self, count):
        with pytest.raises(ValueError, match=f"the first {count} of 3 examples"):
            Examples(noise(3, 1, 2, 2), np.array([0, 1, 2]), NAMES).first(count)

    @pytest.mark.parametrize(
        ("images", "labels", "says"),
        [
            (noise(3, 2, 2), np.array([0, 1, 2]), r"uint8 \(N, C, H, W\), not uint8 \(3, 2, 2\)"),
            (noise(3, 1, 2, 2).astype(np.float32), np.array([0, 1, 2]), "not float32"),
            (noise(3, 1, 2, 2), np.array([0, 1]), r"each of the 3 images \(at least 1\), not int64 of shape \(2,\)"),
            (noise(3, 1, 2, 2), np.array([0, 1, 2], dtype=np.uint8), "not uint8 of shape"),
            (noise(0, 1, 2, 2), np.array([], dtype=np.int64), "at least 1"),
            (noise(3, 1, 2, 2), np.array([0, 1, 3]), "from 0 to 3, but there are 3 classes"),
            (noise(3, 1, 2, 2), np.array([-1, 1, 2]), "from -1 to 2"),
        ],
    )
    def test_what_does_not_belong_together(self, images, labels, says):
        with pytest.raises(DataError, match=says):
            Examples(images, labels, NAMES)


class TestIdx:
    @settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(shape=st.lists(st.integers(0, 5), min_size=1, max_size=4), compressed=st.booleans())
    def test_what_struct_wrote_is_read(self, tmp_path, shape, compressed):
        array = noise(*shape)
        path = tmp_path / ("x.gz" if compressed else "x")
        path.write_bytes(gzip.compress(idx_bytes(array)) if compressed else idx_bytes(array))
        read = read_idx(path)
        np.testing.assert_array_equal(read, array)
        assert read.dtype == np.uint8
        assert not read.flags.writeable

    @settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(data=st.one_of(st.binary(max_size=64), st.binary(max_size=40).map(lambda rest: b"\0\0\x08" + rest)))
    def test_any_bytes_give_an_array_or_a_data_error(self, tmp_path, data):
        path = tmp_path / "any"
        path.write_bytes(data)
        with contextlib.suppress(DataError):
            assert idx_bytes(read_idx(path)) == data

    @pytest.mark.parametrize(
        ("data", "says"),
        [
            (b"", "starts with nothing"),
            (b"\x89PNG\r\n", "starts with 89 50 4e 47"),
            (b"\0\0\x0d\x01\0\0\0\x01\0\0\0\0", "IDX file of unsigned bytes"),
            (b"\0\0\x08\x00", "starts with 00 00 08 00"),
            (b"\0\0\x08\x05" + bytes(20), "starts with 00 00 08 05"),
            (b"\0\0\x08\x02\0\0\0\x01", "ends inside its header"),
            (struct.pack(">BBBB2I", 0, 0, 8, 2, 2**31, 2**31), "claims 4,611,686,018,427,387,904 elements; at most"),
            (idx_bytes(noise(3, 3))[:-1], "promises 9 elements and holds 8"),
            (idx_bytes(noise(3, 3)) + b"x", "promises 9 elements and holds more"),
        ],
    )
    def test_what_is_wrong_is_said(self, tmp_path, data, says):
        (tmp_path / "x").write_bytes(data)
        with pytest.raises(DataError, match=says):
            read_idx(tmp_path / "x")

    @pytest.mark.parametrize("cut", [5, 15, 30])
    def test_a_truncated_gzip(self, tmp_path, cut):
        (tmp_path / "x.gz").write_bytes(gzip.compress(idx_bytes(noise(10, 10)))[:cut])
        with pytest.raises(DataError, match="cannot be read"):
            read_idx(tmp_path / "x.gz")

    def test_a_corrupt_gzip(self, tmp_path):
        data = bytearray(gzip.compress(idx_bytes(noise(100, 10))))
        data[200:220] = bytes(20)
        (tmp_path / "x.gz").write_bytes(data)
        with pytest.raises(DataError, match="cannot be read"):
            read_idx(tmp_path / "x.gz")

    def test_a_bomb_is_expanded_no_further_than_its_header_promises(self, tmp_path, monkeypatch):
        (tmp_path / "x.gz").write_bytes(gzip.compress(idx_bytes(noise(2, 2)) + bytes(10_000_000)))
        asked = []
        read = gzip.GzipFile.read
        monkeypatch.setattr(gzip.GzipFile, "read", lambda self, size=-1: asked.append(size) or read(self, size))
        with pytest.raises(DataError, match="holds more"):
            read_idx(tmp_path / "x.gz")
        assert asked == [4, 8, 5]

    def test_a_missing_file_and_a_folder(self, tmp_path):
        with pytest.raises(DataError, match="no such file"):
            read_idx(tmp_path / "x")
        with pytest.raises(DataError, match="cannot be read"):
            read_idx(tmp_path)


def write_fashion(folder: Path, *, suffix: str = "", labels: np.ndarray | None = None) -> None:
    pack = gzip.compress if suffix else bytes
    for seed, (part, count) in enumerate((("train", 6), ("t10k", 4))):
        images = noise(count, 5, 5, seed=seed)
        found = np.arange(count, dtype=np.uint8) if labels is None else labels
        (folder / f"{part}-images-idx3-ubyte{suffix}").write_bytes(pack(idx_bytes(images)))
        (folder / f"{part}-labels-idx1-ubyte{suffix}").write_bytes(pack(idx_bytes(found)))


class TestFashionMnist:
    @pytest.mark.parametrize("suffix", ["", ".gz"])
    def test_both_parts_of_a_folder(self, tmp_path, suffix):
        write_fashion(tmp_path, suffix=suffix)
        data = load_fashion_mnist(tmp_path)
        for seed, (part, count) in enumerate(((data.training, 6), (data.test, 4))):
            np.testing.assert_array_equal(part.images[:, 0], noise(count, 5, 5, seed=seed))
            assert part.labels.tolist() == list(range(count))
            assert part.class_names[0] == "T-shirt/top"

    def test_a_relative_has_its_own_class_names(self, tmp_path):
        write_fashion(tmp_path)
        names = tuple("abcdefg")
        assert load_fashion_mnist(str(tmp_path), names).test.class_names == names

    def test_a_label_without_a_class(self, tmp_path):
        write_fashion(tmp_path, labels=np.array([0, 1, 2, 10, 0, 0], dtype=np.uint8))
        with pytest.raises(DataError, match="from 0 to 10, but there are 10 classes"):
            load_fashion_mnist(tmp_path)

    def test_fewer_labels_than_images(self, tmp_path):
        write_fashion(tmp_path, labels=np.zeros(4, dtype=np.uint8))
        with pytest.raises(DataError, match="each of the 6 images"):
            load_fashion_mnist(tmp_path)

    def test_images_and_labels_swapped(self, tmp_path):
        write_fashion(tmp_path)
        (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx_bytes(noise(6, 5, 5)))
        with pytest.raises(DataError, match="are the files swapped"):
            load_fashion_mnist(tmp_path)

    def test_a_folder_without_them(self, tmp_path):
        with pytest.raises(DataError, match=r"has neither train-images-idx3-ubyte\.gz nor .*; install Debian's"):
            load_fashion_mnist(tmp_path)

    @real_fashion
    def test_the_real_set_agrees_with_the_demos_reader(self):
        from fixtures.make import load_images

        data = load_fashion_mnist()
        for part, name, count in ((data.training, "train", 60_000), (data.test, "t10k", 10_000)):
            reference = load_images(FASHION_MNIST, name)
            assert part.images.shape == (count, 1, 28, 28)
            np.testing.assert_array_equal(part.images[::97], np.rint(reference.pixels[::97] * 255))
            np.testing.assert_array_equal(part.labels, reference.labels)
            assert np.bincount(part.labels).tolist() == [count // 10] * 10


def batch(seed: int, labels: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray, bytes]:
    """Images, labels, and the file that holds them: label, then red, green, blue, record by record."""
    images = noise(RECORDS, 3, 32, 32, seed=seed)
    labels = np.random.default_rng(seed).integers(0, 10, RECORDS) if labels is None else labels
    return (
        images,
        labels,
        b"".join(bytes([label]) + image.tobytes() for label, image in zip(labels, images, strict=True)),
    )


BATCHES = {name: batch(seed) for seed, name in enumerate(CIFAR_FILES)}


def member(name: str, data: bytes) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    return info, data


def cifar_members() -> list[tuple[tarfile.TarInfo, bytes]]:
    texts = [member("cifar-10-batches-bin/readme.html", b"read me"), member("../outside", b"x")]
    return [*texts, *(member(f"cifar-10-batches-bin/{name}", data) for name, (_, _, data) in BATCHES.items())]


def write_archive(path: Path, members: list[tuple[tarfile.TarInfo, bytes]]) -> Path:
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as archive:
        for info, data in members:
            archive.addfile(info, io.BytesIO(data))
    return path


def write_folder(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for name, (_, _, data) in BATCHES.items():
        (folder / name).write_bytes(data)
    return folder


def _sign(content: bytearray) -> None:
    """Make the first header's checksum right, so that tarfile believes what stands in it."""
    content[148:156] = b" " * 8
    content[148:156] = f"{sum(content[:512]):06o}".encode() + b"\0 "


class TestCifar10:
    @pytest.mark.parametrize("place", ["archive.tar.gz", "archive.tar", "cifar-10-batches-bin", "."])
    def test_the_archive_the_folder_and_the_folder_above(self, tmp_path, place):
        if place.startswith("archive"):
            path = write_archive(tmp_path / place, cifar_members())
        else:
            write_folder(tmp_path / "cifar-10-batches-bin")
            path = tmp_path / place
        data = load_cifar10(path, records=RECORDS)
        training = [BATCHES[name] for name in CIFAR_FILES[:5]]
        np.testing.assert_array_equal(data.training.images, np.concatenate([images for images, _, _ in training]))
        np.testing.assert_array_equal(data.training.labels, np.concatenate([labels for _, labels, _ in training]))
        np.testing.assert_array_equal(data.test.images, BATCHES["test_batch.bin"][0])
        np.testing.assert_array_equal(data.test.labels, BATCHES["test_batch.bin"][1])
        assert data.test.class_names[6] == "frog"

    def test_nothing_is_extracted(self, tmp_path):
        inner = tmp_path / "inner"
        inner.mkdir()
        load_cifar10(write_archive(inner / "c.tar.gz", cifar_members()), records=RECORDS)
        assert [path.name for path in tmp_path.rglob("*")] == ["inner", "c.tar.gz"]

    def test_order_in_the_archive_does_not_matter(self, tmp_path):
        path = write_archive(tmp_path / "c.tar", cifar_members()[::-1])
        np.testing.assert_array_equal(
            load_cifar10(path, records=RECORDS).training.images[:RECORDS], BATCHES["data_batch_1.bin"][0]
        )

    def test_the_real_size_is_asked_for_unless_told_otherwise(self, tmp_path):
        write_folder(tmp_path / "x")
        with pytest.raises(DataError, match=r"has 12,292 bytes, expected 30,730,000 \(10,000 records of 3,073\)"):
            load_cifar10(tmp_path / "x")
        path = write_archive(tmp_path / "c.tar.gz", cifar_members())
        with pytest.raises(DataError, match=r"c\.tar\.gz: cifar-10-batches-bin/data_batch_1\.bin: has 12,292 bytes"):
            load_cifar10(path)

    def test_a_label_above_nine(self, tmp_path):
        folder = write_folder(tmp_path / "x")
        (folder / "test_batch.bin").write_bytes(batch(0, np.array([0, 1, 2, 10]))[2])
        with pytest.raises(DataError, match="from 0 to 10, but there are 10 classes"):
            load_cifar10(folder, records=RECORDS)

    def test_a_missing_file_and_the_pickled_version(self, tmp_path):
        folder = write_folder(tmp_path / "x")
        (folder / "data_batch_3.bin").unlink()
        with pytest.raises(DataError, match=r"lacks data_batch_3\.bin; take CIFAR-10's binary version"):
            load_cifar10(folder, records=RECORDS)
        (tmp_path / "py").mkdir()
        (tmp_path / "py" / "data_batch_1").write_bytes(b"\x80\x02}q\x01")
        with pytest.raises(DataError, match=r"lacks data_batch_1\.bin, .*not the pickled one"):
            load_cifar10(tmp_path / "py", records=RECORDS)

    @pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE])
    def test_a_member_that_is_no_file_counts_as_missing(self, tmp_path, kind):
        members = cifar_members()
        members[-1][0].type = kind
        members[-1][0].linkname = "/etc/passwd"
        members[-1][0].size = 0
        with pytest.raises(DataError, match=r"lacks test_batch\.bin"):
            load_cifar10(write_archive(tmp_path / "c.tar", members), records=RECORDS)

    def test_files_of_the_right_name_elsewhere_do_not_count(self, tmp_path):
        members = [member(f"other/{name}", data) for name, (_, _, data) in BATCHES.items()]
        with pytest.raises(DataError, match=r"lacks data_batch_1\.bin"):
            load_cifar10(write_archive(tmp_path / "c.tar", members), records=RECORDS)

    @pytest.mark.parametrize("size", [1, 9_000_000])
    def test_an_archive_that_unpacks_to_too_much(self, tmp_path, monkeypatch, size):
        monkeypatch.setattr(cifar10, "_MAX_BYTES", 1 << 20)
        padding = [member(f"cifar-10-batches-bin/{number}", bytes(size)) for number in range(2000)]
        path = write_archive(tmp_path / "c.tar.gz", padding[: 2000 if size == 1 else 1])
        assert path.stat().st_size < 1 << 20
        with pytest.raises(DataError, match="unpacks to more than 1 MiB; not CIFAR-10"):
            load_cifar10(path, records=RECORDS)

    def test_a_header_that_claims_gigabytes(self, tmp_path, monkeypatch):
        monkeypatch.setattr(cifar10, "_MAX_BYTES", 1 << 20)
        header = tarfile.TarInfo("long")
        header.type, header.size = tarfile.GNUTYPE_LONGNAME, 4 << 30
        path = tmp_path / "c.tar.gz"
        path.write_bytes(gzip.compress(header.tobuf(tarfile.GNU_FORMAT) + bytes(4 << 20)))
        with pytest.raises(DataError, match="unpacks to more than 1 MiB"):
            load_cifar10(path, records=RECORDS)

    @pytest.mark.parametrize("cut", [10, 40_000])
    def test_a_truncated_archive(self, tmp_path, cut):
        path = write_archive(tmp_path / "c.tar.gz", cifar_members())
        path.write_bytes(path.read_bytes()[:cut])
        with pytest.raises(DataError, match="cannot be read"):
            load_cifar10(path, records=RECORDS)

    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(places=st.lists(st.integers(0, 511), min_size=1, max_size=20), data=st.binary(min_size=20, max_size=20))
    def test_a_damaged_header_is_a_data_error_or_does_no_harm(self, tmp_path, places, data):
        path = write_archive(tmp_path / "c.tar", cifar_members()[2:])
        content = bytearray(path.read_bytes())
        for place, byte in zip(places, data, strict=False):
            content[place] = byte
        _sign(content)
        path.write_bytes(content)
        with contextlib.suppress(DataError):
            assert len(load_cifar10(path, records=RECORDS).training) == 5 * RECORDS

    @pytest.mark.parametrize("name", ["x.tar", "x.tar.gz", "x.bin"])
    def test_a_file_that_is_no_archive_and_one_that_is_missing(self, tmp_path, name):
        with pytest.raises(DataError, match="cannot be read"):
            load_cifar10(tmp_path / name)
        (tmp_path / name).write_bytes(b"hello" * 1000)
        with pytest.raises(DataError, match="cannot be read"):
            load_cifar10(tmp_path / name)

    def test_no_records_are_the_callers_mistake(self, tmp_path):
        with pytest.raises(ValueError, match="records must be at least 1, not 0"):
            load_cifar10(tmp_path, records=0)


class TestDigits:
    def test_they_are_scikit_learns(self):
        datasets = pytest.importorskip("sklearn.datasets")
        bunch, data = datasets.load_digits(), load_digits()
        images = np.concatenate([data.training.images, data.test.images])
        assert (len(data.training), len(data.test)) == (1437, 360)
        np.testing.assert_array_equal(np.rint(images[:, 0] / 255 * 16), bunch.images)
        np.testing.assert_array_equal(np.concatenate([data.training.labels, data.test.labels]), bunch.target)
        assert (images.min(), images.max(), len(np.unique(images))) == (0, 255, 17)

    def test_without_scikit_learn_the_cure_is_named(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "sklearn", None)
        with pytest.raises(MissingExtra, match=r"digits data set needs scikit-learn.*onnxmark\[data\]"):
            load_digits()
