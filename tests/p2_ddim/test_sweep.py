import numpy as np
import pandas as pd
import pytest
import torch

from common.checkpoint import save_weights, sha256
from common.cli import UserError
from common.images import to_uint8
from p2_ddim import sweep
from p2_ddim.noise import seeded_noises
from p2_ddim.sampling import for_inference, invert_faces, rmse, sample_faces, to_pictures
from p2_ddim.unet import FaceUNet, FaceUNetConfig, load_face_unet


def test_every_number_of_steps_is_measured_once(real_data, tmp_path, monkeypatch):
    monkeypatch.setattr(sweep, "MOST_STEPS", 6)
    config = FaceUNetConfig(widths=(32, 32), attention_levels=(), time_channels=16, embedding=16)
    torch.manual_seed(0)
    save_weights(tmp_path / "w.pt", FaceUNet(config), config)
    faces = np.random.RandomState(0).randint(0, 256, (9, 40, 36, 3), dtype=np.uint8)
    np.savez(tmp_path / "real.npz", images=faces)
    np.savez(tmp_path / "training.npz", images=faces[:, :, ::-1])
    command = [
        str(tmp_path / "w.pt"),
        "--data",
        f"{tmp_path / 'real.npz'}:0:8",
        "--real",
        f"{tmp_path / 'real.npz'}:1:9",
        "--training",
        str(tmp_path / "training.npz"),
        "--count",
        "3",
        "--out",
        str(tmp_path / "steps.csv"),
    ]
    monkeypatch.setattr("common.device.has_bf16", lambda device: False)
    assert sweep.main([*command, "--steps", "3", "6", "--precision", "bf16"]) == 0
    table = pd.read_csv(tmp_path / "steps.csv")
    [real], before = table[table["weights"] == "real"].to_dict("records"), table[table["weights"] != "real"]
    assert (real["steps"], real["faces"], real["coverage"]) == (0, 8, 1) and real["fid768"] < before["fid768"].min()
    assert before["steps"].tolist() == [3, 6] and set(before["precision"]) == {"float32"}
    assert (before["fid768"] > 0).all() and before["coverage"].between(0, 1).all()
    assert real["nearest"] == 0 and (before["nearest"] > 20).all()  # mirror images count
    assert before["distance"][0] > before["distance"][1] == 0
    assert sweep.main([*command, "--steps", "3", "2"]) == 0
    after = pd.read_csv(tmp_path / "steps.csv").query("weights != 'real'")
    assert after["steps"].tolist() == [2, 3, 6] and after["seconds"].tolist()[1:] == before["seconds"].tolist()


def test_without_data_distances_tell_what_becomes_of_eps(tmp_path, monkeypatch):
    monkeypatch.setattr(sweep, "MOST_STEPS", 8)
    config = FaceUNetConfig(widths=(32, 32), attention_levels=(), time_channels=16, embedding=16)
    torch.manual_seed(0)
    save_weights(tmp_path / "w.pt", FaceUNet(config), config)
    command = [str(tmp_path / "w.pt"), "--count", "2", "--steps", "4", "--out", str(tmp_path / "paths.csv")]
    for convention in ([], ["--keep-eps"], ["--keep-eps"]):
        assert sweep.main([*command, *convention]) == 0
    renewed, kept = pd.read_csv(tmp_path / "paths.csv").sort_values("use_clipped_model_output", ascending=False).iloc
    assert (renewed["use_clipped_model_output"], kept["use_clipped_model_output"]) == (True, False)
    noises = seeded_noises(2, 32, seed=0)
    for row in (renewed, kept):
        how = {"use_clipped_model_output": bool(row["use_clipped_model_output"])}
        model = for_inference(load_face_unet(tmp_path / "w.pt"), torch.device("cpu"))
        with torch.inference_mode():
            few, many = (sample_faces(model, noises, num_steps=steps, **how) for steps in (4, 8))
            again = sample_faces(model, invert_faces(model, few.clamp(-1, 1), num_steps=4), num_steps=4, **how)
        assert row["distance"] == pytest.approx(rmse(to_pictures(few), to_pictures(many)), abs=1e-3)
        assert row["inversion"] == pytest.approx(rmse(to_uint8(few.clamp(-1, 1)), to_uint8(again)), abs=1e-3)
    assert renewed["distance"] != kept["distance"]


def test_rows_of_one_network_are_found(tmp_path):
    (tmp_path / "w.pt").write_bytes(b"w")
    ours = sha256(tmp_path / "w.pt")[:8]
    rows = [(ours, 9, "float32", False), ("00000000", 5, "bf16", False), (ours, 3, "float32", False)]
    rows += [(ours, 3, "bf16", False), (ours, 4, "bf16", True)]
    table = pd.DataFrame(rows, columns=["weights", "steps", "precision", "use_clipped_model_output"])
    table.to_csv(tmp_path / "steps.csv", index=False)
    measured = sweep.measured(tmp_path / "steps.csv", tmp_path / "w.pt")
    assert measured["steps"].tolist() == [3, 4, 9] and measured["precision"].tolist() == ["bf16", "bf16", "float32"]
    (tmp_path / "w.pt").write_bytes(b"other")
    with pytest.raises(UserError, match="no row of"):
        sweep.measured(tmp_path / "steps.csv", tmp_path / "w.pt")


def test_real_faces_need_others_to_be_compared_with(tmp_path, capsys):
    command = [str(tmp_path / "w.pt"), "--real", "none", "--out", str(tmp_path / "s.csv")]
    assert sweep.main(command) == 2
    assert "--real" in capsys.readouterr().err


@pytest.mark.parametrize("steps", ["0", "1000"])
def test_impossible_steps_are_reported(tmp_path, capsys, steps):
    assert (
        sweep.main([str(tmp_path / "w.pt"), "--data", "none", "--out", str(tmp_path / "s.csv"), "--steps", steps]) == 2
    )
    assert "--steps" in capsys.readouterr().err
