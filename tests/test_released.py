"""The released checkpoints, through the graded scripts, on real data: not far below the numbers of the README."""
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from p1_cond_ddpm import judge

pytestmark = pytest.mark.slow


def accuracy_of_folder(folder, capsys):
    assert judge.main(["--folder", str(folder)]) == 0
    return float(capsys.readouterr().out.split()[2])


def test_digits(real_data, script, tmp_path, capsys):
    result = script("hw2_1.sh", "out")
    assert result.returncode == 0, result.stderr
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [f"{d}_{n:03d}.png" for d in range(10) for n in range(1, 101)]
    assert accuracy_of_folder(tmp_path / "out", capsys) >= 0.985


def test_digits_without_guidance(real_data, script, tmp_path, capsys):
    result = script("hw2_1.sh", "out", *"--sampler ddpm --num-steps 18 --spacing 0.5 --guidance-scale 1".split())
    assert result.returncode == 0, result.stderr
    assert accuracy_of_folder(tmp_path / "out", capsys) >= 0.9


@pytest.mark.parametrize("name, least", [("svhn", 0.885), ("usps", 0.98)])
def test_domains(real_val, script, tmp_path, name, least):
    images, labels = real_val(name)
    (tmp_path / "renamed").mkdir()
    for number, image in enumerate(images):
        Image.fromarray(image if name == "svhn" else image[..., 0]).save(tmp_path / "renamed" / f"{number:05d}.png")
    result = script("hw2_3.sh", "renamed", "pred.csv")
    assert result.returncode == 0 and f"domain: {name}" in result.stderr
    table = pd.read_csv(tmp_path / "pred.csv")
    assert table["image_name"].tolist() == [f"{number:05d}.png" for number in range(len(images))]
    assert np.mean(table["label"].to_numpy() == labels) >= least
