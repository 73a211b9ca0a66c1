"""Train problem 3's network: adapted from MNIST-M to a target, or on one domain alone.

python3 -m p3_dann.train @p3_dann/presets/svhn.txt --data hw2_data/digits --run-dir runs/p3_svhn
python3 -m p3_dann.train @p3_dann/presets/svhn.txt @p3_dann/presets/dann_alone.txt --data hw2_data/digits \\
    --run-dir runs/p3_svhn_dann

The presets svhn and usps are whole recipes. The others follow one of these and change it: dann_alone, source, target
(one domain alone), statistics (of each domain, no adversary), no_reversal, no_pseudo, no_entropy (and no balance),
no_instance_norm.

Adaptation sees the labels of MNIST-M's train split and the images alone of the target's. The result is the averaged
network after the last step: nothing selects among checkpoints. RUN_DIR/result.json gets its accuracy on the target's
val and, for choices between settings that must not know a target label, its agreement (evaluate.py) on the target's
train split.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from common.checkpoint import save_weights
from common.cli import UserError, command, wrote
from common.config import option, parse_options, to_json
from common.device import choose_device
from common.digits import load_digits
from common.files import atomic_write
from common.optimisers import FitOptions
from common.processes import is_main_process
from common.rng import batch_at, step_seed
from common.run_folder import read_settings
from common.training import Loss, TrainStep, check_batch_size, fingerprint, fit, training_parser
from p3_dann import augment
from p3_dann.evaluate import accuracy, agreement
from p3_dann.network import DigitNetwork, NetworkConfig, prepare
from p3_dann.objective import AdaptationBatch, ObjectiveOptions, adaptation_objective, factors_at

SOURCE, TARGETS = "mnistm", ("svhn", "usps")
MOST_LEVELS = 5  # 28 pixels, 14, 7, 3, 1


@dataclass(frozen=True)
class TrainOptions:
    """Domains and training batches."""

    target: str = option("svhn", "domain to adapt to", choices=TARGETS)
    mode: str = option("dann", "adapt, or train on one domain alone", choices=("dann", "source", "target"))
    batch_size: int = option(128, "images per domain and step", smallest=1)
    strong_views: bool = option(True, "train on strongly augmented views, else on weakly augmented ones")
    neighbours: float = option(
        0.5, "share of source images with a neighbour digit on a side (svhn only)", smallest=0, largest=1
    )


OPTIONS = (TrainOptions, ObjectiveOptions, NetworkConfig, FitOptions)


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


def adaptation_loss(
    source: Tensor, labels: Tensor, target: Tensor, train: TrainOptions, objective: ObjectiveOptions, seed: int
) -> Loss:
    """The objective on student views of labelled source and unlabelled target images; the teacher sees weak views."""

    def loss(network: nn.Module, step: TrainStep) -> tuple[Tensor, dict[str, float | Tensor]]:
        size = train.batch_size
        rows = batch_at(len(source), size, seed=step_seed(seed, 0), step=step.batch).to(source.device)
        target_rows = batch_at(len(target), size, seed=step_seed(seed, 1), step=step.batch).to(source.device)
        x_source, x_target = source_batch(source[rows], train), prepare(target[target_rows])
        factors = factors_at(step.step, objective)
        views = student_view(torch.cat([x_source, x_target]), train)
        _, logits, domain_logits = network(views, factors.lambda_)
        teacher_logits = None
        if factors.pseudo > 0:
            with torch.no_grad():
                teacher_logits = step.ema(augment.weak(x_target)).logits.float()
        source_logits, target_logits = logits.float().split(size)
        batch = AdaptationBatch(source_logits, labels[rows], target_logits, domain_logits.float(), teacher_logits)
        total, parts = adaptation_objective(batch, factors, threshold=objective.threshold)
        return total, {**parts}

    return loss


@command
def main(argv: Sequence[str] | None = None) -> int:
    parser = training_parser(__doc__, data="folder with mnistm/, svhn/ and usps/")
    arguments, train, objective, config, options = parse_options(parser, argv, *OPTIONS)
    if len(config.widths) > MOST_LEVELS:
        raise UserError(f"--widths {config.widths}: give at most {MOST_LEVELS}, each half as fine as the one before")
    if config.domain_statistics and train.mode != "dann":
        raise UserError(f"--domain-statistics: --mode {train.mode} has one domain; give --no-domain-statistics")
    device = choose_device(arguments.device)

    torch.manual_seed(options.seed)
    model = DigitNetwork(config).to(device)
    if train.mode == "dann":
        source = load_digits(arguments.data / SOURCE, "train.csv")
        target = load_digits(arguments.data / train.target, "train.csv")
        check_batch_size(train.batch_size, min(len(source), len(target)))
        images, labels, target_images = (x.to(device) for x in (source.images, source.labels, target.images))
        loss = adaptation_loss(images, labels, target_images, train, objective, options.seed)
        data = fingerprint(images, labels, target_images)
    else:
        digits = load_digits(arguments.data / (SOURCE if train.mode == "source" else train.target), "train.csv")
        check_batch_size(train.batch_size, len(digits))
        images, labels = digits.images.to(device), digits.labels.to(device)
        loss = single_domain_loss(images, labels, train, options.seed)
        data = fingerprint(images, labels)
    unlabelled, val = (load_digits(arguments.data / train.target, f"{split}.csv") for split in ("train", "val"))
    recipe = {"train": to_json(train), "objective": to_json(objective)}
    settings = {**recipe, "network": to_json(config), "data": {"fingerprint": data}}
    rates = {"domain": objective.discriminator_rate} if objective.discriminator_rate else {}
    ema = fit(loss, model, options, arguments.run_dir, settings=settings, rates=rates).requires_grad_(False)
    if not is_main_process():
        return 0
    save_weights(arguments.run_dir / "weights.pt", ema, config, **recipe, fit=to_json(options))
    result = {
        "settings": read_settings(arguments.run_dir / "options.json"),
        "val_accuracy": accuracy(ema, val),
        "agreement": agreement(ema, unlabelled.images),
    }
    print(f"val accuracy {result['val_accuracy']:.4f}, agreement {result['agreement']:.4f}")
    with atomic_write(arguments.run_dir / "result.json") as temporary:
        temporary.write_text(json.dumps(result) + "\n", encoding="utf-8")
    wrote(arguments.run_dir / "weights.pt")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
