import pytest
import torch
from PIL import Image

from common.checkpoint import save_weights, sha256
from p2_ddim import figures, noise, sampling
from p2_ddim.sampling import sample_faces
from p2_ddim.unet import FaceUNet, FaceUNetConfig


def test_distance_is_in_grey_levels():
    a = torch.full((1, 3, 2, 2), 10, dtype=torch.uint8)
    assert sampling.rmse(a, a + 3) == pytest.approx(3)


def test_every_figure_is_drawn(tmp_path, monkeypatch):
    monkeypatch.setattr(figures, "STEPS", (1, 2))
    monkeypatch.setattr(figures, "MOST_STEPS", 3)
    monkeypatch.setattr(
        figures, "sample_faces", lambda *a, num_steps=2, **k: sample_faces(*a, num_steps=num_steps, **k)
    )
    config = FaceUNetConfig(widths=(32, 32), attention_levels=(), time_channels=16, embedding=16)
    torch.manual_seed(0)
    save_weights(tmp_path / "w.pt", FaceUNet(config), config)
    assert noise.main([str(tmp_path / "noise"), "--count", "4"]) == 0
    digest = sha256(tmp_path / "w.pt")[:8]
    (tmp_path / "steps.csv").write_text(
        f"weights,precision,use_clipped_model_output,steps,distance,fid768\n"
        f"{digest},bf16,False,1,9,0.5\n{digest},bf16,False,2,3,0.4\n"
    )
    arguments = [str(tmp_path / "w.pt"), "--out", str(tmp_path / "figures")]
    for source in (["--noise-dir", str(tmp_path / "noise")], ["--sweep", str(tmp_path / "steps.csv")]):
        assert figures.main([*arguments, *source]) == 0
    (tmp_path / "figures" / "p2_eta.png").unlink()
    assert figures.main([*arguments, "--only", "eta"]) == 0
    names = sorted(path.name for path in (tmp_path / "figures").iterdir())
    assert names == ["p2_eta.png", "p2_grid.png", "p2_interpolation.png", "p2_inversion.png", "p2_steps.png"]
    assert all(min(Image.open(tmp_path / "figures" / name).size) > 300 for name in names)


def test_too_few_noises_are_reported(tmp_path, capsys):
    config = FaceUNetConfig(widths=(32,), attention_levels=(), time_channels=16, embedding=16)
    save_weights(tmp_path / "w.pt", FaceUNet(config), config)
    assert figures.main([str(tmp_path / "w.pt"), "--noise-dir", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "noise files" in capsys.readouterr().err
