import numpy as np
import pandas as pd
import torch
from PIL import Image

from common.checkpoint import save_weights
from p1_cond_ddpm import figures, sample, sampling, sweep
from p1_cond_ddpm.unet import UNet, UNetConfig


def test_figures_show_what_is_sampled(tmp_path):
    config = UNetConfig(widths=(16,), blocks=1, middle_blocks=0, embedding=16)
    torch.manual_seed(0)
    save_weights(tmp_path / "w.pt", UNet(config), config)
    fixed = ["--weights", str(tmp_path / "w.pt")]
    sample.main([str(tmp_path / "out"), *fixed, "--per-digit", "10"])
    default = sweep.as_row(tmp_path / "w.pt", sampling.SampleOptions())
    rows = [{**default, "num_steps": steps, "own_judge": 0.9, "fid768": 0.5} for steps in (5, 8, 20)]
    pd.DataFrame(rows).to_csv(tmp_path / "sweep.csv", index=False)
    wanted = ["--out", str(tmp_path / "figures"), "--sweep", str(tmp_path / "sweep.csv")]
    assert figures.main([*wanted, *fixed]) == 0
    picture = np.asarray(Image.open(tmp_path / "figures" / "p1_grid.png"))
    assert picture.shape == (604, 604, 3)
    first_nine = np.asarray(Image.open(tmp_path / "out" / "9_001.png"))
    assert np.array_equal(picture[2 * (2 + 9 * 30) :, 4:][:56:2, :56:2], first_nine)
    assert Image.open(tmp_path / "figures" / "p1_process.png").size == (910, 190)
    assert Image.open(tmp_path / "figures" / "p1_sweep.png").size == (1200, 750)
