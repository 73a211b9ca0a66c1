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
from sklearn.model_selection import cross_val_predict
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from torch import Tensor

from common.cli import command, some_path
from common.digits import load_digits
from common.figures import save_figure
from common.rng import generator
from p3_dann.inference import load_classifier
from p3_dann.network import DigitNetwork, prepare

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
DOMAIN_COLOURS = ("#0072B2", "#E69F00")  # Okabe and Ito


class Embedding(NamedTuple):
    points: np.ndarray  # (N, 2)
    separability: float  # share of the features whose domain a linear classifier finds, cross-validated


@torch.inference_mode()
def features(model: DigitNetwork, images: Tensor) -> np.ndarray:
    """(N, 3, 28, 28) uint8 -> (N, F) float32."""
    return torch.cat([model(prepare(batch)).features for batch in images.split(500)]).numpy()


def proxy_a_distance(separability: float) -> float:
    """2 (1 - 2 error), 0 where domains can't be told apart, 2 where they always can. Source: Ben-David et al. 2007."""
    return 2 * (1 - 2 * (1 - max(separability, 0.5)))


def embed(model: DigitNetwork, images: Tensor, domains: np.ndarray) -> Embedding:
    """t-SNE (seed 0) of the features, and how well a linear SVM tells their domains."""
    f = features(model, images)
    found = cross_val_predict(LinearSVC(dual=False), StandardScaler().fit_transform(f), domains, cv=3)
    return Embedding(TSNE(perplexity=PERPLEXITY, random_state=0).fit_transform(f), float((found == domains).mean()))


def draw(embeddings: dict[str, Embedding], groups: np.ndarray, names: Sequence[str], colours: Sequence[str]) -> Figure:
    """One panel per embedding, points coloured by group, a common legend."""
    figure = Figure(figsize=(5.2 * len(embeddings), 5.6), dpi=110, layout="constrained")
    for axis, (title, embedding) in zip(figure.subplots(1, len(embeddings)), embeddings.items()):
        for number, (name, colour) in enumerate(zip(names, colours)):
            some = embedding.points[groups == number]
            axis.scatter(some[:, 0], some[:, 1], s=5, color=colour, label=name, linewidths=0)
        distance = proxy_a_distance(embedding.separability)
        axis.set_title(
            f"{title}\ndomain told by a linear SVM: {100 * embedding.separability:.0f} %, "
            f"proxy A-distance {distance:.2f}"
        )
        axis.set_xticks([])
        axis.set_yticks([])
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(names), markerscale=4, frameon=False)
    return figure


@command
def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=some_path, required=True, help="folder with mnistm/, svhn/ and usps/")
    parser.add_argument("--target", choices=("svhn", "usps"), required=True)
    parser.add_argument("--before", type=some_path, required=True, help="weights trained on source")
    parser.add_argument("--after", type=some_path, required=True, help="adapted weights")
    parser.add_argument("--out", type=some_path, required=True)
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
