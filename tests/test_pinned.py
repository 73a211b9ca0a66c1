"""The released networks answer as they did when they were released, on any machine and version of torch."""

import numpy as np
import pytest

from tests.golden import released

NETWORKS = ("p1_mnistm", "p1_mnist", "p2_celeba32", "p3_svhn", "p3_usps", "judge")


@pytest.fixture(scope="module")
def found():
    return released.answers()


@pytest.fixture(scope="module")
def pinned():
    return np.load(released.PATH)


def test_every_released_network_is_pinned(pinned):
    manifest = released.CHECKPOINTS.glob("*.pt")
    assert {path.stem for path in manifest} == {*NETWORKS} == set(pinned) - {"hw2_1", "hw2_2"}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_answers_as_pinned(found, pinned, name):
    assert np.abs(found[name] - pinned[name]).max() < 1e-3 * np.abs(pinned[name]).max()


@pytest.mark.parametrize("name", ["hw2_1", "hw2_2"])
def test_the_first_images_are_the_same_within_a_grey_level(found, pinned, name):
    assert found[name].shape == pinned[name].shape
    assert np.abs(found[name].astype(int) - pinned[name]).max() <= 1
