import numpy as np
import pandas as pd
import pytest
import torch

from common.checkpoint import save_weights, sha256
from common.figures import sources_of
from p2_ddim import figures, interpolate, noise, sampling
from p2_ddim.sampling import invert_faces, sample_faces
from p2_ddim.unet import FaceUNet, FaceUNetConfig


def test_distance_is_in_grey_levels():
    a = torch.full((1, 3, 2, 2), 10, dtype=torch.uint8)
    assert sampling.rmse(a, a + 3) == pytest.approx(3)


def test_every_figure_is_drawn(tmp_path, monkeypatch):
    monkeypatch.setattr(figures, "STEPS", (1, 2))
    monkeypatch.setattr(figures, "MOST_STEPS", 3)
    monkeypatch.setattr(figures, "EDIT_STEPS", 2)
    faces = lambda *given, num_steps=2, **how: sample_faces(*given, num_steps=num_steps, **how)
    for module in (figures, interpolate):
        monkeypatch.setattr(module, "sample_faces", faces)
    monkeypatch.setattr(figures, "invert_faces", lambda *given, num_steps=2: invert_faces(*given, num_steps=num_steps))
    config = FaceUNetConfig(widths=(32, 32), attention_levels=(), time_channels=16, embedding=16)
    torch.manual_seed(0)
    save_weights(tmp_path / "w.pt", FaceUNet(config), config)
    assert noise.main([str(tmp_path / "noise"), "--count", "4"]) == 0
    digest = sha256(tmp_path / "w.pt")[:8]
    (tmp_path / "steps.csv").write_text(
        f"weights,precision,use_clipped_model_output,steps,distance,fid768,inversion\n"
        f"{digest},bf16,False,1,9,0.5,7\n{digest},bf16,False,2,3,0.4,6\n"
    )
    np.savez(tmp_path / "faces.npz", images=np.random.RandomState(0).randint(0, 256, (3, 32, 32, 3), dtype=np.uint8))
    arguments = [str(tmp_path / "w.pt"), "--out", str(tmp_path / "figures")]
    measured = ["--sweep", str(tmp_path / "steps.csv"), "--faces", str(tmp_path / "faces.npz")]
    for source in (["--noise-dir", str(tmp_path / "noise")], measured):
        assert figures.main([*arguments, *source]) == 0
    (tmp_path / "figures" / "p2_eta.png").unlink()
    assert figures.main([*arguments, "--only", "eta"]) == 0
    names = sorted(path.name for path in (tmp_path / "figures").iterdir())
    drawn = ["p2_edit.png", "p2_eta.png", "p2_grid.png", "p2_interpolation.svg", "p2_inversion.png", "p2_steps.svg"]
    assert names == drawn
    for name in ("p2_steps.svg", "p2_inversion.png"):
        assert {*sources_of(tmp_path / "figures" / name)} == {"w.pt", "steps.csv"}
    words = (tmp_path / "figures" / "p2_steps.svg").read_text()
    assert "noise kept" in words and "noise computed anew" not in words  # as the sweep has it


def test_an_edit_goes_from_one_face_to_the_other(monkeypatch):
    """A network that predicts no noise is inverted exactly but for the clipping of x_0."""
    shown = []
    monkeypatch.setattr(figures, "show_pictures", lambda axis, images, columns, **names: shown.append(images))
    pair = torch.stack([torch.full((3, 32, 32), level, dtype=torch.uint8) for level in (60, 200)])
    figure = figures.draw_edit(lambda x, t: torch.zeros_like(x), pair)
    by_noise, by_pixel = shown[0].float().mean(dim=(1, 2, 3)).unflatten(0, (2, figures.EDIT_POINTS))
    assert by_pixel.tolist() == pytest.approx(torch.linspace(60, 200, 9).tolist(), abs=1)
    assert by_noise[[0, -1]].tolist() == pytest.approx([60, 200], abs=1) and len(shown[0]) == 18
    assert "faces: 0.0 grey levels" in figure.axes[0].get_xlabel()


@pytest.mark.parametrize(
    "given, words",
    [("--only edit", "edit: give --faces"), ("--only grid --noise-dir N", "grid: its noises are from seeds")],
)
def test_a_figure_that_cannot_be_drawn_is_refused(tmp_path, capsys, given, words):
    assert figures.main([str(tmp_path / "w.pt"), *given.split(), "--out", str(tmp_path / "out")]) == 2
    assert words in capsys.readouterr().err


def test_edited_faces_are_as_large_as_the_noises(tmp_path, monkeypatch):
    config, sizes = FaceUNetConfig(widths=(32,), attention_levels=(), time_channels=16, embedding=16), []
    save_weights(tmp_path / "w.pt", FaceUNet(config), config)
    assert noise.main([str(tmp_path / "noise"), "--count", "4", "--size", "64"]) == 0
    np.savez(tmp_path / "faces.npz", images=np.zeros((2, 96, 96, 3), dtype=np.uint8))
    monkeypatch.setattr(figures, "draw_edit", lambda denoise, pair: sizes.append(pair.shape) or pair[0])
    given = ["--noise-dir", str(tmp_path / "noise"), "--faces", str(tmp_path / "faces.npz"), "--only", "edit"]
    assert figures.main([str(tmp_path / "w.pt"), *given, "--out", str(tmp_path / "out")]) == 0
    assert sizes == [(2, 3, 64, 64)]


def test_the_inversion_names_the_sweep_only_where_it_shows_it(tmp_path, monkeypatch):
    config = FaceUNetConfig(widths=(32,), attention_levels=(), time_channels=16, embedding=16)
    save_weights(tmp_path / "w.pt", FaceUNet(config), config)
    monkeypatch.setattr(figures, "draw_inversion", lambda denoise, x_T, sweep: torch.zeros(3, 8, 8, dtype=torch.uint8))
    row = f"{sha256(tmp_path / 'w.pt')[:8]},bf16,False,1,9"
    (tmp_path / "steps.csv").write_text(f"weights,precision,use_clipped_model_output,steps,distance\n{row}\n")
    given = ["--sweep", str(tmp_path / "steps.csv"), "--only", "inversion", "--out", str(tmp_path / "out")]
    assert figures.main([str(tmp_path / "w.pt"), *given]) == 0
    assert {*sources_of(tmp_path / "out" / "p2_inversion.png")} == {"w.pt"}


def test_the_steps_have_a_line_for_each_convention(tmp_path):
    rows = [
        {"steps": n, "distance": n, "fid768": n, "use_clipped_model_output": b} for n in (1, 2) for b in (True, False)
    ]
    config = FaceUNetConfig(widths=(32,), attention_levels=(), time_channels=16, embedding=16)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "sample_faces", lambda denoise, x_T, **options: x_T)
        figure = figures.draw_steps(FaceUNet(config), torch.randn(2, 3, 32, 32), pd.DataFrame(rows))
    labels = [line.get_label() for line in figure.axes[1].lines]
    assert labels[:2] == ["noise kept (course)", "noise computed anew"]


def test_a_command_draws_rows_of_both_ways_between_two_noises(tmp_path, monkeypatch, capsys):
    config = FaceUNetConfig(widths=(32,), attention_levels=(), time_channels=16, embedding=16)
    save_weights(tmp_path / "w.pt", FaceUNet(config), config)
    seen = []
    monkeypatch.setattr(interpolate, "sample_faces", lambda denoise, z: seen.append(z) or z)
    assert interpolate.main([str(tmp_path / "w.pt"), str(tmp_path / "i.svg"), "--points", "3"]) == 0
    z_0, z_1 = noise.seeded_noises(2, 32).split(1)
    assert [len(z) for z in seen] == [3, 3] and torch.allclose(seen[1][1:2], (z_0 + z_1) / 2)
    assert torch.allclose(seen[0][1:2], sampling.slerp(z_0, z_1, 0.5)) and "wrote" in capsys.readouterr().err


def test_too_few_noises_are_reported(tmp_path, capsys):
    config = FaceUNetConfig(widths=(32,), attention_levels=(), time_channels=16, embedding=16)
    save_weights(tmp_path / "w.pt", FaceUNet(config), config)
    assert figures.main([str(tmp_path / "w.pt"), "--noise-dir", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "noise files" in capsys.readouterr().err
