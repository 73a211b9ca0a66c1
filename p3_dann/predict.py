"""Digits of a folder of target-domain images.

python3 -m p3_dann.predict IMAGE_DIR PRED_CSV      (hw2_3.sh)

The images tell which domain they are from, and so which network reads them; the folder's name is not looked at.
Under torchrun the processes share reading and prediction out, and the first writes the same bytes as one alone.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from common.cli import UserError, add_device, command, some_path, wrote
from common.device import choose_device
from common.digits import read_digit
from common.files import atomic_write
from common.images import picture_files
from common.processes import disconnect, gather, is_main_process, share
from p3_dann.inference import BATCH_SIZE, for_inference, load_classifier, predict_digits, recognise_domain


def read_images(folder: Path) -> dict[str, np.ndarray | None]:
    """Every image file of a folder by name, sorted: (28, 28, 3) uint8, or None where unreadable, which is reported.

    Every process reads its share and gets the others'.

    Raises:
        UserError: no folder, no pictures in it, or none that can be read.
    """
    paths = picture_files(folder)
    mine: dict[str, np.ndarray | None] = {}
    for path in tqdm(share(paths), unit="image", desc="reading", mininterval=1.0, disable=not is_main_process()):
        try:
            mine[path.name] = read_digit(path)
        except UserError as error:
            print(f"warning: {error}; its row gets the folder's most frequent digit", file=sys.stderr)
            mine[path.name] = None
    read = gather(mine)
    images = {path.name: read[path.name] for path in paths}
    if all(image is None for image in images.values()):
        raise UserError(f"{folder}: none of its {len(images)} images can be read")
    return images


def write_predictions(path: Path, labels: Mapping[str, int]) -> None:
    """A CSV image_name,label; names keep their bytes, whatever the encoding, and are quoted where they must be."""
    rows = ["image_name,label"]
    for name, label in labels.items():
        quoted = '"' + name.replace('"', '""') + '"' if any(mark in name for mark in ',"\r\n') else name
        rows.append(f"{quoted},{label}")
    with atomic_write(path) as temporary:
        temporary.write_bytes(("\n".join(rows) + "\n").encode("utf-8", "surrogateescape"))


@command
def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image_dir", type=some_path, help="folder of images of one domain")
    parser.add_argument("pred_csv", type=some_path, help="the CSV to write")
    parser.add_argument("--domain", choices=("svhn", "usps"), help="(default: recognised from the images)")
    parser.add_argument("--weights", type=some_path, help="(default: the released ones of the domain)")
    add_device(parser)
    arguments = parser.parse_args(argv)
    device = choose_device(arguments.device)
    images = read_images(arguments.image_dir)
    readable = {name: image for name, image in images.items() if image is not None}
    tensor = torch.from_numpy(np.stack(list(readable.values()))).permute(0, 3, 1, 2)
    domain = arguments.domain or recognise_domain(tensor)
    print(f"domain: {domain}", file=sys.stderr)
    model = for_inference(load_classifier(arguments.weights or domain)).to(device)
    names = list(readable)
    rows = share(range(len(names)), BATCH_SIZE)
    mine = zip((names[row] for row in rows), predict_digits(model, tensor[rows]).tolist())
    predicted = gather(dict(mine))
    if is_main_process():
        fallback = Counter(predicted.values()).most_common(1)[0][0]
        write_predictions(arguments.pred_csv, {name: predicted.get(name, fallback) for name in images})
        wrote(arguments.pred_csv, f"{len(images)} rows")
    disconnect()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
