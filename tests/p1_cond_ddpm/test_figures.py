import numpy as np
import pandas as pd
import torch
from PIL import Image

from common.checkpoint import save_weights
from common.figures import sources_of
from p1_cond_ddpm import evaluate, figures, sample, sampling
from p1_cond_ddpm.scores import REAL
from p1_cond_ddpm.unet import UNet, UNetConfig


def test_figures_show_what_is_sampled(tmp_path):
    config = UNetConfig(widths=(16,), blocks=1, middle_blocks=0, embedding=16)
    torch.manual_seed(0)
    save_weights(tmp_path / "w.pt", UNet(config), config)
    fixed = ["--weights", str(tmp_path / "w.pt")]
    sample.main([str(tmp_path / "out"), *fixed, "--per-digit", "10", "--contrast", "1.5"])
    default = evaluate.as_row(tmp_path / "w.pt", sampling.SampleOptions())
    scores = {"own_judge": 0.9, "fid768": 0.5, "stroke_coverage": 0.6}
    rows = [{**default, "guidance_scale": scale, **scores} for scale in (1, 2.5, 3)]
    rows.append({"weights": REAL, "own_judge": 0.96, "stroke_coverage": 0.65})
    pd.DataFrame(rows).to_csv(tmp_path / "sweep.csv", index=False)
    wanted = ["--out", str(tmp_path / "figures"), "--sweep", str(tmp_path / "sweep.csv")]
    assert figures.main([*wanted, *fixed, "--contrast", "1.5"]) == 0
    picture = np.asarray(Image.open(tmp_path / "figures" / "p1_grid.png"))
    assert picture.shape == (604, 604, 3)
    first_nine = np.asarray(Image.open(tmp_path / "out" / "9_001.png"))
    assert np.array_equal(picture[2 * (2 + 9 * 30) :, 4:][:56:2, :56:2], first_nine)
    process = (tmp_path / "figures" / "p1_process.png").read_bytes()
    assert figures.main(["--out", str(tmp_path / "plain"), *fixed, "--only", "process"]) == 0
    assert process != (tmp_path / "plain" / "p1_process.png").read_bytes()
    names = sorted(path.name for path in (tmp_path / "figures").iterdir())
    assert names == ["p1_grid.png", "p1_process.png", "p1_sweep.svg", "w_architecture.svg"]
    assert {*sources_of(tmp_path / "figures" / "p1_sweep.svg")} == {"w.pt", "sweep.csv"}
    assert figures.main(["--out", str(tmp_path / "one"), *fixed, "--only", "architecture"]) == 0
    assert [path.name for path in (tmp_path / "one").iterdir()] == ["w_architecture.svg"]
    assert figures.main(["--out", str(tmp_path / "none"), *fixed, "--only", "sweep"]) == 2
    assert figures.main(["--out", str(tmp_path / "none"), *fixed, "--contrast", "0.5"]) == 2


def test_a_line_of_the_sweep_varies_the_guidance_scale():
    names = ("sampler", "num_steps", "guidance_scale", "guidance_interval", "precision", "autoguidance")
    points = [
        ("dpm", 8, 1.0, "0-999", "bf16", 1.0),
        ("dpm", 8, 2.0, "0-999", "float32", 1.0),
        ("dpm", 8, 2.0, "0-999", "bf16", 1.0),
        ("dpm", 8, 3.0, "300-800", "bf16", 1.0),
        ("dpm", 10, 3.0, "300-800", "bf16", 1.0),
        ("mixed", 8, 1.0, "300-800", "bf16", 2.5),
        ("mixed", 8, 2.0, "300-800", "bf16", 2.5),
    ]
    shared = {"spacing": 1.0, "early_steps": 0, "detail_steps": 0, "contrast": 1.0}
    shared |= {"guidance_chroma": 1.0, "guidance_every": 1, "guidance_head": False}
    finer = {"early_steps": 2, "detail_steps": 3, "guidance_chroma": 0.5, "guidance_every": 2, "sampler": "sde"}
    rows = [{**shared, "autoguidance_interval": "600-999", **dict(zip(names, point))} for point in points]
    by_head = {**rows[-1], "guidance_scale": 4.0, "guidance_head": True}
    kept = [{**row, "guidance_every": 2} for row in (rows[1], rows[-1])]
    table = pd.DataFrame([*rows, *({**row, **finer} for row in rows[-2:]), by_head, *kept])
    lines = {figures.setting_name(setting): line for setting, line in figures.sweep_lines(table)}
    assert {name: line["guidance_scale"].tolist() for name, line in lines.items()} == {
        "DPM-Solver++(2M), 8 steps": [1.0, 2.0],
        "DPM-Solver++(2M), 8 steps, guidance every 2 steps": [1.0, 2.0],
        "DPM-Solver++(2M), 8 steps, guided in 300–800": [1.0, 3.0],
        "DDPM, below 500 SDE-DPM-Solver++(2M), 8 steps, guided in 300–800, autoguided by 2.5": [1.0, 2.0],
        "DDPM, below 500 SDE-DPM-Solver++(2M), 8 steps, guided in 300–800 by the head, autoguided by 2.5": [1.0, 4.0],
        "SDE-DPM-Solver++(2M), 2 + 8 + 3 steps, guided in 300–800, autoguided by 2.5, guidance every 2 steps, "
        "colours by 0.5": [1.0, 2.0],
    }
    assert lines["DPM-Solver++(2M), 8 steps"]["precision"].tolist() == ["bf16", "bf16"]
