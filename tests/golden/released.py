"""What the released networks answer. After a release, python3 -m tests.golden.released writes released.npz anew."""

import numpy as np
import torch
from torch import Tensor

from common.checkpoint import CHECKPOINTS
from common.images import to_unit_range
from p1_cond_ddpm import judge
from p1_cond_ddpm.sampling import SampleOptions, digits_by_number, load_denoiser, sample_digits
from p2_ddim.sampling import sample_faces, to_pictures
from p2_ddim.unet import load_face_unet
from p3_dann.inference import load_classifier
from p3_dann.network import prepare
from tests.helpers import GOLDEN

PATH = GOLDEN / "released.npz"
SEGMENTS = ("abcdef", "bc", "abged", "abgcd", "fgbc", "afgcd", "afgedc", "abc", "abcdefg", "abcdfg")  # of the digits
BARS = {  # top, bottom, left, right
    "a": (4, 7, 9, 19),
    "b": (4, 15, 16, 19),
    "c": (13, 24, 16, 19),
    "d": (21, 24, 9, 19),
    "e": (13, 24, 9, 12),
    "f": (4, 15, 9, 12),
    "g": (13, 16, 9, 19),
}


def drawn_digits(foreground: tuple[int, int, int], background: tuple[int, int, int]) -> Tensor:
    """The ten digits as a pocket calculator shows them: (10, 3, 28, 28) uint8."""
    images = torch.tensor(background, dtype=torch.uint8)[:, None, None].repeat(10, 1, 28, 28)
    for image, segments in zip(images, SEGMENTS):
        for top, bottom, left, right in (BARS[segment] for segment in segments):
            image[:, top:bottom, left:right] = torch.tensor(foreground, dtype=torch.uint8)[:, None, None]
    return images


@torch.inference_mode()
def answers() -> dict[str, np.ndarray]:
    """Every released network's output on a seeded input, and the first images of both samplers."""
    random = np.random.RandomState(0)
    digits, faces = (torch.from_numpy(random.standard_normal((2, 3, n, n)).astype(np.float32)) for n in (28, 32))
    t, labels = torch.tensor([100, 900]), torch.tensor([3, 10])
    found = {name: load_denoiser(CHECKPOINTS / f"{name}.pt")(digits, t, labels) for name in ("p1_mnistm", "p1_mnist")}
    face_unet = load_face_unet(CHECKPOINTS / "p2_celeba32.pt")
    found["p2_celeba32"] = face_unet(faces, t)
    svhn, usps = drawn_digits((230, 225, 240), (60, 70, 120)), drawn_digits((255, 255, 255), (0, 0, 0))
    found["p3_svhn"] = load_classifier("svhn")(prepare(svhn)).logits
    found["p3_usps"] = load_classifier("usps")(prepare(usps)).logits
    found["judge"] = judge.load(judge.OWN)(to_unit_range(svhn))
    first = digits_by_number(100, seed=0)[:10]
    options = SampleOptions(precision="float32")
    model = load_denoiser(images=first, guided=True)
    found["hw2_1"] = sample_digits(model, [one.label for one in first], [one.seed for one in first], options)
    found["hw2_2"] = to_pictures(sample_faces(face_unet, faces, use_clipped_model_output=False))
    return {name: value.numpy() for name, value in found.items()}


if __name__ == "__main__":
    np.savez_compressed(PATH, **answers())
