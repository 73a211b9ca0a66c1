import numpy as np
import pytest
import torch
from PIL import Image

from common.diffusion import NoiseSchedule
from common.images import read_pictures, to_unit_range
from common.layers import doubled
from p2_ddim import sampling, train
from p2_ddim.unet import FaceUNetConfig, load_face_unet
from tests.helpers import FAST, THIN, assert_average_saved

SMALL = [
    "--widths",
    "32",
    "64",
    "--attention-levels",
    "1",
    "--size",
    "32",
    "--batch-size",
    "4",
    "--steps",
    "2",
    "--time-channels",
    "32",
]


@pytest.fixture
def faces(tmp_path):
    """A folder with faces.npz, six pictures."""
    np.savez(tmp_path / "faces.npz", images=np.random.RandomState(0).randint(0, 256, (6, 20, 24, 3), dtype=np.uint8))
    return tmp_path


def test_the_true_noise_has_no_loss_and_a_fresh_network_that_of_the_weights():
    schedule = NoiseSchedule.linear()
    x_0 = torch.randn(256, 3, 8, 8, generator=torch.Generator().manual_seed(0))

    def perfect(x_t, t):
        signal, sigma = schedule.signal_and_noise(t, x_t)
        return (x_t - signal * x_0) / sigma

    assert train.eps_loss(perfect, schedule, x_0) < 1e-6
    fresh = train.start_as_identity(train.FaceUNet(THIN))
    snr = schedule.alphas_cumprod / (1 - schedule.alphas_cumprod)
    weights = torch.clamp(5 / snr, max=1)
    assert weights[0] < 1e-3 and weights[-1] == 1
    assert train.eps_loss(fresh, schedule, torch.randn(64, 3, 32, 32)).item() == pytest.approx(
        weights.mean().item(), abs=0.01
    )
    assert train.eps_loss(fresh, schedule, torch.randn(64, 3, 32, 32), loss="noise").item() == pytest.approx(
        1, abs=0.02
    )


def test_trained_weights_are_an_averaged_face_network_that_samples(faces):
    assert train.main(["--data", str(faces / "faces.npz"), "--run-dir", str(faces / "run"), *SMALL, *FAST]) == 0
    assert_average_saved(faces / "run")
    assert Image.open(faces / "run" / "preview_0000002.png").size == (138, 138)
    model = load_face_unet(faces / "run" / "weights.pt")
    assert model.config.widths == (32, 64) and model.config.attention_levels == (1,)
    assert torch.equal(model.time[0].inv_freq, train.FaceUNet(model.config).time[0].inv_freq)  # not rounded to float16
    with torch.inference_mode():
        assert sampling.sample_faces(model, torch.randn(1, 3, 32, 32), num_steps=2).isfinite().all()


def test_faces_are_mirrored_left_to_right_at_times(faces, monkeypatch):
    picture = np.arange(32 * 32 * 3, dtype=np.uint32).reshape(32, 32, 3) // 13
    np.savez(faces / "same.npz", images=np.stack([picture.astype(np.uint8)] * 4))
    seen, eps_loss = [], train.eps_loss
    monkeypatch.setattr(train, "eps_loss", lambda network, s, x_0, loss: seen.extend(x_0) or eps_loss(network, s, x_0))
    assert train.main(["--data", str(faces / "same.npz"), "--run-dir", str(faces / "run"), *SMALL]) == 0
    plain = to_unit_range(read_pictures(faces / "same.npz"))[0]
    kinds = [(torch.equal(x_0, plain), torch.equal(x_0, plain.flip(2))) for x_0 in seen]
    assert {*kinds} == {(True, False), (False, True)}


def test_the_loss_is_the_one_asked_for(faces, monkeypatch):
    asked, eps_loss = [], train.eps_loss
    monkeypatch.setattr(train, "eps_loss", lambda *args, loss: asked.append(loss) or eps_loss(*args, loss=loss))
    options = ["--data", str(faces / "faces.npz"), "--run-dir", str(faces / "run"), *SMALL, "--loss", "noise"]
    assert train.main(options) == 0 and {*asked} == {"noise"}


@pytest.mark.parametrize(
    "option, value, words",
    [("--size", "48", "multiple of 32"), ("--widths", "40", "multiples of 32"), ("--data", "no.npz", "no such")],
)
def test_bad_options_are_one_line(faces, capsys, option, value, words):
    command = ["--data", str(faces / "faces.npz"), "--run-dir", str(faces / "run"), *SMALL, option, value]
    assert train.main(command) == 2
    assert words in capsys.readouterr().err and not (faces / "run").exists()


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_a_network_grows_by_a_finer_level_around_the_trained_ones():
    small = train.FaceUNet(FaceUNetConfig(widths=(32, 64), attention_levels=(1,), time_channels=32, embedding=64))
    config = FaceUNetConfig(widths=(32, 32, 64), attention_levels=(2,), time_channels=32, embedding=64)
    large = train.start_as_identity(train.FaceUNet(config))
    train.start_from(large, small)
    assert all(same(a, b) for a, b in zip(small.path("down")[1:], large.path("down")[4:], strict=True))
    assert all(same(a, b) for a, b in zip(small.path("up"), large.path("up")[: len(small.path("up"))], strict=True))
    assert all(same(a, b) for a, b in zip(small.path("mid"), large.path("mid"), strict=True))
    assert all(
        same(a, b)
        for a, b in ((small.time, large.time), (small.out, large.out), (small.path("down")[0], large.path("down")[0]))
    )
    x, time = torch.randn(1, 32, 8, 8), torch.randn(1, 64)
    first, second, halving = large.path("down")[1:4]
    assert torch.allclose(second(first(x, time), time), x)  # zeroed by start_as_identity
    assert torch.allclose(halving(doubled(x)), x, atol=1e-6)
    doubling, *blocks = large.path("up")[-4:]
    assert torch.allclose(doubling(x), doubled(x))
    for block in blocks:
        assert torch.allclose(block(torch.cat([x, torch.randn_like(x)], dim=1), time), x)
    again = train.FaceUNet(small.config)
    train.start_from(again, small)
    assert same(small, again)
    with pytest.raises(ValueError, match="has no place in a network of widths"):
        train.start_from(small, large)


def test_training_starts_from_weights_and_never_sees_the_held_out_pictures(faces, capsys):
    command = ["--data", str(faces / "faces.npz"), *SMALL, "--learning-rate", "0"]
    assert train.main([*command, "--run-dir", str(faces / "first"), "--seed", "1"]) == 0
    init = ["--init", str(faces / "first" / "weights.pt")]
    assert train.main([*command, "--run-dir", str(faces / "second"), *init]) == 0
    assert same(load_face_unet(faces / "first" / "weights.pt"), load_face_unet(faces / "second" / "weights.pt"))
    assert train.main([*command, "--run-dir", str(faces / "third"), *init, "--widths", "64", "64"]) == 2
    assert "one finest level more" in capsys.readouterr().err and not (faces / "third").exists()

    images = np.load(faces / "faces.npz")["images"]
    learning = [*SMALL, "--held-out", "2", "--data"]
    for name, kept in (("kept", images), ("changed", np.concatenate([images[:4], images[:2]]))):
        np.savez(faces / f"{name}.npz", images=kept)
        assert train.main([*learning, str(faces / f"{name}.npz"), "--run-dir", str(faces / name)]) == 0
    assert same(load_face_unet(faces / "kept" / "weights.pt"), load_face_unet(faces / "changed" / "weights.pt"))
    assert train.main([*learning, str(faces / "kept.npz"), "--run-dir", str(faces / "none"), "--held-out", "6"]) == 2
    assert "leave some to train on" in capsys.readouterr().err
