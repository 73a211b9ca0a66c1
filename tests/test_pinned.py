"""The released networks answer as they did when they were released, on any machine and version of torch."""

import numpy as np
import pytest
import torch

from tests.golden import released


@pytest.fixture(scope="module")
def pinned():
    return np.load(released.PATH)


def test_every_released_network_is_pinned(pinned):
    manifest = released.CHECKPOINTS.glob("*.pt")
    assert {path.stem for path in manifest} == {*released.NETWORKS} == set(pinned) - {*released.IMAGES}


@pytest.mark.parametrize("name", released.NETWORKS)
@torch.inference_mode()
def test_a_network_answers_as_pinned(pinned, name):
    found = released.NETWORKS[name]().numpy()
    assert np.abs(found - pinned[name]).max() < 1e-3 * np.abs(pinned[name]).max()


@pytest.mark.parametrize("name", released.IMAGES)
def test_the_first_images_are_the_same_within_a_grey_level(pinned, name):
    found = released.IMAGES[name]().numpy()
    assert found.shape == pinned[name].shape and np.abs(found.astype(int) - pinned[name]).max() <= 1
