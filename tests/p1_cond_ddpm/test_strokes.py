"""Variety of shapes, on ellipses of random slant and size that stand in for strokes."""

import importlib.util

import numpy as np
import pytest
import torch
from PIL import Image

from common.cli import UserError
from common.digits import DigitSet
from p1_cond_ddpm import strokes, train_strokes

LABELS = torch.arange(10).repeat_interleave(60)


def shapes(seed, *, count=600, slant=0.3, kinds=2):
    """Rings (N, 28, 28), round or with a bar through them, moved sideways by a random slant a row."""
    random = np.random.RandomState(seed)
    slants, radii, kind = random.randn(count) * slant, random.uniform(6, 10, count), random.randint(0, kinds, count)
    y, x = np.mgrid[:28, :28] - 13.5
    x = x[None] - slants[:, None, None] * y
    distance = np.hypot(x, y)
    maps = (np.abs(distance - radii[:, None, None]) < 1.5) | (kind[:, None, None] == 1) & (np.abs(y) < 1)
    return torch.from_numpy(maps.astype(np.float32))


@pytest.fixture(scope="module")
def real():
    return [shapes(100 + digit, count=200) for digit in range(10)]


@pytest.fixture(scope="module")
def alike(real):
    return strokes.variety(shapes(0), LABELS, real)


def test_shapes_of_the_same_kind_score_as_real_ones(alike):
    assert all(0.9 < alike[name] < 1.1 for name in ("stroke_density", "spread", "slant", "ink"))


def test_one_repeated_shape_is_seen(alike, real):
    found = strokes.variety(shapes(0)[:1].repeat(600, 1, 1), LABELS, real)
    assert found["stroke_coverage"] < 0.2 * alike["stroke_coverage"]
    assert max(found["spread"], found["slant"], found["ink"]) < 1e-3


def test_a_set_without_slant_is_seen(alike, real):
    found = strokes.variety(shapes(0, slant=0.1), LABELS, real)
    assert 0.3 < found["slant"] < 0.45 and found["spread"] < alike["spread"] - 0.1 and 0.8 < found["ink"] < 1.1


def test_half_of_the_shapes_are_missed(alike, real):
    found = strokes.variety(shapes(0, kinds=1), LABELS, real)
    assert found["stroke_coverage"] < 0.7 * alike["stroke_coverage"]


def test_slant_and_ink_of_a_leaning_bar():
    rows = torch.arange(28)
    leaning = torch.zeros(1, 28, 28)
    leaning[0, rows, (rows / 2).long() + 5] = 1
    slant, ink = strokes.slant_and_ink(leaning)
    assert slant.item() == pytest.approx(0.5, abs=0.01) and ink.item() == 28


def test_too_few_images_are_named(real):
    with pytest.raises(UserError, match="1 images of digit 9"):
        strokes.variety(shapes(0)[:541], LABELS[:541], real)
    assert strokes.comparable(LABELS, real) and not strokes.comparable(LABELS[:541], real)
    assert not strokes.comparable(LABELS, [*real[:9], real[9][:5]])


def blobs(seed, *, count):
    """Bool masks (N, 28, 28), no two alike."""
    coarse = torch.randn(count, 1, 6, 6, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(coarse, size=(28, 28), mode="bilinear")[:, 0] > 0.3


def rendered(masks, seed):
    """MNIST-M images (N, 3, 28, 28) uint8 of bool masks, over smooth random patches."""
    coarse = torch.rand(len(masks), 3, 4, 4, generator=torch.Generator().manual_seed(seed)) * 255
    patches = torch.nn.functional.interpolate(coarse, size=(28, 28), mode="bilinear")
    return (patches - 255 * masks[:, None].float()).abs().byte()


def test_an_image_is_paired_with_its_own_stroke():
    masks = blobs(5, count=300)
    order = torch.randperm(40)
    found, sure = train_strokes.paired_strokes(rendered(masks[order], 0), masks, chunk=7)
    assert sure.all() and torch.equal(found, masks[order])
    stranger = rendered(blobs(6, count=1), 1)
    assert not train_strokes.paired_strokes(stranger, masks[:5])[1].any()


def test_the_released_network_finds_strokes():
    masks = shapes(7, count=50) > 0
    found = strokes.stroke_maps(strokes.load_stroke_net(), rendered(masks, 2)) > 0.5
    assert (found & masks).sum() > 0.6 * (found | masks).sum()


def test_training_learns_to_find_strokes(tmp_path, capsys):
    for split, count in (("train", 70), ("val", 8)):
        masks = blobs(len(split), count=count)
        folder = tmp_path / "mnistm"
        (folder / "data").mkdir(parents=True, exist_ok=True)
        names = [f"{split}{i}.png" for i in range(count)]
        for name, image in zip(names, rendered(masks, 0)):
            Image.fromarray(image.permute(1, 2, 0).numpy()).save(folder / "data" / name)
        (folder / f"{split}.csv").write_text("image_name,label\n" + "".join(f"{name},0\n" for name in names))
        np.save(tmp_path / f"{split}.npy", masks)
    known = np.concatenate([np.load(tmp_path / f"{split}.npy") for split in ("train", "val")])
    np.savez(tmp_path / "mnist.npz", images=known.astype(np.uint8) * 255)
    run = ["--data", str(folder), "--mnist", str(tmp_path / "mnist.npz"), "--run-dir", str(tmp_path / "run")]
    assert (
        train_strokes.main([*run, "--steps", "40", "--learning-rate", "1e-2", "--warmup", "5", "--ema-decay", "0.5"])
        == 0
    )
    line = capsys.readouterr().out.strip()
    assert line.startswith("8 of 8 val images: intersection over union 0.") and float(line.split()[-1]) > 0.3
    assert strokes.load_stroke_net(tmp_path / "run" / "weights.pt")


@pytest.mark.slow
def test_the_figures_agree_with_the_instrument_that_they_are_to_repeat(real_data, real_val):
    """Within 0.02 on real images: eval/strokes.py has a network and code of its own."""
    spec = importlib.util.spec_from_file_location("given_strokes", real_data / "eval" / "strokes.py")
    given = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(given)
    images, labels = real_val("mnistm")
    rows = np.concatenate([np.flatnonzero(labels == digit)[:500] for digit in range(10)])
    reference, some = rows.reshape(10, 500)[:, :400].ravel(), rows.reshape(10, 500)[:, 400:].ravel()
    expected = given.variety(images[some], labels[some], images[reference], labels[reference])
    network = strokes.load_stroke_net()
    tensors = torch.from_numpy(images).permute(0, 3, 1, 2)
    theirs = strokes.real_shapes(network, DigitSet(tensors[reference], torch.from_numpy(labels[reference])))
    found = strokes.variety(strokes.stroke_maps(network, tensors[some]), torch.from_numpy(labels[some]), theirs)
    assert [*found.values()] == pytest.approx([*expected.values()], abs=0.02)
