"""Mean squared error between two folders of pictures of the same names, on the 0-255 scale.

python3 -m p2_ddim.evaluate OUT_DIR hw2_data/face/GT
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from common.cli import UserError, command, some_path
from common.images import picture_files, read_rgb


def mean_squared_error(path: Path, reference: Path) -> float:
    """Of two pictures of one size, over all pixels and channels.

    Raises UserError where unreadable or unequal in size.
    """
    a, b = (np.asarray(read_rgb(p), dtype=np.float64) for p in (path, reference))
    if a.shape != b.shape:
        raise UserError(f"{path}: {a.shape[1]} x {a.shape[0]} pixels, but {reference} has {b.shape[1]} x {b.shape[0]}")
    return float(((a - b) ** 2).mean())


@command
def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out_dir", type=some_path, help="folder of pictures")
    parser.add_argument("reference_dir", type=some_path, help="folder of *.png to compare with")
    arguments = parser.parse_args(argv)
    references = picture_files(arguments.reference_dir)
    errors = {path.name: mean_squared_error(arguments.out_dir / path.name, path) for path in references}
    for name, error in errors.items():
        print(f"{name} MSE {error:.4f}")
    print(f"mean MSE {np.mean(list(errors.values())):.4f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
