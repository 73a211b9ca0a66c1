"""Train problem 3's network: adapted from MNIST-M to a target, or on one domain alone.

python3 -m p3_dann.train @p3_dann/presets/svhn.txt --data hw2_data/digits --run-dir runs/p3_svhn
python3 -m p3_dann.train @p3_dann/presets/svhn.txt @p3_dann/presets/dann_alone.txt --data hw2_data/digits --run-dir runs/p3_svhn_dann

The presets svhn and usps are whole recipes; the others change one thing in either: dann_alone, source (source alone),
target (target alone), no_reversal, no_pseudo, no_entropy, no_instance_norm.

Adaptation sees the labels of MNIST-M's train split and the images alone of the target's. The result is the averaged
network after the last step: nothing selects among checkpoints. RUN_DIR/result.json gets its accuracy on the target's val and,
for choices between settings that must not know a target label, its agreement (evaluate.py) on the target's train split.
"""
import json
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from common.checkpoint import save_weights
from common.cli import UserError, choose_device, command
from common.config import option, parse_options, to_json
from common.digits import load_digits
from common.files import whole_file
from common.rng import batch_at, step_seed
from common.training import FitOptions, Loss, TrainStep, fingerprint, fit, is_main_process, training_parser
from p3_dann import augment
from p3_dann.adversarial import (
    adaptation_factor,
    class_imbalance,
    conditional_entropy,
    dann_loss,
    pseudo_label_loss,
)
from p3_dann.evaluate import accuracy, agreement
from p3_dann.network import DigitNetwork, NetworkConfig, prepare

SOURCE, TARGETS = "mnistm", ("svhn", "usps")
MOST_LEVELS = 5  # 28 pixels, 14, 7, 3, 1


@dataclass(frozen=True)
class TrainOptions:
    target: str = option("svhn", "domain to adapt to", choices=TARGETS)
    mode: str = option("dann", "adapt, or train on one domain alone", choices=("dann", "source", "target"))
    batch_size: int = option(128, "images per domain and step", smallest=1)
    strong_views: bool = option(True, "train on strongly augmented views, else on weakly augmented ones")
    neighbours: float = option(0.5, "share of source images with a neighbour digit on a side (svhn only)", smallest=0, largest=1)
    ramp_steps: int = option(1200, "steps over which lambda grows; progress is the share of them that is done", smallest=1)
    lambda_max: float = option(0.3, "largest factor of the reversed gradient", smallest=0)
    entropy: float = option(0.1, "weight of the target predictions' entropy, grown with lambda", smallest=0)
    balance: float = option(0.1, "weight of the target predictions' class imbalance, grown with lambda", smallest=0)
    pseudo: float = option(1.0, "weight of the averaged network's labels on target images", smallest=0)
    pseudo_start: float = option(0.3, "progress from which they count", smallest=0, largest=1)
    threshold: float = option(0.9, "confidence above which they count", smallest=0, largest=1)


def student_view(x: Tensor, train: TrainOptions) -> Tensor:
    """What the network learns from: (B, 3, 28, 28) in about [-1, 1] -> the same shape."""
    return augment.strong(x) if train.strong_views else augment.weak(x)


def source_batch(images: Tensor, train: TrainOptions) -> Tensor:
    """The network's input from (B, 3, 28, 28) uint8 source images, with neighbour digits where the target has them."""
    x = prepare(images)
    return augment.random_neighbours(x, probability=train.neighbours) if train.target == "svhn" else x


def single_domain_loss(images: Tensor, labels: Tensor, train: TrainOptions, seed: int) -> Loss:
    """Supervised cross-entropy on augmented views of one labelled set."""

    def loss(network: nn.Module, step: TrainStep) -> tuple[Tensor, dict[str, float | Tensor]]:
        rows = batch_at(len(images), train.batch_size, seed=seed, step=step.batch).to(images.device)
        x = source_batch(images[rows], train) if train.mode == "source" else prepare(images[rows])
        logits = network(student_view(x, train)).logits.float()
        accuracy = (logits.argmax(dim=1) == labels[rows]).float().mean()
        return nn.functional.cross_entropy(logits, labels[rows]), {"accuracy": accuracy}

    return loss


def adaptation_loss(source: Tensor, labels: Tensor, target: Tensor, train: TrainOptions, seed: int) -> Loss:
    """DANN's losses on labelled source and unlabelled target images, with entropy, balance and pseudo-label terms."""

    def loss(network: nn.Module, step: TrainStep) -> tuple[Tensor, dict[str, float | Tensor]]:
        size = train.batch_size
        rows = batch_at(len(source), size, seed=step_seed(seed, 0), step=step.batch).to(source.device)
        target_rows = batch_at(len(target), size, seed=step_seed(seed, 1), step=step.batch).to(source.device)
        x_source, x_target = source_batch(source[rows], train), prepare(target[target_rows])
        progress = min(step.step / train.ramp_steps, 1.0)
        factor = adaptation_factor(progress)
        views = student_view(torch.cat([x_source, x_target]), train)
        _, logits, domain_logits = network(views, train.lambda_max * factor)
        target_logits = logits[size:].float()
        domains = torch.arange(2, device=source.device).repeat_interleave(size)
        total, metrics = dann_loss(logits[:size].float(), labels[rows], domain_logits.float(), domains)
        entropy, imbalance = conditional_entropy(target_logits), class_imbalance(target_logits)
        total = total + factor * (train.entropy * entropy + train.balance * imbalance)
        metrics |= {"entropy": entropy.detach(), "imbalance": imbalance.detach()}
        if train.pseudo > 0 and progress >= train.pseudo_start:
            with torch.no_grad():
                teacher_logits = step.ema(augment.weak(x_target)).logits.float()
            pseudo, pseudo_metrics = pseudo_label_loss(target_logits, teacher_logits, threshold=train.threshold)
            total, metrics = total + train.pseudo * pseudo, metrics | pseudo_metrics
        return total, metrics

    return loss


@command
def main(argv: Sequence[str] | None = None) -> int:
    parser = training_parser(__doc__, data="folder with mnistm/, svhn/ and usps/")
    arguments, train, config, options = parse_options(parser, argv, TrainOptions, NetworkConfig, FitOptions)
    if len(config.widths) > MOST_LEVELS:
        raise UserError(f"--widths {config.widths}: give at most {MOST_LEVELS}, each half as fine as the one before")
    device = choose_device(arguments.device)

    torch.manual_seed(options.seed)
    model = DigitNetwork(config).to(device)
    if train.mode == "dann":
        source = load_digits(arguments.data / SOURCE, "train.csv")
        target = load_digits(arguments.data / train.target, "train.csv")
        images, labels, target_images = (x.to(device) for x in (source.images, source.labels, target.images))
        loss = adaptation_loss(images, labels, target_images, train, options.seed)
        data = fingerprint(images, labels, target_images)
    else:
        digits = load_digits(arguments.data / (SOURCE if train.mode == "source" else train.target), "train.csv")
        images, labels = digits.images.to(device), digits.labels.to(device)
        loss = single_domain_loss(images, labels, train, options.seed)
        data = fingerprint(images, labels)
    unlabelled, val = (load_digits(arguments.data / train.target, f"{split}.csv") for split in ("train", "val"))
    settings = {"train": to_json(train), "network": to_json(config), "data": {"fingerprint": data}}
    ema = fit(loss, model, options, arguments.run_dir, settings=settings).requires_grad_(False)
    if not is_main_process():
        return 0
    save_weights(arguments.run_dir / "weights.pt", ema, config, train=to_json(train), fit=to_json(options))
    result = {"val_accuracy": accuracy(ema, val), "agreement": agreement(ema, unlabelled.images)}
    print(json.dumps(result))
    with whole_file(arguments.run_dir / "result.json") as temporary:
        temporary.write_text(json.dumps(result) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
