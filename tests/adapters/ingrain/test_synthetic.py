"""Carriers that are made: what they show, and that classes are fixed without a coin."""

from __future__ import annotations

import numpy as np
import pytest
from onnxmark_torch.ingrain.synthetic import KINDS, blend, halves, mixup, noise, patch
from scipy import stats

from tests.adapters.ingrain.subjects import NAMES, SIZE, examples

POOL = examples(300)
EACH = pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS))
ORIGINALS = {image.tobytes(): label for image, label in zip(POOL.images, POOL.labels, strict=True)}


@EACH
def test_every_kind_gives_as_many_as_asked_and_leaves_the_pool_alone(kind):
    before = POOL.images.copy()
    found = kind(POOL, 40, 0)
    assert found.images.shape == (40, 1, SIZE, SIZE)
    assert found.images.dtype == np.uint8
    assert found.pairs.max() < len(NAMES)
    assert len({image.tobytes() for image in found.images}) == 40
    assert np.array_equal(POOL.images, before)


@EACH
def test_the_seed_decides(kind):
    one, again, other = (kind(POOL, 40, seed) for seed in (1, 1, 2))
    assert np.array_equal(one.images, again.images)
    assert np.array_equal(one.pairs, again.pairs)
    assert not np.array_equal(one.images, other.images)


@EACH
def test_every_pair_of_classes_turns_up(kind):
    found = kind(POOL, 200, 0)
    assert len({tuple(pair) for pair in found.pairs}) == len(NAMES) * (len(NAMES) - 1) // 2


def test_noise_is_uniform_over_all_levels():
    levels = np.bincount(noise(POOL, 300, 0).images.ravel(), minlength=256)
    assert stats.chisquare(levels).pvalue > 1e-3


def test_a_patch_changes_its_corner_only_and_keeps_the_images_class():
    pool = examples(300)
    found = patch(pool, 40, 0)
    own = {image[:, :1].tobytes(): label for image, label in zip(pool.images, pool.labels, strict=True)}
    assert all(own[image[:, :1].tobytes()] in pair for image, pair in zip(found.images, found.pairs, strict=True))
    assert not {image.tobytes() for image in found.images} & ORIGINALS.keys()


def test_a_blend_is_an_image_of_its_class_with_a_tenth_of_one_pattern():
    found = blend(POOL, 40, 0)
    patterns = []
    for image, pair in zip(found.images.astype(float), found.pairs, strict=True):
        left = image - 0.9 * POOL.images
        fits = [index for index in range(300) if left[index].min() > -0.6 and left[index].max() < 26.1]
        assert len(fits) == 1
        assert POOL.labels[fits[0]] in pair
        patterns.append(left[fits[0]])
    assert np.ptp(patterns, axis=0).max() <= 1.01


def test_mixup_is_the_mean_of_two_images_of_its_two_classes():
    found = mixup(POOL, 10, 0)
    for image, pair in zip(found.images, found.pairs, strict=True):
        means = np.rint((POOL.images[:, None].astype(float) + POOL.images) / 2)
        one, other = np.argwhere((means == image).all(axis=(2, 3, 4)))[0]
        assert sorted((POOL.labels[one], POOL.labels[other])) == pair.tolist()


def test_halves_are_of_images_of_its_two_classes():
    found = halves(POOL, 40, 0)
    sides = [
        {image[..., part].tobytes(): label for image, label in zip(POOL.images, POOL.labels, strict=True)}
        for part in (slice(0, SIZE // 2), slice(SIZE // 2, None))
    ]
    for image, pair in zip(found.images, found.pairs, strict=True):
        shown = [sides[0][image[..., : SIZE // 2].tobytes()], sides[1][image[..., SIZE // 2 :].tobytes()]]
        assert sorted(shown) == pair.tolist()


@pytest.mark.parametrize("kind", [patch, blend, mixup, halves], ids=lambda kind: kind.__name__)
def test_a_pool_gives_no_image_twice(kind):
    with pytest.raises(ValueError, match="larger sample than population"):
        kind(POOL, 301, 0)
