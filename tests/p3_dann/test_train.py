import json

import pandas as pd
import pytest
import torch

from p3_dann import evaluate, train
from tests.helpers import FAST, assert_average_saved

SMALL = [
    "--widths",
    "8",
    "8",
    "--steps",
    "4",
    "--ramp-steps",
    "4",
    "--log-every",
    "1",
    "--batch-size",
    "8",
    "--precision",
    "float32",
]


@pytest.mark.parametrize("mode", ["dann", "source", "target"])
def test_every_mode_trains_and_its_averaged_weights_are_read(tmp_path, digit_folder, mode):
    [digit_folder(name) for name in ("mnistm", "svhn", "usps")]
    run = tmp_path / "run"
    assert train.main(["--data", str(tmp_path / "digits"), "--run-dir", str(run), "--mode", mode, *SMALL, *FAST]) == 0
    assert_average_saved(run)
    assert evaluate.main(["--weights", str(run / "weights.pt"), "--data", str(tmp_path / "digits" / "svhn")]) == 0
    last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    assert ({"domain_loss", "entropy", "pseudo_share"} <= set(last)) == (mode == "dann")


def test_adaptation_never_sees_a_target_label(tmp_path, digit_folder):
    [digit_folder(name) for name in ("mnistm", "svhn", "usps")]
    weights = []
    for run in ("a", "b"):
        train.main(["--data", str(tmp_path / "digits"), "--run-dir", str(tmp_path / run), *SMALL])
        weights.append(torch.load(tmp_path / run / "weights.pt", weights_only=True)["state_dict"])
        for csv in ("train.csv", "val.csv"):  # the second run's target labels are all 7
            path = tmp_path / "digits" / "svhn" / csv
            pd.read_csv(path).assign(label=7).to_csv(path, index=False)
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


@pytest.mark.parametrize(
    "option, words",
    [
        (["--widths", *"888888"], "at most 5"),
        (["--dropout", "2"], "--dropout 2"),
        (["--learning-rate=-1"], "--learning-rate -1"),
        (["--target", "usps"], "val.csv"),
        (["--mode", "source", "--domain-statistics"], "has one domain"),
    ],
)
def test_what_cannot_work_is_refused_before_training(tmp_path, digit_folder, capsys, option, words):
    [digit_folder(name) for name in ("mnistm", "svhn", "usps")]
    (tmp_path / "digits" / "usps" / "val.csv").unlink()
    assert train.main(["--data", str(tmp_path / "digits"), "--run-dir", str(tmp_path / "run"), *SMALL, *option]) == 2
    assert words in capsys.readouterr().err and not (tmp_path / "run").exists()
