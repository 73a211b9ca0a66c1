"""MNIST's training set as a file that training reads and as a folder of pictures, by torchvision's downloader.

python3 -m homework.mnist mnist.npz
python3 -m homework.mnist mnist.npz --pictures mnist      mnist/00001.png and so on, which pytorch_fid reads
"""

import argparse
from collections.abc import Sequence

import numpy as np
from tqdm import tqdm

from common.cli import UserError, command, some_path, wrote
from common.files import atomic_write
from common.images import write_png


@command
def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=some_path, help=".npz of images (60000, 28, 28) uint8 and labels")
    parser.add_argument("--download", type=some_path, help="where torchvision keeps its files (default: beside it)")
    parser.add_argument("--pictures", type=some_path, help="folder for the images as 28 x 28 pictures in RGB, too")
    arguments = parser.parse_args(argv)
    try:
        from torchvision.datasets import MNIST  # only here is torchvision needed
    except (ImportError, RuntimeError) as error:  # RuntimeError: a torchvision of another torch
        reason = str(error).splitlines()[0]
        raise UserError(
            f"no torchvision ({reason}); pip install torchvision, or give training a folder of pictures"
        ) from None
    try:
        digits = MNIST(str(arguments.download or arguments.out.parent), train=True, download=True)
    except (OSError, RuntimeError) as error:  # torchvision has tried all its mirrors
        reason = str(error).splitlines()[0]
        raise UserError(
            f"MNIST can't be downloaded ({reason}); a folder of its pictures will do for training, too"
        ) from None
    with atomic_write(arguments.out) as temporary, open(temporary, "wb") as file:
        np.savez(file, images=digits.data.numpy(), labels=digits.targets.numpy())
    wrote(arguments.out)
    if arguments.pictures:
        for number, image in enumerate(tqdm(digits.data, unit="picture"), start=1):
            write_png(arguments.pictures / f"{number:05d}.png", image.expand(3, -1, -1))
        wrote(arguments.pictures, f"{len(digits.data)} pictures")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
