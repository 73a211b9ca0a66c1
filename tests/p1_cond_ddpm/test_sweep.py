from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from common.checkpoint import save_weights
from p1_cond_ddpm import sweep
from p1_cond_ddpm.sampling import GRADED, SampleOptions
from p1_cond_ddpm.unet import UNet
from tests.helpers import SMALL, randomised


@pytest.mark.parametrize(
    "option, words",
    [
        (["--spacing", "-1"], "--spacing -1"),
        (["--num-steps", "0"], "--num-steps 0"),
        (["--out", "foreign.csv"], "no column weights"),
    ],
)
def test_bad_settings_are_refused_before_anything_is_measured(tmp_path, monkeypatch, capsys, option, words):
    monkeypatch.chdir(tmp_path)
    save_weights(tmp_path / "w.pt", randomised(UNet(SMALL)), SMALL)
    (tmp_path / "foreign.csv").write_text("a,b\n1,2\n")
    command = ["--weights", "w.pt", "--reference", "nowhere.npz", "--out", "sweep.csv", *option]
    assert sweep.main(command) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    "scale, interval, every, head, use, passes",
    [
        (2.0, (0, 999), 1, (), True, 20),
        (2.0, (100, 498), 1, (), True, 13),
        (2.0, (100, 498), 2, (), True, 12),
        (1.0, (0, 999), 1, (), True, 10),
        (2.0, (0, 999), 1, (300, 800), True, 15),
        (2.0, (0, 999), 1, (300, 800), False, 20),
        (2.0, (300, 800), 1, (300, 800), True, 10),
    ],
)
def test_passes_count_both_branches_where_guidance_is_computed(scale, interval, every, head, use, passes):
    options = SampleOptions(  # ten steps, at 99, 199, ..., 999
        num_steps=10,
        spacing=1.0,
        detail_steps=0,
        guidance_scale=scale,
        guidance_interval=interval,
        guidance_every=every,
        guidance_head=use,
    )
    assert sweep.passes_per_image(options, replace(SMALL, head_interval=head)) == passes


def test_every_combination_is_measured_once(real_data, tmp_path, digit_folder, monkeypatch):
    monkeypatch.setattr("common.device.has_bf16", lambda device: False)
    save_weights(tmp_path / "w.pt", randomised(UNet(SMALL)), SMALL)
    command = [
        "--data",
        str(digit_folder()),
        "--cache",
        str(tmp_path / "features"),
        "--out",
        str(tmp_path / "sweep.csv"),
    ]
    command += ["--weights", str(tmp_path / "w.pt"), "--per-digit", "1"]
    assert sweep.main([*command, "--num-steps", "1", "2", "--precision", "float32", "bf16"]) == 0
    before = pd.read_csv(tmp_path / "sweep.csv")
    assert before["num_steps"].tolist() == [1, 2] and set(before["precision"]) == {"float32"}
    assert before["own_judge"].between(0, 1).all() and (before["fid768"] > 0).all()
    assert sweep.main([*command, "--num-steps", "1", "--guidance-scale", str(GRADED.guidance_scale), "1"]) == 0
    after = pd.read_csv(tmp_path / "sweep.csv")
    assert (
        after["guidance_scale"].tolist() == [GRADED.guidance_scale, GRADED.guidance_scale, 1.0]
        and after["seconds"].tolist()[:2] == before["seconds"].tolist()
    )


def test_numbered_images_are_compared_with_a_reference(real_data, tmp_path):
    save_weights(tmp_path / "w.pt", randomised(UNet(SMALL)), SMALL)
    np.savez(tmp_path / "set.npz", images=np.random.RandomState(0).randint(0, 256, (9, 28, 28), dtype=np.uint8))
    command = [
        "--reference",
        f"{tmp_path / 'set.npz'}:0:8",
        "--real",
        f"{tmp_path / 'set.npz'}:2:9",
        "--out",
        str(tmp_path / "sweep.csv"),
        "--weights",
        str(tmp_path / "w.pt"),
    ]
    command += ["--count", "4", "--num-steps", "1", "--guidance-interval", "0", "999"]
    for labels in (["--labels", "none"], [], ["--labels", "none"], []):
        assert sweep.main([*command, *labels]) == 0
    *_, real = (
        table := pd.read_csv(tmp_path / "sweep.csv", dtype={"labels": str}).sort_values("num_steps", ascending=False)
    ).to_dict("records")
    assert (real["weights"], real["images"], real["coverage"]) == ("real", 7, 1)
    table = table[table["weights"] != "real"]
    assert table["labels"].tolist() == ["none", "0123456789"] and table["own_judge"].isna().tolist() == [True, False]
    assert table["passes"].tolist() == [1, 2]
    assert (
        (table["images"] == 4).all()
        and real["fid768"] < table["fid768"].min()
        and (table["fid768"] > 0).all()
        and table["coverage"].between(0, 1).all()
    )
