"""Digits from problem 1's network.

python3 -m p1_cond_ddpm.sample OUT_DIR                                      the graded 1000 images (hw2_1.sh)
python3 -m p1_cond_ddpm.sample OUT_DIR --count 10000 --labels none          numbered images without labels

Image NNN of digit D becomes OUT_DIR/D_NNN.png. With --count, images become OUT_DIR/00001.png and so on, those that are
there already are kept, and --labels says which digits they show. An image's noise is drawn from the seed of (--seed, D,
NNN) or (--seed, number), so it is the same whatever else is sampled with it. Under torchrun the processes share the
batches out, and the bytes are those of one process.
"""

import argparse
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common.checkpoint import sha256
from common.cli import UserError, add_device, command, some_path, wrote
from common.config import check_range, parse_options, to_json
from common.device import choose_device
from common.digits import NULL_LABEL, SIZE
from common.files import atomic_write, make_folder
from common.images import read_rgb, sums_hold, write_png
from common.processes import alone_in, disconnect, from_first, is_main_process, share
from p1_cond_ddpm.sampling import (
    WEIGHTS,
    ImageSpec,
    SampleOptions,
    digits_by_number,
    fast_batch_size,
    load_denoiser,
    numbered,
    sample_images,
    usable_options,
)


def missing_images(folder: Path, images: list[ImageSpec], how: dict[str, Any]) -> list[ImageSpec]:
    """What a folder of numbered images lacks. Raises UserError where it has images, but not sampled in this way."""
    note, described = folder / ".sampling.json", json.dumps(how)
    if any(folder.glob("[0-9]*.png")) and not (note.is_file() and note.read_bytes() == described.encode()):
        raise UserError(f"{folder}: holds images of other weights or options; give the same ones, or another folder")
    with atomic_write(note) as temporary:
        temporary.write_text(described, encoding="utf-8")
    return [one for one in images if not is_whole(folder / one.name)]


def is_whole(path: Path) -> bool:
    """Whether a picture is there, can be decoded, and has right checksums. Another is sampled in its place."""
    try:
        return path.is_file() and sums_hold(path.read_bytes()) and read_rgb(path).size == (SIZE, SIZE)
    except UserError:
        return False


def parse_labels(text: str | None) -> list[int]:
    """'none' or a row of digits -> labels, all digits without a text. Raises UserError for anything else."""
    if text is None:
        return list(range(10))
    if text == "none":
        return [NULL_LABEL]
    if not re.fullmatch("[0-9]+", text):
        raise UserError(f"--labels {text}: give none, or digits such as 0123456789, which go round")
    return [int(digit) for digit in text]


def add_image_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--per-digit", type=int, default=100, help="images per digit (default: 100)")
    parser.add_argument("--count", type=int, help="numbered images instead")
    parser.add_argument("--labels", help="of numbered images: none, or digits that go round (default: 0123456789)")


def requested_images(arguments: argparse.Namespace) -> list[ImageSpec]:
    """What the options of `add_image_options` and --seed ask for.

    Raises UserError where they contradict or are out of range.
    """
    check_range("--seed", arguments.seed, 0)
    if arguments.count is not None:
        check_range("--count", arguments.count, 1, 99_999)
        return numbered(arguments.count, parse_labels(arguments.labels), arguments.seed)
    if arguments.labels is not None:
        raise UserError("--labels: give --count, too; without it every digit is sampled")
    check_range("--per-digit", arguments.per_digit, 1, 999)
    return digits_by_number(arguments.per_digit, arguments.seed)


@command
def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out_dir", type=some_path, help="folder for the images")
    parser.add_argument("--weights", type=some_path, default=WEIGHTS, help="(default: the released ones)")
    add_image_options(parser)
    parser.add_argument("--seed", type=int, default=0, help="from which every image's seed comes (default: 0)")
    parser.add_argument(
        "--batch-size",
        type=int,
        help="changes the images by one grey level at most (default: 20 on a CPU in float32, else 100)",
    )
    add_device(parser)
    arguments, options = parse_options(parser, argv, SampleOptions)
    images, device = requested_images(arguments), choose_device(arguments.device)
    batch_size = arguments.batch_size
    if batch_size is None:
        batch_size = fast_batch_size(device, options.precision)
    check_range("--batch-size", batch_size, 1)
    model = load_denoiser(arguments.weights, images, guided=options.guidance_scale != 1).to(device)
    options = usable_options(model, options)
    options.timesteps(model.config.num_timesteps)  # refused before anything is written
    with alone_in(arguments.out_dir, wait=True):
        if arguments.count is not None:
            labels = parse_labels(arguments.labels)
            how = {"weights": sha256(arguments.weights), "labels": labels, "seed": arguments.seed, **to_json(options)}
            requested = images
            images = from_first(lambda: missing_images(arguments.out_dir, requested, how))
        make_folder(arguments.out_dir)
        mine = share(images, batch_size)
        for one, image in sample_images(model, options, mine, batch_size=batch_size):
            write_png(arguments.out_dir / one.name, image)
    if is_main_process():
        wrote(arguments.out_dir, f"{len(images)} images")
    disconnect()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
