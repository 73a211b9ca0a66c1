"""What the released networks answer. After a release, python3 -m tests.golden.released writes released.npz anew."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from common.checkpoint import CHECKPOINTS
from common.digits import NULL_LABEL
from common.images import to_unit_range
from p1_cond_ddpm import judge, strokes
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


def random_input(size: int) -> Tensor:
    """(2, 3, size, size) float32, the same on every machine."""
    return torch.from_numpy(np.random.RandomState(0).standard_normal((2, 3, size, size)).astype(np.float32))


def noise_prediction(name: str) -> Tensor:
    """Problem 1's network on a labelled and an unlabelled image."""
    model = load_denoiser(CHECKPOINTS / f"{name}.pt")
    return model(random_input(28), torch.tensor([100, 900]), torch.tensor([3, NULL_LABEL]))


def first_digits() -> Tensor:
    """hw2_1.sh's first ten images, in float32."""
    first = digits_by_number(100, seed=0)[:10]
    options = SampleOptions(precision="float32")
    model = load_denoiser(images=first, guided=True)
    return sample_digits(model, [one.label for one in first], [one.seed for one in first], options)


def first_faces() -> Tensor:
    """hw2_2.sh's pictures."""
    return to_pictures(sample_faces(load_face_unet(FACES), random_input(32), use_clipped_model_output=False))


FACES = CHECKPOINTS / "p2_celeba32.pt"
ON_BLUE, ON_BLACK = drawn_digits((230, 225, 240), (60, 70, 120)), drawn_digits((255, 255, 255), (0, 0, 0))
NETWORKS: dict[str, Callable[[], Tensor]] = {
    "p1_mnistm": lambda: noise_prediction("p1_mnistm"),
    "p1_mnist": lambda: noise_prediction("p1_mnist"),
    "p2_celeba32": lambda: load_face_unet(FACES)(random_input(32), torch.tensor([100, 900])),
    "p3_svhn": lambda: load_classifier("svhn")(prepare(ON_BLUE)).logits,
    "p3_usps": lambda: load_classifier("usps")(prepare(ON_BLACK)).logits,
    "judge": lambda: judge.load(judge.OWN)(to_unit_range(ON_BLUE)),
    "strokes": lambda: strokes.load_stroke_net()(to_unit_range(ON_BLUE)),
}
IMAGES: dict[str, Callable[[], Tensor]] = {"hw2_1": first_digits, "hw2_2": first_faces}


if __name__ == "__main__":
    with torch.inference_mode():
        np.savez_compressed(PATH, **{name: answer().numpy() for name, answer in {**NETWORKS, **IMAGES}.items()})
