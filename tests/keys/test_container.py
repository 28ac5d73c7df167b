"""The key file: what is written comes back, anybody can read it, and nothing hostile gets past the door."""

import hashlib
import io
import pickle
import stat
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxmark.errors import KeyFileError, MessageError
from onnxmark.keys import (
    Carrier,
    ForeignKey,
    Key,
    Secret,
    encode_key,
    load_key,
    load_message,
    premark_signature,
    save_key,
)
from onnxmark.keys.derivation import bits
from onnxmark.keys.signature import MAX_CHANNELS

GOLDEN = Path(__file__).parents[1] / "data" / "golden_key_v2.npy"


def make_key(n_bits=64, premark=True, **parameters):
    rng = np.random.default_rng(5)
    shape = (8, 4, 3, 3)
    seed = Secret(bytes(range(32)))
    return Key(
        scheme="projection",
        seed=seed,
        salt=bytes(range(32, 64)),
        payload=rng.integers(0, 2, n_bits).astype(np.uint8),
        carriers=(Carrier(shape, "conv1.weight", "node_Conv_1", "Conv", 2),),
        parameters={"generator": "rademacher", "carrier": "full", **parameters},
        premark=premark_signature(rng.standard_normal(shape).astype(np.float32), seed) if premark else None,
    )


def test_round_trip(tmp_path):
    saved = save_key(make_key(), tmp_path / "key.npy")
    loaded = load_key(tmp_path / "key.npy")
    assert isinstance(loaded, Key)
    for name in ("scheme", "seed", "salt", "carriers", "parameters", "commitment"):
        assert getattr(loaded, name) == getattr(saved, name)
    assert np.array_equal(loaded.payload, saved.payload)
    assert loaded.premark.sha256 == saved.premark.sha256
    for name, array in saved.premark.arrays.items():
        assert np.array_equal(loaded.premark.arrays[name], array)
    assert encode_key(loaded) == (tmp_path / "key.npy").read_bytes()


def test_of_a_layer_with_too_many_channels_to_tell_apart_the_norms_are_kept(tmp_path):
    values = np.random.default_rng(1).standard_normal((3, MAX_CHANNELS + 1, 1, 2)).astype(np.float32)
    past = premark_signature(values, Secret(bytes(range(32))))
    key = replace(make_key(premark=False), carriers=(Carrier(values.shape),), premark=past)
    save_key(key, tmp_path / "key.npy")
    loaded = load_key(tmp_path / "key.npy").premark
    assert [array.size for array in loaded.arrays.values()] == [0, 0, 0, 0, 0, 3]
    np.testing.assert_allclose(loaded.output_norm, np.linalg.norm(values.reshape(3, -1), axis=1), rtol=1e-6)


def test_commitment_is_sha256_of_the_file(tmp_path):
    saved = save_key(make_key(), tmp_path / "key.npy")
    assert saved.commitment == hashlib.sha256((tmp_path / "key.npy").read_bytes()).hexdigest()


def test_file_is_private_and_never_overwritten(tmp_path):
    save_key(make_key(), tmp_path / "key.npy")
    assert stat.S_IMODE((tmp_path / "key.npy").stat().st_mode) == 0o600
    with pytest.raises(KeyFileError, match="never overwritten"):
        save_key(make_key(), tmp_path / "key.npy")


def test_numpy_alone_reads_the_record(tmp_path):
    save_key(make_key(), tmp_path / "key.npy")
    record = np.load(tmp_path / "key.npy", allow_pickle=False)
    assert bytes(record["seed"]) == bytes(range(32))
    assert record["parameter_generator"][()] == b"rademacher"
    assert tuple(record["carrier_shape"]) == (8, 4, 3, 3)


def test_golden_key_decodes():
    key = load_key(GOLDEN)
    assert key.commitment == "7dc2c08ad2075bfc201cc9e18670167bf626a29772b3f32ff32032660b234310"
    assert key.carrier == Carrier((8, 4, 3, 3), "conv1.weight", "node_Conv_1", "Conv", 2)
    assert np.packbits(key.message).tobytes().hex() == "7676d39655ffeda4"


def test_message_is_payload_whitened_by_the_keystream():
    key = make_key()
    assert np.array_equal(key.message ^ key.payload, bits(key.master, "message", 0, key.n_bits))
    assert 0 < key.message.mean() < 1


def test_secrets_are_not_shown():
    key = make_key()
    shown = repr(key) + str(key) + repr(key.seed) + repr(key.premark)
    assert bytes(range(32)).hex() not in shown
    assert str(list(range(32)))[1:-1] not in shown
    assert "payload" not in shown
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(key)


def npy(array):
    file = io.BytesIO()
    np.lib.format.write_array(file, array, allow_pickle=True)
    return file.getvalue()


def header(text, version=(1, 0)):
    data = text.encode("latin1")
    size = len(data).to_bytes(2 if version == (1, 0) else 4, "little")
    return b"\x93NUMPY" + bytes(version) + size + data


def changed_record(**changes):
    record = np.load(io.BytesIO(encode_key(make_key())), allow_pickle=False)
    fields = {name: record[name] for name in record.dtype.names}
    for name, value in changes.items():
        if value is None:
            del fields[name]
        else:
            fields[name] = np.asarray(value)
    out = np.zeros((), dtype=[(name, value.dtype, value.shape) for name, value in fields.items()])
    for name, value in fields.items():
        out[name] = value
    return npy(out)


HOSTILE = {
    "empty": (b"", "not a .npy file"),
    "text": (b"hello world", "not a .npy file"),
    "magic only": (b"\x93NUMPY", "cannot be read"),
    "unknown version": (header("{}", (9, 9)), "cannot be read"),
    "four terabytes": (
        header("{'descr': '<f8', 'fortran_order': False, 'shape': (1048576, 524288), }"),
        "damaged or cut short",
    ),
    "overflowing shape": (
        header(f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({2**62}, {2**62}), }}"),
        "damaged",
    ),
    "negative shape": (header("{'descr': '<f8', 'fortran_order': False, 'shape': (-1, 2), }"), "impossible shape"),
    "shape of text": (header("{'descr': '<f8', 'fortran_order': False, 'shape': ('a',), }"), "cannot be read"),
    "deep nesting": (header("(" * 5000 + ")" * 5000), "cannot be read"),
    "not a dictionary": (header("[1, 2]"), "cannot be read"),
    "bad descr": (header("{'descr': 'no such type', 'fortran_order': False, 'shape': (2, 2), }"), "cannot be read"),
    "void descr": (header("{'descr': '|V0', 'fortran_order': False, 'shape': (2, 2), }"), "unexpected element type"),
    "object": (npy(np.array([{}, 1], dtype=object)), "never unpickles"),
    "object field": (npy(np.zeros((), dtype=[("seed", object)])), "never unpickles"),
    "complex": (npy(np.zeros((2, 2), dtype=complex)), "unexpected element type"),
    "dates": (npy(np.zeros((2, 2), dtype="M8[s]")), "unexpected element type"),
    "one axis": (npy(np.zeros(5)), "2-D matrix"),
    "no entries": (npy(np.zeros((0, 5))), "2-D matrix"),
    "not finite": (npy(np.full((2, 2), np.nan)), "not finite"),
    "infinite": (npy(np.full((2, 2), np.inf)), "not finite"),
    "cut short": (encode_key(make_key())[:-10], "damaged or cut short"),
    "too long": (encode_key(make_key()) + b"\0", "damaged or cut short"),
    "foreign record": (npy(np.zeros((), dtype=[("a", "<f8")])), "fields missing"),
    "array of records": (npy(np.zeros(3, dtype=[("a", "<f8")])), "fields missing"),
    "wrong magic": (changed_record(magic=np.bytes_(b"something-else")), "wrong magic"),
    "future version": (changed_record(version=np.uint16(3)), "key format 3; .* Upgrade onnxmark"),
    "first version": (changed_record(version=np.uint16(1)), "key format 1; .* Make a new key"),
    "no seed": (changed_record(seed=None), "fields missing: seed"),
    "short seed": (changed_record(seed=np.zeros(16, np.uint8)), "seed must be 32 bytes"),
    "memory-hungry kdf": (changed_record(kdf_n=np.uint32(2**31)), "knows scrypt 32768/8/1 only"),
    "other kdf": (changed_record(kdf=np.bytes_(b"none")), "knows scrypt"),
    "no bits": (changed_record(n_bits=np.uint32(0)), "1 to 65,536 bits"),
    "too many bits": (changed_record(n_bits=np.uint32(2**31)), "1 to 65,536 bits"),
    "bits and payload disagree": (changed_record(n_bits=np.uint32(200)), "declares 200 bits"),
    "negative carrier": (changed_record(carrier_shape=np.array([-8, 4, 3, 3])), "carrier shape"),
    "huge carrier": (changed_record(carrier_shape=np.array([2**40, 2**40])), "carrier shape"),
    "text for a number": (changed_record(scheme=np.float64(1)), "text expected"),
    "signature not finite": (changed_record(premark_input_scale=np.full(4, np.nan, np.float32)), "not finite"),
    "signature of another layer": (changed_record(premark_input_scale=np.ones(5, np.float32)), "of another shape"),
    "signature of other numbers": (changed_record(premark_input_scale=np.ones(4)), "other fields than it should"),
    "half of a signature": (changed_record(premark_sha256=None), "other fields than it should"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused(name, tmp_path):
    data, words = HOSTILE[name]
    path = tmp_path / "key.npy"
    path.write_bytes(data)
    with pytest.raises(KeyFileError, match=words) as caught:
        load_key(path)
    assert "\n" not in str(caught.value)


def test_places_that_are_no_files_are_refused(tmp_path):
    import os

    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(KeyFileError, match="is no file"):
        load_key(tmp_path / "fifo")
    with pytest.raises(KeyFileError, match="is a directory"):
        load_key(tmp_path)
    with pytest.raises(KeyFileError, match="No such file"):
        load_key(tmp_path / "missing.npy")
    with pytest.raises(KeyFileError, match="null"):
        load_key("nul\0byte")


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_changed_byte_is_a_key_or_one_typed_error(data):
    original = bytearray(encode_key(make_key(premark=False)))
    for _ in range(data.draw(st.integers(1, 4))):
        original[data.draw(st.integers(0, len(original) - 1))] = data.draw(st.integers(0, 255))
    from onnxmark.keys.container import _decode
    from onnxmark.keys.npy import parse_npy

    try:
        array = parse_npy(bytes(original), "it")
        if array.dtype.names is not None:
            _decode(array, "it", "0")
    except KeyFileError as error:
        one_line = "\n" not in str(error)
        assert one_line


class TestForeign:
    def save(self, tmp_path, matrix, bits=None):
        np.save(tmp_path / "w.npy", matrix)
        if bits is None:
            return load_key(tmp_path / "w.npy")
        np.save(tmp_path / "b.npy", bits)
        return load_key(tmp_path / "w.npy", tmp_path / "b.npy")

    @pytest.mark.parametrize("dtype", ["f2", "f4", ">f8", "i4", "u1"])
    @pytest.mark.parametrize("order", ["C", "F"])
    def test_matrix_of_any_number_type_and_order(self, tmp_path, dtype, order):
        matrix = np.asarray(np.arange(12).reshape(4, 3), dtype=dtype, order=order)
        key = self.save(tmp_path, matrix)
        assert isinstance(key, ForeignKey)
        assert np.array_equal(key.matrix, matrix.astype(float))
        assert key.origin == "matrix"

    def test_missing_message_is_all_ones(self, tmp_path):
        assert self.save(tmp_path, np.eye(4)).message(4).tolist() == [1, 1, 1, 1]

    def test_message_of_any_shape(self, tmp_path):
        assert self.save(tmp_path, np.eye(4), np.array([[1.0, 0, 0, 1]])).message(4).tolist() == [1, 0, 0, 1]

    def test_message_of_another_length(self, tmp_path):
        with pytest.raises(MessageError, match=r"3 bits and the key 'w\.npy' 4"):
            self.save(tmp_path, np.eye(4), np.ones(3)).message(4)

    @pytest.mark.parametrize(
        ("bits", "words"), [([0, 2], "zeros and ones only"), ([], "0 bits"), ([0.5], "zeros and ones")]
    )
    def test_message_of_something_else(self, tmp_path, bits, words):
        np.save(tmp_path / "b.npy", np.array(bits, dtype=float))
        with pytest.raises(MessageError, match=words):
            load_message(tmp_path / "b.npy")

    def test_message_for_a_key_that_has_its_own(self, tmp_path):
        save_key(make_key(), tmp_path / "key.npy")
        np.save(tmp_path / "b.npy", np.ones(64))
        with pytest.raises(KeyFileError, match="holds its own message"):
            load_key(tmp_path / "key.npy", tmp_path / "b.npy")
