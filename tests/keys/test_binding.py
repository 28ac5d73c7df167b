"""Nothing in a key file can be changed without changing its secret: what is chosen with a model in view is a new draw.

The secret is stretched from the seed, the salt and a fingerprint of everything else.
"""

import hashlib
import io
import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxmark.keys import Carrier, Key, Secret, encode_key, load_key, premark_signature, save_key
from onnxmark.keys.key import fingerprint

SHAPE = (4, 3, 3, 3)
SEED = Secret(bytes(range(32)))
ONE = Key(
    scheme="projection",
    seed=SEED,
    salt=bytes(range(32, 64)),
    payload=np.array([0, 1, 1, 0, 1, 0, 0, 0, 1], dtype=np.uint8),
    carriers=(Carrier(SHAPE, "conv.weight", "node", "Conv", 2),),
    parameters={"generator": "rademacher", "carrier": "full", "margin": 0.5, "count": 3},
    premark=premark_signature(np.random.default_rng(1).standard_normal(SHAPE).astype(np.float32), SEED),
    arrays={"inputs": np.arange(12, dtype=np.float32).reshape(3, 4), "pairs": np.array([[0, 1]])},
)


def fields(key):
    record = np.load(io.BytesIO(encode_key(key)), allow_pickle=False)
    return {name: record[name] for name in record.dtype.names}


def rewritten(path, values):
    record = np.zeros((), dtype=[(name, value.dtype, value.shape) for name, value in values.items()])
    for name, value in values.items():
        record[name] = value
    np.save(path, record)
    return load_key(path)


def another(value):
    """A value of the same type that differs in one place."""
    if value.dtype.kind == "S":
        text = bytearray(value[()])
        text[-1] ^= 1
        return np.array(bytes(text), dtype=value.dtype)
    flat = np.array(value).reshape(-1)
    flat[-1] = 1 - flat[-1] if flat[-1] in (0, 1) else np.nextafter(flat[-1], 0) if flat.dtype.kind == "f" else 7
    return flat.reshape(value.shape)


FIXED = {"carrier_shape", "seed", "salt", "magic", "version", "kdf", "kdf_n", "kdf_r", "kdf_p", "n_bits", "carriers"}
"""What is stretched beside it, what a reader accepts one value of, and what is changed below by hand."""


@pytest.mark.parametrize("name", sorted(set(fields(ONE)) - FIXED))
def test_every_field_of_the_file_is_bound(name, tmp_path):
    values = fields(ONE)
    assert fingerprint(rewritten(tmp_path / "same.npy", values)) == fingerprint(ONE)
    values[name] = another(values[name])
    assert fingerprint(rewritten(tmp_path / "other.npy", values)) != fingerprint(ONE)


def renamed(name):
    return replace(ONE, carriers=(replace(ONE.carrier, name=name),))


OTHERS = {
    "scheme": replace(ONE, scheme="constant-weight"),
    "a bit more": replace(ONE, payload=np.append(ONE.payload, np.uint8(0))),
    "a carrier more": replace(ONE, carriers=ONE.carriers * 2),
    "no carrier": replace(ONE, carriers=()),
    "the carrier's shape": replace(ONE, carriers=(replace(ONE.carrier, shape=(4, 27)),)),
    "the carrier's name": renamed("conv.weights"),
    "names that run together": replace(ONE, carriers=(replace(ONE.carrier, name="conv.weightnode", node=""),)),
    "a parameter more": replace(ONE, parameters={**ONE.parameters, "more": ""}),
    "a parameter of another type": replace(ONE, parameters={**ONE.parameters, "count": "3"}),
    "a whole number as a fraction": replace(ONE, parameters={**ONE.parameters, "count": 3.0}),
    "parameters that run together": replace(ONE, parameters={"carrier": 'full","count":3', "generator": "rademacher"}),
    "no memory": replace(ONE, premark=None),
    "no arrays": replace(ONE, arrays={}),
    "another shape": replace(ONE, arrays={**ONE.arrays, "inputs": ONE.arrays["inputs"].reshape(4, 3)}),
    "another type": replace(ONE, arrays={**ONE.arrays, "pairs": np.array([[0, 1]], dtype=np.int32)}),
    "another name": replace(ONE, arrays={"inputs": ONE.arrays["inputs"], "pair": ONE.arrays["pairs"]}),
}


def test_so_is_whatever_else_a_key_can_be():
    assert len({fingerprint(key) for key in (ONE, *OTHERS.values())}) == 1 + len(OTHERS)


def test_the_secret_is_made_as_documented():
    """Written out anew: what is hashed must never change."""

    def digest(array):
        return hashlib.sha256(f"{array.dtype.str}|{array.shape}|".encode() + array.tobytes()).hexdigest()

    first, second = digest(ONE.arrays["inputs"]), digest(ONE.arrays["pairs"])
    past = {"sha256": ONE.premark.sha256.hex(), **{name: digest(one) for name, one in ONE.premark.arrays.items()}}
    told = (
        f'{{"arrays":{{"inputs":"{first}","pairs":"{second}"}},'
        '"carriers":[[[4,3,3,3],"conv.weight","node","Conv",2]],'
        '"parameters":{"carrier":"full","count":3,"generator":"rademacher","margin":0.5},"payload":[9,"1601"],'
        f'"premark":{json.dumps(past, sort_keys=True, separators=(",", ":"))},"scheme":"projection"}}'
    )
    context = f"projection|9|{hashlib.sha256(told.encode()).hexdigest()}"
    expected = hashlib.scrypt(
        SEED.reveal(), salt=f"onnxmark/2|{context}|".encode() + ONE.salt, n=2**15, r=8, p=1, maxmem=2**26, dklen=32
    )
    assert ONE.stretched().reveal() == expected


TEXTS = st.text(st.characters(codec="utf-8"), max_size=8) | st.sampled_from(["w\0", "\0", "a\0b", "\udcff"])


@settings(max_examples=100, deadline=None)
@given(
    name=TEXTS,
    node=TEXTS,
    number=st.integers(-(2**40), 2**40) | st.floats(allow_nan=False),
    order=st.sampled_from("<>"),
)
def test_a_key_is_the_same_key_after_it_was_filed(tmp_path_factory, name, node, number, order):
    """Whatever a record of NumPy's cannot hold: zeros at the end of a text, another order of bytes."""
    key = replace(
        ONE,
        carriers=(replace(ONE.carrier, name=name, node=node),),
        parameters={"number": number, "numpy": np.float64(0.1)},
        arrays={"inputs": np.arange(3, dtype=f"{order}f4")},
    )
    path = tmp_path_factory.mktemp("key") / "key.npy"
    save_key(key, path)
    assert fingerprint(load_key(path)) == fingerprint(key)
