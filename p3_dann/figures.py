"""t-SNE of problem 3's features, before and after adaptation, coloured by class and by domain.

python3 -m p3_dann.figures --data hw2_data/digits --target svhn --before runs/p3_source/weights.pt \\
    --after checkpoints/p3_svhn.pt --out docs/figures
"""

import argparse
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from sklearn.manifold import TSNE
from torch import Tensor

from common.cli import command, some_path
from common.digits import load_digits
from common.figures import BLUE, COLUMN, ORANGE, new_figure, save_figure, styled
from common.rng import generator
from p3_dann.inference import load_classifier
from p3_dann.network import DigitNetwork
from p3_dann.shift import answers, separability

POINTS = 1000  # of each domain
PERPLEXITY = 30
CLASS_COLOURS = (
    "#332288",
    "#88CCEE",
    "#44AA99",
    "#117733",
    "#999933",
    "#DDCC77",
    "#CC6677",
    "#882255",
    "#AA4499",
    "#777777",
)  # Tol, muted
DOMAIN_COLOURS = (BLUE, ORANGE)
MARKERS = "ox"  # of a few groups
LABEL = {"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 0.5}


class Embedding(NamedTuple):
    points: np.ndarray  # (N, 2)
    separability: float  # share of the features whose domain a linear classifier finds, cross-validated


def embed(model: DigitNetwork, images: Tensor, domains: np.ndarray) -> Embedding:
    """t-SNE (seed 0) of the features, and how well a linear SVM tells their domains."""
    features = answers(model, images).features
    share = separability(features[domains == 0], features[domains == 1])
    return Embedding(TSNE(perplexity=PERPLEXITY, random_state=0).fit_transform(features), share)


@styled
def draw(embeddings: dict[str, Embedding], groups: np.ndarray, names: Sequence[str], colours: Sequence[str]) -> Figure:
    """The same points in one panel per embedding, coloured by group, with one legend.

    Where there are few groups each has a marker, else each has its name at its middle, so that print tells them apart.
    """
    figure = new_figure(COLUMN, 2.3)
    few = len(names) <= len(MARKERS)
    axes = figure.subplots(1, len(embeddings))
    for axis, (title, embedding) in zip(axes, embeddings.items()):
        for number, (name, colour) in enumerate(zip(names, colours)):
            some = embedding.points[groups == number]
            marker = MARKERS[number] if few else "o"
            axis.scatter(*some.T, s=3, marker=marker, color=colour, label=name, linewidths=0.4 if few else 0)
            if not few:
                axis.text(*np.median(some, axis=0), name, fontweight="bold", ha="center", va="center", bbox=LABEL)
        axis.set_title(f"{title}\ndomain told in {100 * embedding.separability:.0f} %")
        axis.set(xticks=[], yticks=[], box_aspect=1)
        axis.set_aspect("equal", adjustable="datalim")
    if few:
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(names), markerscale=3)
    return figure


@command
def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=some_path, required=True, help="folder with mnistm/, svhn/ and usps/")
    parser.add_argument("--target", choices=("svhn", "usps"), required=True, help="the domain adapted to")
    parser.add_argument("--before", type=some_path, required=True, help="weights trained on source")
    parser.add_argument("--after", type=some_path, required=True, help="adapted weights")
    parser.add_argument("--out", type=some_path, required=True, help="folder for the figures")
    arguments = parser.parse_args(argv)
    parts = []
    for number, name in enumerate(("mnistm", arguments.target)):
        val = load_digits(arguments.data / name, "val.csv")
        rows = torch.randperm(len(val), generator=generator(number))[:POINTS]
        parts.append((val.images[rows], val.labels[rows]))
    images, labels = (torch.cat(part) for part in zip(*parts))
    domains = np.repeat([0, 1], [len(part[0]) for part in parts])
    titles = {"trained on MNIST-M": arguments.before, f"adapted to {arguments.target.upper()}": arguments.after}
    embeddings = {title: embed(load_classifier(path), images, domains) for title, path in titles.items()}
    colourings = {
        "class": draw(embeddings, labels.numpy(), [str(digit) for digit in range(10)], CLASS_COLOURS),
        "domain": draw(embeddings, domains, ["MNIST-M", arguments.target.upper()], DOMAIN_COLOURS),
    }
    for name, figure in colourings.items():
        save_figure(figure, arguments.out / f"p3_{arguments.target}_{name}.png", [*titles.values()])
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
