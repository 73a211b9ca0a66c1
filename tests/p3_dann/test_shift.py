import json

import numpy as np
import pandas as pd
import pytest
import torch

from common.checkpoint import save_weights
from p3_dann import compare, shift
from p3_dann.network import DigitNetwork, NetworkConfig

RANDOM = np.random.RandomState(0)


def one_hot(classes):
    return np.eye(10)[classes]


def test_proxy_a_distance_runs_from_0_to_2():
    assert [shift.proxy_a_distance(share) for share in (0.4, 0.5, 0.75, 1.0)] == pytest.approx([0, 0, 1, 2])


def test_domains_are_told_apart_by_their_features():
    a, b = RANDOM.randn(300, 4), RANDOM.randn(300, 4)
    assert shift.separability(a, b) == pytest.approx(0.5, abs=0.07)
    assert shift.separability(a, b + 6) > 0.99


def test_classes_may_be_apart_where_domains_as_a_whole_are_not():
    """Two digits a domain; the second domain has them the other way round."""
    labels = np.repeat(np.arange(10), 40)
    source = RANDOM.randn(400, 2) + 8 * (labels % 2)[:, None]
    target = RANDOM.randn(400, 2) + 8 * (1 - labels % 2)[:, None]
    assert shift.proxy_a_distance(shift.separability(source, target)) < 0.3
    assert shift.class_conditional_a_distance(source, labels, target, labels) > 1.9
    assert shift.class_conditional_a_distance(source, labels, target[::-1], labels[::-1]) > 1.9
    assert shift.class_conditional_a_distance(source, labels, target, 9 - labels) < 0.5


def test_certainty_counts_only_with_diversity():
    sure, collapsed, unsure = one_hot(np.arange(50) % 10), one_hot(np.zeros(50, int)), np.full((50, 10), 0.1)
    assert shift.certainty_with_diversity(sure) == pytest.approx(np.log(10))
    assert shift.certainty_with_diversity(collapsed) == pytest.approx(0)
    assert shift.certainty_with_diversity(unsure) == pytest.approx(0)


def test_dense_neighbourhoods_have_a_high_entropy():
    """Of 50 images in 5 clusters each has 9 neighbours; scattered ones have fewer."""
    assert shift.soft_neighbourhood_density(one_hot(np.arange(50) % 5)) == pytest.approx(np.log(9), abs=1e-3)
    spread = RANDOM.dirichlet(np.full(10, 0.5), size=50)
    assert shift.soft_neighbourhood_density(spread) < np.log(9)


def test_importance_weights_make_source_images_near_the_target_count():
    features = np.repeat([[0.0], [4.0]], 200, axis=0) + RANDOM.randn(400, 1)
    labels = np.zeros(400, int)
    source = shift.Answers(features, one_hot(np.repeat([0, 1], 200)))  # right where features are about 0
    near, far = (shift.Answers(RANDOM.randn(400, 1) + mean, source.probabilities) for mean in (0, 4))
    assert shift.importance_weighted_accuracy(source, labels, near) > 0.9
    assert shift.importance_weighted_accuracy(source, labels, far) < 0.1


@pytest.mark.filterwarnings("ignore:An input array is constant")
def test_every_run_has_a_row_and_scores_are_ranked(tmp_path, digit_folder, capsys):
    for domain in ("mnistm", "svhn"):
        digit_folder(domain, 60)
    for seed in (0, 1, 2):
        run = tmp_path / f"run_{seed}"
        config = NetworkConfig(widths=(8, 8))
        torch.manual_seed(seed)
        save_weights(run / "weights.pt", DigitNetwork(config), config)
        options = {"train": {"mode": "dann", "target": "svhn"}, "fit": {"steps": 20, "seed": seed}}
        options |= {"data": {"fingerprint": "one"}, "machine": {"world_size": 1, "computed_in": "bf16"}}
        (run / "metrics.jsonl").touch()
        (run / "options.json").write_text(json.dumps(options))
        result = {"settings": options, "val_accuracy": 0.1 * seed, "agreement": 0.2 * seed}
        (run / "result.json").write_text(json.dumps(result))
    command = [*(str(tmp_path / f"run_{seed}") for seed in (0, 1, 2)), "--data", str(tmp_path / "digits")]
    for _ in range(2):
        assert compare.main([*command, "--out", str(tmp_path / "found.csv")]) == 0
        assert "over 3 runs to svhn (oracle): agreement 1.00" in capsys.readouterr().out
    table = pd.read_csv(tmp_path / "found.csv")
    assert table["run"].tolist() == ["run_0", "run_1", "run_2"] and table.notna().all(axis=None)
    assert table[["a_distance", "class_a_distance"]].stack().between(0, 2).all()
