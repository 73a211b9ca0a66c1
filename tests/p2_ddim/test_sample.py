import re
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from common.checkpoint import save_weights
from common.cli import UserError
from common.device import has_bf16
from common.diffusion import NoiseSchedule
from common.rng import per_sample_noise
from p2_ddim import evaluate, noise, sample, sampling
from p2_ddim.noise import seeded_noises
from p2_ddim.unet import FaceUNet
from p2_ddim.winograd import WinogradResidualBlock
from tests.helpers import THIN, assert_one_line_error, assert_refused, filled


@pytest.fixture(scope="module")
def model():
    model = FaceUNet(THIN)
    model.load_state_dict(filled({k: tuple(v.shape) for k, v in model.state_dict().items()}))
    return model.eval().requires_grad_(False)


@pytest.fixture
def inputs(tmp_path, model):
    save_weights(tmp_path / "thin.pt", model, THIN)
    (tmp_path / "noise").mkdir()
    for name in ("00.PT", "my noise.pt", "x.y.pt"):
        torch.save(
            torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(len(name))), tmp_path / "noise" / name
        )
    return tmp_path


def test_pictures_use_one_range_over_all_channels():
    x = (
        torch.tensor([-2.0, 0.0, 1.0, 3.0]).reshape(1, 1, 4).repeat(3, 1, 1)
        - torch.tensor([0.0, 0.0, 1.0])[:, None, None]
    )
    low, high = -3.0, 3.0
    assert torch.equal(sampling.to_picture(x), ((x - low) / (high - low) * 255 + 0.5).to(torch.uint8))
    assert torch.equal(sampling.to_picture(x / 8), sampling.to_picture(x))
    assert sampling.to_picture(torch.ones(3, 2, 2)).max() == 0  # a constant image is no division by zero


@pytest.mark.parametrize("device, on_cpu", [("cpu", True), ("meta", False)])
def test_a_cpu_gets_winograd_and_its_own_memory_format(device, on_cpu):
    prepared = sampling.for_inference(FaceUNet(THIN), torch.device(device))
    block = prepared.path("down")[1].resblocks
    assert isinstance(block, WinogradResidualBlock) == on_cpu and block.conv1.weight.device.type == device
    assert block.conv1.weight.is_contiguous(memory_format=torch.channels_last) == on_cpu
    assert {p.dtype for p in prepared.parameters()} == {torch.float32}


def test_all_but_the_timesteps_is_in_bf16_where_asked_for(monkeypatch):
    monkeypatch.setattr("common.device.has_bf16", lambda device: True)
    prepared = sampling.for_inference(FaceUNet(THIN), torch.device("cpu"), "bf16")
    assert all((p.dtype == torch.float32) == name.startswith("time.") for name, p in prepared.named_parameters())


def test_script_names_its_output_after_the_noises(script, inputs):
    result = script("hw2_2.sh", "noise", "new folder/out", "thin.pt", "--num-steps", "2", "--device", "cpu")
    assert result.returncode == 0, result.stderr
    assert 0.05 < float(re.search(r"peak memory (\S+) GB", result.stderr)[1]) < 6
    out = inputs / "new folder" / "out"
    assert sorted(path.name for path in out.iterdir()) == ["00.png", "my noise.png", "x.y.png"]
    assert Image.open(out / "00.png").size == (32, 32)


def test_pictures_do_not_depend_on_the_chunks(inputs, model):
    noises = {p.stem: noise.read_noise(p) for p in sorted((inputs / "noise").iterdir())}
    noises["larger"] = torch.randn(1, 3, 64, 32)
    pictures = []
    for size in (1, 3):
        out = inputs / str(size)
        sample.sample_to_files(model, noises, out, chunk_size=size, eta=1.0, seed=0, num_steps=2)
        pictures.append({path.name: np.asarray(Image.open(path)).astype(int) for path in out.iterdir()})
    assert pictures[0].keys() == pictures[1].keys() == {f"{name}.png" for name in noises}
    assert max(np.abs(pictures[0][name] - pictures[1][name]).max() for name in pictures[0]) <= 1


def test_eta_draws_each_images_noise_from_its_seed(model):
    x_T = torch.randn(2, 3, 32, 32)
    run = lambda x, seeds, eta: sampling.sample_faces(model, x, num_steps=2, eta=eta, seeds=seeds)
    with torch.inference_mode():
        assert torch.allclose(run(x_T, [5, 6], 1.0)[1:], run(x_T[1:], [6], 1.0), atol=1e-4)
        assert not torch.allclose(run(x_T, [5, 6], 1.0), run(x_T, [7, 8], 1.0), atol=0.01)
        assert torch.equal(run(x_T, [5, 6], 0.0), run(x_T, [7, 8], 0.0))


def test_the_clipped_estimate_rules_unless_asked_otherwise_and_every_step_is_told():
    x_T, told = 3 * torch.randn(2, 3, 4, 4), []
    run = lambda **how: sampling.sample_faces(lambda x, t: torch.tanh(x), x_T, num_steps=3, **how)
    default = run(on_step=told.append)
    assert torch.equal(default, run(use_clipped_model_output=True)) and told == [2, 2, 2]
    assert not torch.allclose(default, run(use_clipped_model_output=False))


def gaussian(x_t, t):
    """The exact denoiser of x_0 ~ N(0, 0.25 ** 2)."""
    signal, sigma = NoiseSchedule.linear().signal_and_noise(t, x_t)
    return sigma * x_t / (0.25**2 * signal**2 + sigma**2)


def test_inversion_comes_back():
    x_0 = 0.25 * torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    errors = []
    for steps in (25, 100):
        noise = sampling.invert_faces(gaussian, x_0, num_steps=steps)
        errors.append((sampling.sample_faces(gaussian, noise, num_steps=steps) - x_0).abs().max().item())
    assert noise.std() == pytest.approx(1.0, abs=0.05)
    assert errors[1] < 0.5 * errors[0]


def test_inversion_calls_the_network_where_sampling_does_but_for_the_noisiest():
    called = []
    sampling.invert_faces(lambda x, t: called.append(t.item()) or x, torch.zeros(1, 3, 4, 4), num_steps=4)
    assert called == [1, 251, 501]


def test_bf16_is_asked_for_and_near(inputs, model):
    save_weights(inputs / "thin.pt", model, THIN)
    (inputs / "one").mkdir()
    torch.save(torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)), inputs / "one" / "00.pt")
    pictures, common = {}, ["--num-steps", "2", "--device", "cpu"]
    for name, how in (("default", []), ("float32", ["--precision", "float32"]), ("bf16", ["--precision", "bf16"])):
        assert sample.main([str(inputs / "one"), str(inputs / name), str(inputs / "thin.pt"), *common, *how]) == 0
        pictures[name] = np.asarray(Image.open(inputs / name / "00.png")).astype(int)
    assert np.array_equal(pictures["default"], pictures["float32"])
    assert np.square(pictures["bf16"] - pictures["float32"]).mean() < 4
    assert has_bf16(torch.device("cpu")) != np.array_equal(pictures["bf16"], pictures["float32"])


class Scarce:
    """A network that runs out of memory beyond `largest` images."""

    def __init__(self, model, largest):
        self.model, self.largest, self.sizes = model, largest, []
        self.parameters = model.parameters

    def __call__(self, x, t):
        self.sizes.append(len(x))
        if len(x) > self.largest:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return self.model(x, t)


def test_noise_of_the_steps_is_not_the_starting_noise_again():
    steps = per_sample_noise(sampling.step_noise_seeds(2, seed=3))(torch.empty(2, 3, 32, 32))
    assert (steps * seeded_noises(2, 32, seed=3)).mean().abs() < 0.1
    default, first, second = (sampling.step_noise_seeds(2, **seed) for seed in ({}, {"seed": 0}, {"seed": 1}))
    assert default == first != second


def test_chunks_halve_when_memory_runs_out(inputs, model):
    noises = {f"{i}": torch.randn(1, 3, 32, 32) for i in range(5)}
    scarce = Scarce(model, 2)
    sample.sample_to_files(scarce, noises, inputs / "out", chunk_size=5, eta=0.0, seed=0, num_steps=1)
    assert scarce.sizes == [5, 2, 2, 1] and len(list((inputs / "out").iterdir())) == 5
    with pytest.raises(UserError, match="one image at a time"):
        sample.sample_to_files(Scarce(model, 0), noises, inputs / "none", chunk_size=4, eta=0.0, seed=0, num_steps=1)


BAD_NOISES = {
    "not a tensor": [1, 2],
    "integers": torch.zeros(1, 3, 32, 32, dtype=torch.int64),
    "odd size": torch.zeros(1, 3, 33, 32),
    "two images": torch.zeros(2, 3, 32, 32),
    "grey": torch.zeros(1, 1, 32, 32),
    "empty": torch.zeros(1, 3, 0, 32),
    "no content": torch.zeros(1, 3, 32, 32, device="meta"),
    "not finite": torch.full((1, 3, 32, 32), float("nan")),
}


@pytest.mark.parametrize("content", BAD_NOISES.values(), ids=BAD_NOISES.keys())
def test_a_bad_noise_is_named(tmp_path, content):
    torch.save(content, tmp_path / "07.pt")
    with pytest.raises(UserError, match=r"07\.pt: "):
        noise.read_noise(tmp_path / "07.pt")


def test_bad_input_is_one_line_and_writes_nothing(script, inputs, monkeypatch, capsys):
    monkeypatch.chdir(inputs)
    assert_one_line_error(script("hw2_2.sh", "nowhere", "out", "thin.pt"), "nowhere: no such folder")
    assert_refused(sample.main, ["noise", "out", "nothing.pt"], capsys, "nothing.pt: no such file")
    (inputs / "noise" / "01.pt").write_bytes(b"half")
    assert_refused(sample.main, ["noise", "other", "thin.pt"], capsys, "01.pt: text, not a PyTorch file (half)")
    assert not (inputs / "other").exists()
    shutil.copy(inputs / "noise" / "00.PT", inputs / "noise" / "00.pt")
    (inputs / "noise" / "01.pt").unlink()
    assert_refused(sample.main, ["noise", "other", "thin.pt"], capsys, "noise: noises whose names differ in")


def test_evaluate_prints_the_mean_square(tmp_path, capsys):
    for folder, value in (("a", 10), ("b", 13)):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (4, 4), (value, 10, 10)).save(tmp_path / folder / "00.png")
    assert evaluate.main([str(tmp_path / "a"), str(tmp_path / "b")]) == 0
    assert capsys.readouterr().out == "00.png MSE 3.0000\nmean MSE 3.0000\n"
    Image.new("RGB", (5, 4)).save(tmp_path / "b" / "00.png")
    assert evaluate.main([str(tmp_path / "a"), str(tmp_path / "b")]) == 2


def test_an_image_that_is_not_finite_is_named_and_not_written(model, inputs):
    def broken(x, t):
        eps = torch.zeros_like(x)
        eps[-1] = torch.nan
        return eps

    broken.parameters = model.parameters
    noises = dict.fromkeys("abc", torch.randn(1, 3, 32, 32))
    with pytest.raises(UserError, match=r"c\.pt: its image is not finite at t = 501"):
        sample.sample_to_files(broken, noises, inputs / "out", chunk_size=3, num_steps=2)
    assert not (inputs / "out").exists()


def test_a_sparse_noise_and_a_long_name_work(inputs, script):
    shutil.rmtree(inputs / "noise")
    (inputs / "noise").mkdir()
    name = "a" * 245
    torch.save(torch.randn(1, 3, 32, 32).to_sparse(), inputs / "noise" / f"{name}.pt")
    result = script("hw2_2.sh", "noise", "out", "thin.pt", "--num-steps", "1")
    assert result.returncode == 0, result.stderr
    assert [path.stem for path in (inputs / "out").iterdir()] == [name]
