"""Calibration files: what is accepted, and one friendly line for everything that is not."""

import numpy as np
import pytest

from onnxmark.errors import CalibrationError
from onnxmark.model.running import calibration
from onnxmark.model.running.calibration import Calibration, ModelInput, bind, load_calibration

IMAGE = ModelInput("image", np.dtype("f4"), (None, 3, 4))
TOKENS = ModelInput("tokens", np.dtype("i8"), (None, 5))


def _given(**arrays):
    return Calibration({name: np.asarray(array) for name, array in arrays.items()}, "inputs.npz")


def test_npz_by_name(tmp_path):
    np.savez(tmp_path / "in.npz", image=np.ones((2, 3, 4)), labels=np.arange(2))
    bound = bind(load_calibration(tmp_path / "in.npz"), (IMAGE,))
    assert bound.feed["image"].dtype == np.float32
    assert bound.n_inputs == 2
    np.testing.assert_array_equal(bound.labels, [0, 1])


def test_compressed_npz(tmp_path):
    np.savez_compressed(tmp_path / "in.npz", image=np.ones((2, 3, 4)))
    assert bind(load_calibration(str(tmp_path / "in.npz")), (IMAGE,)).n_inputs == 2


def test_npy_is_the_one_input(tmp_path):
    np.save(tmp_path / "in.npy", np.ones((7, 3, 4)))
    bound = bind(load_calibration(tmp_path / "in.npy"), (IMAGE,))
    assert bound.n_inputs == 7
    assert bound.labels is None


def test_single_array_fits_a_single_input_by_any_name():
    assert bind(_given(anything=np.zeros((2, 3, 4))), (IMAGE,)).n_inputs == 2


def test_single_array_beside_labels():
    assert bind(_given(x=np.zeros((2, 3, 4)), labels=[[1], [0]]), (IMAGE,)).labels.tolist() == [1, 0]


def test_an_input_called_labels_is_an_input():
    item = ModelInput("labels", np.dtype("i8"), (None,))
    bound = bind(_given(image=np.zeros((2, 3, 4)), labels=[3, 4]), (IMAGE, item))
    assert bound.labels is None
    assert bound.feed["labels"].tolist() == [3, 4]


def test_two_inputs():
    bound = bind(_given(image=np.zeros((3, 3, 4)), tokens=np.zeros((3, 5), dtype="u1")), (IMAGE, TOKENS))
    assert bound.feed["tokens"].dtype == np.int64


@pytest.mark.parametrize("path", ["missing.npz", "."])
def test_no_file(tmp_path, path):
    with pytest.raises(CalibrationError, match="no such file"):
        load_calibration(tmp_path / path)


@pytest.mark.parametrize(
    "content", [b"", b"hello", b"PK\x03\x04broken", b"\x93NUMPY\x01\x00", b"\x93NUMPY\x01\x00\x10\x00{'descr': '<f4'"]
)
def test_files_of_another_kind(tmp_path, content):
    (tmp_path / "in.npz").write_bytes(content)
    with pytest.raises(CalibrationError, match=r"^[^\n]*not a readable .npz or .npy of numbers[^\n]*$"):
        load_calibration(tmp_path / "in.npz")


def test_truncated_npz(tmp_path):
    np.savez(tmp_path / "in.npz", image=np.ones((20, 3, 4)))
    whole = (tmp_path / "in.npz").read_bytes()
    (tmp_path / "in.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CalibrationError, match="not a readable"):
        load_calibration(tmp_path / "in.npz")


@pytest.mark.parametrize("name", ["in.npy", "in.npz"])
def test_pickles_are_never_opened(tmp_path, name):
    (np.save if name.endswith("npy") else np.savez)(tmp_path / name, np.array([{}], dtype=object))
    with pytest.raises(CalibrationError, match=r"not a readable .*allow_pickle=False"):
        load_calibration(tmp_path / name)


def test_a_header_that_promises_more_than_memory(tmp_path):
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000000,), }\n"
    (tmp_path / "in.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    with pytest.raises(CalibrationError, match="not a readable"):
        load_calibration(tmp_path / "in.npy")


def test_an_archive_that_would_fill_memory(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "in.npz", image=np.ones((200, 3, 4)))
    monkeypatch.setattr(calibration, "_MAX_BYTES", 1000)
    with pytest.raises(CalibrationError, match="more than 8 GiB"):
        load_calibration(tmp_path / "in.npz")


def test_an_empty_archive(tmp_path):
    np.savez(tmp_path / "in.npz")
    with pytest.raises(CalibrationError, match="holds no arrays"):
        load_calibration(tmp_path / "in.npz")


@pytest.mark.parametrize(
    "given", [_given(image=np.zeros((2, 3, 4))), _given(image=np.zeros((2, 3, 4)), token=np.zeros((2, 5)))]
)
def test_wrong_names_list_the_inputs(given):
    with pytest.raises(
        CalibrationError, match=r"has arrays 'image'.*'image' \(float32 \?x3x4\), 'tokens' \(int64 \?x5\)"
    ):
        bind(given, (IMAGE, TOKENS))


def test_labels_alone_are_no_input():
    with pytest.raises(CalibrationError, match="has arrays none"):
        bind(_given(labels=[1, 2]), (IMAGE,))


@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 5), (2, 4, 4), (2, 3, 4, 1)])
def test_wrong_shape(shape):
    with pytest.raises(CalibrationError, match=r"has shape .*; the model wants 'image' \(float32 \?x3x4\)"):
        bind(_given(image=np.zeros(shape)), (IMAGE,))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_must_be_finite(value):
    with pytest.raises(CalibrationError, match="not finite"):
        bind(_given(image=np.full((2, 3, 4), value)), (IMAGE,))


@pytest.mark.parametrize(
    ("values", "item"),
    [
        (np.full((2, 5), 0.5), TOKENS),
        (np.full((2, 3, 4), 1e300), IMAGE),
        (np.full((2, 5), 300), ModelInput("tokens", np.dtype("u1"), (None, 5))),
        (np.full((2, 5), -1), ModelInput("tokens", np.dtype("u8"), (None, 5))),
    ],
)
def test_casts_that_would_change_values(values, item):
    with pytest.raises(CalibrationError, match=f"values do not fit the model's {item.dtype}"):
        bind(_given(values=values), (item,))


@pytest.mark.parametrize("values", [np.ones((2, 5), dtype=bool), np.full((2, 5), 7.0), np.full((2, 5), 7, dtype="u2")])
def test_casts_that_keep_values(values):
    np.testing.assert_array_equal(bind(_given(tokens=values), (TOKENS,)).feed["tokens"], values.astype(np.int64))


def test_text_is_not_a_number():
    with pytest.raises(CalibrationError, match="not numbers"):
        bind(_given(image=np.full((2, 3, 4), "a")), (IMAGE,))


@pytest.mark.parametrize("counts", [(2, 3), (0, 0)])
def test_one_batch_for_all(counts):
    given = _given(image=np.zeros((counts[0], 3, 4)), tokens=np.zeros((counts[1], 5)))
    with pytest.raises(CalibrationError, match="must share one batch of at least 1"):
        bind(given, (IMAGE, TOKENS))


def test_inputs_that_insist_on_different_batches():
    items = tuple(
        ModelInput(item.name, item.dtype, (size, *item.shape[1:])) for size, item in ((2, IMAGE), (4, TOKENS))
    )
    with pytest.raises(CalibrationError, match="insist on different batches"):
        bind(_given(image=np.zeros((4, 3, 4)), tokens=np.zeros((4, 5))), items)


@pytest.mark.parametrize("labels", [np.zeros(3, dtype=int), np.zeros((2, 2), dtype=int), np.zeros(2)])
def test_labels_must_be_one_index_an_input(labels):
    with pytest.raises(CalibrationError, match="labels must be 2 class indices"):
        bind(_given(image=np.zeros((2, 3, 4)), labels=labels), (IMAGE,))


def test_batches_of_an_open_model_end_with_a_short_one():
    values = np.arange(84.0).reshape(7, 3, 4)
    batches = list(bind(_given(image=values), (IMAGE,)).batches(3))
    assert [(batch.start, batch.count, batch.size) for batch in batches] == [(0, 3, 3), (3, 3, 3), (6, 1, 1)]
    np.testing.assert_array_equal(np.concatenate([batch.feed["image"] for batch in batches]), values)


def test_batches_of_a_fixed_model_are_filled_with_the_last_input():
    fixed = ModelInput("image", np.dtype("f4"), (4, 3, 4))
    values = np.arange(60.0).reshape(5, 3, 4)
    first, last = bind(_given(image=values), (fixed,)).batches(64)
    assert (first.count, last.count, last.size) == (4, 1, 4)
    np.testing.assert_array_equal(last.feed["image"], values[[4, 4, 4, 4]])
    assert last.cut(np.zeros((4, 2))).shape == (1, 2)
    assert last.cut(np.zeros((12, 2))).shape == (3, 2)
    assert last.cut(np.zeros((5, 2))).shape == (5, 2)
    assert last.cut(np.zeros(())).shape == ()


def test_scalars_are_fed_to_every_batch():
    scale = ModelInput("scale", np.dtype("f4"), ())
    bound = bind(_given(image=np.zeros((3, 3, 4)), scale=np.float64(2)), (IMAGE, scale))
    assert [batch.feed["scale"].item() for batch in bound.batches(2)] == [2.0, 2.0]


def test_calibration_is_read_only(tmp_path):
    np.save(tmp_path / "in.npy", np.ones(3))
    with pytest.raises(ValueError, match="read-only"):
        load_calibration(tmp_path / "in.npy").arrays[""][0] = 2
