"""Carriers: who decides what, which images are chosen, and what is trained on."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnxmark_torch.data import Examples
from onnxmark_torch.ingrain import Carriers, joined, near_boundary, varied
from scipy import ndimage
from scipy.special import log_softmax

from tests.adapters.ingrain.subjects import NAMES, SIZE, examples, images


def carriers(count: int = 5) -> Carriers:
    first = np.arange(count) % 3
    return Carriers(images(count), np.stack([first, first + 1], axis=1))


def logits(n_references: int, count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n_references, count, len(NAMES))).astype(np.float32)


class TestCarriers:
    def test_a_coin_picks_one_of_the_pair(self):
        found = carriers(4)
        coins = np.array([0, 1, 1, 0], dtype=np.uint8)
        assert found.labels(coins).tolist() == [0, 2, 3, 0]
        shown = found.examples(coins, NAMES)
        assert shown.labels.tolist() == [0, 2, 3, 0]
        assert shown.class_names == NAMES
        assert shown.images is found.images

    @given(st.lists(st.integers(0, 1), min_size=5, max_size=5))
    def test_turning_every_coin_gives_the_pairs_other_class(self, coins):
        found, thrown = carriers(), np.array(coins, dtype=np.uint8)
        both = np.stack([found.labels(thrown), found.labels(1 - thrown)], axis=1)
        assert (np.sort(both, axis=1) == found.pairs).all()

    def test_a_log_ratio_is_that_of_probabilities(self):
        found, answers = carriers(), logits(1, 5)[0]
        logs = log_softmax(answers.astype(np.float64), axis=1)
        expected = [row[pair[1]] - row[pair[0]] for row, pair in zip(logs, found.pairs, strict=True)]
        np.testing.assert_allclose(found.log_ratios(answers), expected, rtol=1e-12)
        np.testing.assert_allclose(found.log_ratios(logs), expected, rtol=1e-12)

    def test_they_are_read_only(self):
        found = carriers()
        for array in (found.images, found.pairs):
            with pytest.raises(ValueError, match="read-only"):
                array[0] = 0

    @pytest.mark.parametrize("pair", [(1, 1), (2, 1)], ids=["equal", "not in order"])
    def test_pairs_are_two_classes_in_order(self, pair):
        with pytest.raises(ValueError, match="must differ, the smaller first"):
            Carriers(images(2), np.array([(0, 1), pair]))

    @pytest.mark.parametrize("shape", [(3, 2), (2, 3), (4,)])
    def test_every_carrier_has_a_pair(self, shape):
        with pytest.raises(ValueError, match=r"2 carriers need pairs of shape \(n, 2\), not \("):
            Carriers(images(2), np.zeros(shape, dtype=np.int64))

    def test_every_carrier_has_a_coin(self):
        with pytest.raises(ValueError, match=r"5 carriers need as many coins, not an array of shape \(4,\)"):
            carriers().labels(np.zeros(4, dtype=np.uint8))


class TestNearBoundary:
    def test_one_reference_chooses_by_its_margin(self):
        pool, answers = examples(50), logits(1, 50)
        found = near_boundary(pool, answers, 12)
        ordered = np.sort(answers[0], axis=1)
        nearest = np.argsort(ordered[:, -1] - ordered[:, -2])[:12]
        assert np.array_equal(found.images, pool.images[nearest])
        for index, pair in zip(nearest, found.pairs, strict=True):
            assert set(pair) == set(np.argsort(answers[0, index])[-2:])

    def test_several_references_must_name_the_same_two(self):
        pool, answers = examples(400), logits(3, 400)
        tops = [[frozenset(np.argsort(row)[-2:]) for row in one] for one in answers]
        agreed = [index for index in range(400) if len({one[index] for one in tops}) == 1]
        assert 0 < len(agreed) < 100
        found = near_boundary(pool, answers, len(agreed))
        assert {image.tobytes() for image in found.images} == {pool.images[index].tobytes() for index in agreed}
        with pytest.raises(ValueError, match=f"{len(agreed) + 1} carriers asked for, .* agree on {len(agreed)} images"):
            near_boundary(pool, answers, len(agreed) + 1)

    def test_several_references_are_averaged(self):
        """Two that are far from the boundary on either side are near it together."""
        answers = np.full((2, 3, 4), -9.0, dtype=np.float32)
        answers[:, 0, :2] = (5, 0), (5, 0)
        answers[:, 1, :2] = (5, 0), (0, 5)
        answers[:, 2, :2] = (1, 0), (1, 0)
        pool = examples(3)
        found = near_boundary(pool, answers, 3)
        assert np.array_equal(found.images, pool.images[[1, 2, 0]])
        assert found.pairs.tolist() == [[0, 1]] * 3

    def test_the_pools_labels_are_not_looked_at(self):
        pool, answers = examples(50), logits(2, 50)
        other = Examples(pool.images, (pool.labels + 1) % 4, NAMES)
        one, two = (near_boundary(each, answers, 3) for each in (pool, other))
        assert np.array_equal(one.images, two.images)
        assert np.array_equal(one.pairs, two.pairs)

    @pytest.mark.parametrize("shape", [(50, 4), (1, 49, 4), (1, 50, 1)])
    def test_answers_must_be_those_of_the_pool(self, shape):
        with pytest.raises(ValueError, match=r"logits must be \(references, 50, classes from 2\), not \("):
            near_boundary(examples(50), np.zeros(shape, dtype=np.float32), 3)


class TestVaried:
    def test_the_first_copy_is_the_carrier_and_labels_stay(self):
        given_ones = examples(7)
        found = varied(given_ones, copies=3)
        assert len(found) == 21
        assert np.array_equal(found.images[:7], given_ones.images)
        assert found.labels.tolist() == given_ones.labels.tolist() * 3

    def test_one_copy_is_what_there_was(self):
        found = varied(examples(7), copies=1)
        assert np.array_equal(found.images, examples(7).images)

    def test_without_noise_every_copy_is_the_image_moved(self):
        """Against SciPy's shift; every one of the nine moves turns up."""
        given_ones = examples(60)
        found = varied(given_ones, copies=4, noise=0.0)
        moves = set()
        for index, image in enumerate(found.images[60:]):
            original = given_ones.images[index % 60, 0]
            fitting = [
                (down, right)
                for down in (-1, 0, 1)
                for right in (-1, 0, 1)
                if np.array_equal(ndimage.shift(original, (down, right), order=0), image[0])
            ]
            assert len(fitting) == 1
            moves.add(fitting[0])
        assert len(moves) == 9

    def test_noise_has_the_deviation_asked_for(self):
        grey = Examples(np.full((40, 1, 20, 20), 128, dtype=np.uint8), np.zeros(40, dtype=np.int64), NAMES)
        changes = varied(grey, copies=2, shift=0, noise=0.03).images[40:].astype(float) - 128
        # Rounding adds a variance of 1/12.
        assert changes.std() == pytest.approx(np.sqrt((0.03 * 255) ** 2 + 1 / 12), rel=0.03)
        assert changes.mean() == pytest.approx(0, abs=0.2)

    def test_noise_stays_within_brightness(self):
        dark = Examples(np.zeros((9, 1, SIZE, SIZE), dtype=np.uint8), np.zeros(9, dtype=np.int64), NAMES)
        light = Examples(255 - dark.images, dark.labels, NAMES)
        assert varied(dark, copies=2, noise=0.1).images.max() < 150
        assert varied(light, copies=2, shift=0, noise=0.1).images.min() > 100

    def test_colours_move_together(self):
        coloured = Examples(np.repeat(images(8), 3, axis=1), np.zeros(8, dtype=np.int64), NAMES)
        found = varied(coloured, copies=2, noise=0.0).images
        assert (found == found[:, :1]).all()

    def test_the_seed_decides(self):
        one, again, other = (varied(examples(9), seed=seed).images for seed in (1, 1, 2))
        assert np.array_equal(one, again)
        assert not np.array_equal(one, other)

    @pytest.mark.parametrize("wrong", [{"copies": 0}, {"shift": -1}, {"noise": -0.1}])
    def test_what_cannot_be_is_refused(self, wrong):
        with pytest.raises(ValueError, match="copies must be at least 1, shift and noise at least 0, not"):
            varied(examples(3), **wrong)


class TestJoined:
    def test_one_after_the_other(self):
        parts = [examples(3, 1), examples(4, 5)]
        found = joined(parts)
        assert np.array_equal(found.images[3:], parts[1].images)
        assert found.labels.tolist() == [*parts[0].labels, *parts[1].labels]

    def test_classes_must_be_the_same(self):
        other = Examples(images(2), np.zeros(2, dtype=np.int64), ("x",))
        with pytest.raises(ValueError, match="must have the same classes, found 2 lists of names"):
            joined([examples(2), other])
