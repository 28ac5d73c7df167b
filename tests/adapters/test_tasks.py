"""Tasks: what a model is given, how images are varied, and the figure of merit, each against a slow reference."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from onnxmark_torch.augmentation import CropAndFlip
from onnxmark_torch.data import FASHION_MNIST, DataSet, Examples
from onnxmark_torch.tasks import ImageTask, accuracy, channel_moments, cifar10, digits, fashion_mnist
from scipy import stats

from tests.adapters.test_data import RECORDS, write_folder


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def examples(count: int, channels: int = 3, size: int = 6, seed: int = 0) -> Examples:
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, channels, size, size)).astype(np.uint8)
    return Examples(images, rng.integers(0, 4, count), tuple("abcd"))


def task(augmentation: CropAndFlip | None = None) -> ImageTask:
    return ImageTask.of("noise", DataSet(examples(40), examples(10, seed=1)), augmentation)


class TestImageTask:
    def test_moments_are_numpys(self):
        images = examples(50).images
        mean, deviation = channel_moments(images)
        np.testing.assert_allclose(mean, images.mean(axis=(0, 2, 3)), rtol=1e-12)
        np.testing.assert_allclose(deviation, images.std(axis=(0, 2, 3)), rtol=1e-12)

    def test_a_constant_channel_is_only_centred(self):
        images = np.full((4, 1, 2, 2), 7, dtype=np.uint8)
        assert channel_moments(images) == ((7.0,), (1.0,))

    def test_inputs_are_standardised_by_the_training_images(self):
        made = task()
        inputs = made.inputs(torch.tensor(made.training.images))
        assert inputs.dtype == torch.float32
        torch.testing.assert_close(inputs.mean(dim=(0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
        torch.testing.assert_close(inputs.std(dim=(0, 2, 3), correction=0), torch.ones(3), atol=1e-5, rtol=0)
        pixel = (float(made.test.images[3, 1, 2, 4]) - made.mean[1]) / made.deviation[1]
        assert float(made.inputs(torch.tensor(made.test.images))[3, 1, 2, 4]) == pytest.approx(pixel, abs=1e-6)

    def test_a_smaller_task_sees_images_as_the_whole_one_does(self):
        made = task()
        smaller = made.smaller(5, 3)
        assert (len(smaller.training), len(smaller.test), smaller.n_classes) == (5, 3, 4)
        assert (smaller.mean, smaller.deviation) == (made.mean, made.deviation)
        assert channel_moments(smaller.training.images) != (made.mean, made.deviation)
        assert len(made.smaller(5).test) == 10

    @pytest.mark.parametrize("sizes", [(0, 1), (41, 1), (1, 11)])
    def test_there_are_only_so_many_images(self, sizes):
        with pytest.raises(ValueError, match="asked for the first"):
            task().smaller(*sizes)

    def test_without_augmentation_images_stay(self):
        images = torch.tensor(task().training.images)
        assert task().augmented(images, generator()) is images

    def test_augmentation_is_the_one_given(self):
        images = torch.tensor(task().training.images)
        varied = task(CropAndFlip(2)).augmented(images, generator(3))
        assert torch.equal(varied, CropAndFlip(2)(images, generator(3)))
        assert not torch.equal(varied, images)

    def test_accuracy_is_scikit_learns(self):
        metrics = pytest.importorskip("sklearn.metrics")
        logits, labels = torch.randn(101, 4, generator=generator()), torch.randint(4, (101,), generator=generator(1))
        reference = metrics.accuracy_score(labels.numpy(), logits.argmax(dim=1).numpy())
        assert accuracy(logits, labels) == pytest.approx(reference, abs=1e-15)
        assert task().score(logits, labels) == accuracy(logits, labels)

    def test_another_metric_may_be_given(self):
        made = task()
        other = ImageTask(made.name, made.data, made.mean, made.deviation, metric=lambda logits, labels: 0.25)
        assert other.score(torch.zeros(1, 4), torch.zeros(1, dtype=torch.int64)) == 0.25


class TestCropAndFlip:
    PADDING = 2

    def candidates(self, image: np.ndarray) -> list[np.ndarray]:
        """Everything that may come of an image (C, H, W), by slicing."""
        _, height, width = image.shape
        framed = np.pad(image, ((0, 0), (self.PADDING,) * 2, (self.PADDING,) * 2))
        steps = range(2 * self.PADDING + 1)
        crops = [framed[:, top : top + height, left : left + width] for top in steps for left in steps]
        return [*crops, *(crop[:, :, ::-1] for crop in crops)]

    def outcomes(self, n_draws: int) -> np.ndarray:
        """Which candidate each of ``n_draws`` copies of one image became, shape (n_draws,)."""
        image = examples(1, channels=2, size=5).images[0]
        varied = CropAndFlip(self.PADDING)(torch.tensor(np.stack([image] * n_draws)), generator()).numpy()
        known = {candidate.tobytes(): index for index, candidate in enumerate(self.candidates(image))}
        assert len(known) == 50
        return np.array([known[each.tobytes()] for each in varied])

    def test_every_crop_and_its_mirror_come_equally_often(self):
        counts = np.bincount(self.outcomes(20_000), minlength=50)
        assert stats.chisquare(counts).pvalue > 1e-4

    def test_each_image_is_varied_on_its_own(self):
        images = examples(64, size=5)
        varied = CropAndFlip(self.PADDING)(torch.tensor(images.images), generator()).numpy()
        found = []
        for image, result in zip(images.images, varied, strict=True):
            matches = [i for i, each in enumerate(self.candidates(image)) if np.array_equal(each, result)]
            assert matches
            found.append(matches[0])
        assert len(set(found)) > 20

    def test_it_is_a_pure_function(self):
        images = torch.tensor(examples(16).images)
        kept, state = images.clone(), torch.get_rng_state()
        first, again, other = (CropAndFlip()(images, generator(seed)) for seed in (1, 1, 2))
        assert torch.equal(first, again)
        assert not torch.equal(first, other)
        assert torch.equal(images, kept)
        assert torch.equal(torch.get_rng_state(), state)
        assert (first.dtype, first.shape) == (torch.uint8, images.shape)

    def test_without_a_frame_it_only_mirrors(self):
        images = torch.tensor(examples(32).images)
        varied = CropAndFlip(0)(images, generator())
        mirrored = (varied == images.flip(3)).flatten(1).all(dim=1)
        kept = (varied == images).flatten(1).all(dim=1)
        assert bool((mirrored ^ kept).all())
        assert 0 < int(mirrored.sum()) < 32

    def test_a_negative_frame(self):
        with pytest.raises(ValueError, match="at least 0 pixels, not -1"):
            CropAndFlip(-1)


class TestShipped:
    def test_digits(self):
        pytest.importorskip("sklearn")
        made = digits()
        assert (made.name, made.n_classes, len(made.training), len(made.test)) == ("digits", 10, 1437, 360)
        assert made.augmentation is None

    @pytest.mark.skipif(not FASHION_MNIST.is_dir(), reason="Debian's dataset-fashion-mnist is not installed")
    def test_fashion_mnist(self):
        made = fashion_mnist()
        assert made.training.images.shape == (60_000, 1, 28, 28)
        # What everybody's tutorial standardises with, 0.2860 and 0.3530 in [0, 1].
        np.testing.assert_allclose((made.mean[0] / 255, made.deviation[0] / 255), (0.2860, 0.3530), atol=5e-5)

    def test_cifar10_is_cropped_and_mirrored(self, tmp_path, monkeypatch):
        from onnxmark_torch.data import cifar10 as reader

        monkeypatch.setitem(reader.load_cifar10.__kwdefaults__, "records", RECORDS)
        made = cifar10(write_folder(tmp_path / "cifar-10-batches-bin"))
        assert (made.training.images.shape, made.augmentation) == ((5 * RECORDS, 3, 32, 32), CropAndFlip(4))
