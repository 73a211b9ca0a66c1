import numpy as np
import pandas as pd
import torch
from PIL import Image

from common.checkpoint import save_weights
from common.figures import sources_of
from p1_cond_ddpm import evaluate, figures, sample, sampling
from p1_cond_ddpm.unet import UNet, UNetConfig


def test_figures_show_what_is_sampled(tmp_path):
    config = UNetConfig(widths=(16,), blocks=1, middle_blocks=0, embedding=16)
    torch.manual_seed(0)
    save_weights(tmp_path / "w.pt", UNet(config), config)
    fixed = ["--weights", str(tmp_path / "w.pt")]
    sample.main([str(tmp_path / "out"), *fixed, "--per-digit", "10"])
    default = evaluate.as_row(tmp_path / "w.pt", sampling.SampleOptions())
    rows = [{**default, "num_steps": steps, "own_judge": 0.9, "fid768": 0.5} for steps in (5, 8, 20)]
    pd.DataFrame(rows).to_csv(tmp_path / "sweep.csv", index=False)
    wanted = ["--out", str(tmp_path / "figures"), "--sweep", str(tmp_path / "sweep.csv")]
    assert figures.main([*wanted, *fixed]) == 0
    picture = np.asarray(Image.open(tmp_path / "figures" / "p1_grid.png"))
    assert picture.shape == (604, 604, 3)
    first_nine = np.asarray(Image.open(tmp_path / "out" / "9_001.png"))
    assert np.array_equal(picture[2 * (2 + 9 * 30) :, 4:][:56:2, :56:2], first_nine)
    names = sorted(path.name for path in (tmp_path / "figures").iterdir())
    assert names == ["p1_architecture.svg", "p1_grid.png", "p1_process.png", "p1_sweep.svg"]
    assert {*sources_of(tmp_path / "figures" / "p1_sweep.svg")} == {"w.pt", "sweep.csv"}


def test_a_line_of_the_sweep_varies_one_setting():
    settings = {"spacing": 1.0, "guidance_interval": "0-999", "contrast": 1.0}
    points = [("dpm", 8, 1.0, "bf16"), ("dpm", 8, 2.0, "float32"), ("dpm", 8, 2.0, "bf16"), ("ddpm", 8, 1.0, "bf16")]
    names = ("sampler", "num_steps", "guidance_scale", "precision")
    table = pd.DataFrame([{**settings, **dict(zip(names, point))} for point in points])
    [(setting, line)] = figures.sweep_lines(table, "guidance_scale")
    assert (setting["sampler"], setting["num_steps"]) == ("dpm", 8)
    assert line["guidance_scale"].tolist() == [1.0, 2.0] and line["precision"].tolist() == ["bf16", "bf16"]
