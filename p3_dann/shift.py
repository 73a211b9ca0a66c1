"""How far two domains are apart in a network's features, and scores of networks that need no target label."""

from typing import NamedTuple

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from torch import Tensor

from p3_dann.network import DigitNetwork, prepare

TEMPERATURE = 0.05  # Saito et al. 2021, section 4


class Answers(NamedTuple):
    """Of a network to N images."""

    features: np.ndarray  # (N, F) float32
    probabilities: np.ndarray  # (N, 10) float64


@torch.inference_mode()
def answers(model: DigitNetwork, images: Tensor) -> Answers:
    """To (N, 3, 28, 28) uint8."""
    outputs = [model(prepare(batch)) for batch in images.split(500)]
    logits = torch.cat([output.logits for output in outputs]).double()
    return Answers(torch.cat([output.features for output in outputs]).numpy(), logits.softmax(dim=1).numpy())


def separability(source: np.ndarray, target: np.ndarray) -> float:
    """Share of the features (N, F), (M, F) whose domain a linear classifier finds, cross-validated."""
    domains = np.repeat([0, 1], [len(source), len(target)])
    scaled = StandardScaler().fit_transform(np.concatenate([source, target]))
    return float((cross_val_predict(LinearSVC(dual=False), scaled, domains, cv=3) == domains).mean())


def proxy_a_distance(share: float) -> float:
    """2 (1 - 2 error), from the `separability` of two sets of equal size.

    0 where domains can't be told apart, 2 where they always can. Source: Ben-David et al. 2007.
    """
    return 2 * (1 - 2 * (1 - max(share, 0.5)))


def class_conditional_a_distance(
    source: np.ndarray, source_labels: np.ndarray, target: np.ndarray, target_labels: np.ndarray
) -> float:
    """The mean over the digits of the proxy A-distance of one digit's features, as many from each domain.

    It needs target labels: it explains a network, and chooses none.
    """
    distances = []
    for digit in range(10):
        ours, theirs = source[source_labels == digit], target[target_labels == digit]
        count = min(len(ours), len(theirs))
        distances.append(proxy_a_distance(separability(ours[:count], theirs[:count])))
    return float(np.mean(distances))


def entropy(probabilities: np.ndarray) -> np.ndarray:
    """Of rows (..., K), in nats."""
    return -(probabilities * np.log(probabilities.clip(min=1e-12))).sum(axis=-1)


def certainty_with_diversity(probabilities: np.ndarray) -> float:
    """Entropy of the mean prediction minus mean entropy of the predictions (N, K).

    High where each image has one class, and not all the same.

    Source: Bridle et al. 1991; for adaptation, Shi and Sha 2012.
    """
    return float(entropy(probabilities.mean(axis=0)) - entropy(probabilities).mean())


def soft_neighbourhood_density(probabilities: np.ndarray) -> float:
    """Mean entropy of an image's similarity to the others, of predictions (N, K): high where they form dense clusters.

    Source: Saito et al. 2021, equations 2 to 4.
    """
    unit = probabilities / np.linalg.norm(probabilities, axis=1, keepdims=True)
    similarity = unit @ unit.T / TEMPERATURE
    np.fill_diagonal(similarity, -np.inf)
    weights = np.exp(similarity - similarity.max(axis=1, keepdims=True))
    return float(entropy(weights / weights.sum(axis=1, keepdims=True)).mean())


def importance_weighted_accuracy(source: Answers, labels: np.ndarray, target: Answers) -> float:
    """Accuracy on labelled source images, each weighted by how much more likely its features are in the target.

    The ratio of densities comes from logistic regression on the domains. Source: Sugiyama et al. 2007, section 3.
    """
    domains = np.repeat([0, 1], [len(source.features), len(target.features)])
    both = np.concatenate([source.features, target.features])
    regression = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(both, domains)
    of_target = regression.predict_proba(source.features)[:, 1].clip(1e-6, 1 - 1e-6)
    weights = of_target / (1 - of_target)
    right = source.probabilities.argmax(axis=1) == labels
    return float((weights * right).sum() / weights.sum())
