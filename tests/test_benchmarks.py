"""benchmarks/training.py: the other benchmarks compare with peers, and take minutes."""

import pandas as pd

from benchmarks import training


def test_a_trainings_cost_is_measured(tmp_path):
    out = tmp_path / "networks.csv"
    assert training.main(["--steps", "4", "--networks", "p3_usps", "--out", str(out)]) == 0
    [row] = pd.read_csv(out).to_dict("records")
    assert (row["network"], row["steps"], row["file_megabytes"]) == ("p3_usps", 400, 1.2)
    assert row["parameters"] > 5e5 and row["minutes"] == round(400 * row["seconds_per_step"] / 60, 1) > 0
