import pandas as pd
import pytest

from common.checkpoint import save_weights
from p1_cond_ddpm import evaluate, sample, scores, strokes
from p1_cond_ddpm.unet import UNet
from tests.helpers import SMALL, randomised


def test_seeds_are_sampled_and_averaged(tmp_path, capsys):
    save_weights(tmp_path / "w.pt", randomised(UNet(SMALL)), SMALL)
    options = ["--weights", str(tmp_path / "w.pt"), "--per-digit", "1", "--num-steps", "2", "--precision", "float32"]
    assert evaluate.main(["--seeds", "3", "4", *options]) == 0
    out = capsys.readouterr().out
    accuracies = []
    for seed in ("3", "4"):
        assert sample.main([str(tmp_path / seed), "--seed", seed, *options]) == 0
        assert evaluate.main([str(tmp_path / seed)]) == 0
        accuracies.append(float(capsys.readouterr().out.splitlines()[0].removeprefix("own judge's accuracy ")))
        assert f"seed {seed}, 10 images: own_judge {accuracies[-1]:.4f}" in out
    assert f"own_judge: mean of 2 seeds {sum(accuracies) / 2:.4f}, worst {min(accuracies):.4f}" in out


def test_real_images_get_a_row_and_nothing_is_measured_twice(tmp_path, digit_folder, monkeypatch, capsys):
    save_weights(tmp_path / "w.pt", randomised(UNet(SMALL)), SMALL)
    for module in (scores, strokes):
        monkeypatch.setattr(module, "REFERENCE", 6)
    monkeypatch.setattr(scores, "features", lambda images, cache: images)
    monkeypatch.setattr(scores, "quality", lambda images, real: {"fid768": 0.5})
    command = ["--seeds", "0", "--weights", str(tmp_path / "w.pt"), "--per-digit", "2", "--num-steps", "1"]
    command += ["--out", str(tmp_path / "seeds.csv")]
    assert evaluate.main(command) == 0  # without --data: replaced by what has more scores
    capsys.readouterr()
    command += ["--data", str(digit_folder(count=80))]
    outputs = []
    for _ in range(2):
        assert evaluate.main(command) == 0
        outputs.append(capsys.readouterr().out)
    assert {*outputs[1].splitlines()} < {*outputs[0].splitlines()}  # the first also prints the rows as it adds them
    assert "real images: own_judge" in outputs[1] and "fid768" not in outputs[1].splitlines()[-1]
    table = pd.read_csv(tmp_path / "seeds.csv")
    assert table["weights"].tolist()[1:] == ["real"] and table["num_steps"].tolist() == [1, 0]
    assert table["fid768"].tolist()[:1] == [0.5] and table["stroke_coverage"].between(0, 1).all()


def test_quality_is_told_with_the_numbers_of_images(tmp_path, digit_folder, monkeypatch, capsys):
    monkeypatch.setattr(scores, "features", lambda images, cache: images)
    monkeypatch.setattr(scores, "quality", lambda images, real: {"fid768": 0.5})
    save_weights(tmp_path / "w.pt", randomised(UNet(SMALL)), SMALL)
    drawn = ["--per-digit", "1", "--num-steps", "1", "--precision", "float32"]
    assert sample.main([str(tmp_path / "out"), "--weights", str(tmp_path / "w.pt"), *drawn]) == 0
    data = digit_folder(count=80)
    held_out = len(pd.read_csv(data / "val.csv"))
    assert evaluate.main([str(tmp_path / "out"), "--data", str(data)]) == 0
    assert f"10 images against {held_out} of val: fid768 0.5000" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["folder", "--seeds", "0"]])
def test_either_a_folder_or_seeds(arguments, capsys):
    assert evaluate.main(arguments) == 2
    assert "either a folder of digits or --seeds" in capsys.readouterr().err
