import time
from concurrent.futures import CancelledError
from threading import Event

import numpy as np
import pytest
import torch
from PIL import Image

from common.checkpoint import load_weights, save_weights
from common.cli import UserError
from common.diffusion import NoiseSchedule, ddim, dpm_solver_pp_2m, run, trailing_timesteps
from common.images import write_png
from common.rng import per_sample_noise
from p1_cond_ddpm import sample, sampling, train
from p1_cond_ddpm.guidance import guided
from p1_cond_ddpm.unet import UNet
from tests.helpers import (
    FAST,
    SMALL,
    TINY_DENOISER,
    assert_average_saved,
    assert_one_line_error,
    assert_refused,
    randomised,
)


@pytest.fixture
def weights(tmp_path):
    save_weights(tmp_path / "weights.pt", randomised(UNet(SMALL)), SMALL)
    return tmp_path / "weights.pt"


def images(folder):
    return {path.name: np.asarray(Image.open(path)).astype(int) for path in sorted(folder.glob("[0-9]*.png"))}


@pytest.mark.parametrize("sampler", sampling.SAMPLERS)
def test_images_do_not_depend_on_the_batch(tmp_path, weights, sampler):
    fixed = ["--weights", str(weights), "--sampler", sampler, "--num-steps", "4", "--per-digit", "3"]
    folders = [tmp_path / "a b", tmp_path / "b", tmp_path / "c"]
    for folder, size in zip(folders, ("100", "100", "7")):
        assert sample.main([str(folder), *fixed, "--batch-size", size]) == 0
    first, again, other = map(images, folders)
    assert list(first) == [f"{d}_{n:03d}.png" for d in range(10) for n in (1, 2, 3)]
    assert all(image.shape == (28, 28, 3) for image in first.values())
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert max(np.abs(first[name] - other[name]).max() for name in first) <= 1


def test_two_threads_write_the_bytes_of_one(tmp_path, weights):
    for threads in (1, 2):
        torch.set_num_threads(threads)
        command = [str(tmp_path / str(threads)), "--weights", str(weights), "--num-steps", "3", "--per-digit", "2"]
        assert sample.main([*command, "--batch-size", "3"]) == 0
    one, two = (images(tmp_path / str(threads)) for threads in (1, 2))
    assert len(one) == 20 and all(np.array_equal(one[name], two[name]) for name in one)


def test_a_batch_at_work_ends_with_its_next_step_once_the_caller_stops(monkeypatch):
    begun, ended = Event(), Event()

    def sample_digits(model, labels, seeds, options, on_step):
        if labels == [0]:
            assert begun.wait(timeout=20)
            return torch.zeros(1, 3, 28, 28, dtype=torch.uint8)
        begun.set()
        deadline = time.monotonic() + 20
        try:
            while time.monotonic() < deadline:
                on_step(1)
        except CancelledError:
            ended.set()
            raise

    monkeypatch.setattr(sampling, "sample_digits", sample_digits)
    torch.set_num_threads(2)
    specs = [sampling.ImageSpec("first", 0, 0), sampling.ImageSpec("long", 1, 0)]
    found = sampling.sample_images(UNet(SMALL), sampling.GRADED, specs, batch_size=1)
    assert next(found)[0].name == "first" and not ended.is_set()
    found.close()
    assert ended.is_set()


@pytest.mark.parametrize("sampler", sampling.SAMPLERS)
@torch.inference_mode()
def test_a_sampler_is_what_its_name_says_with_guidance_in_its_interval(sampler):
    model, labels, x_T = randomised(UNet(SMALL)), torch.tensor([3, 5]), 3 * torch.randn(2, 3, 28, 28)
    model.guide = randomised(UNet(SMALL))
    steps, guidance = {"num_steps": 5, "spacing": 1.0}, {"guidance_interval": (300, 700), "guidance_scale": 2.0}
    by_guide = {"autoguidance": 3.0, "autoguidance_interval": (500, 900), "guidance_chroma": 0.5}
    by_guide["guidance_every"] = 2
    options = sampling.SampleOptions(sampler=sampler, **steps, detail_steps=1, **guidance, **by_guide)
    found = run(sampling.sampler_steps(model, labels, x_T, per_sample_noise([1, 2]), options)).x
    how = {"guide": model.guide, "guide_scale": 3.0, "guide_interval": (500, 900), "chroma": 0.5, "every": 2}
    denoise = guided(model, labels, scale=2.0, null_label=10, interval=(300, 700), **how)
    common = {"prediction": "v", "clip_x_0": True, "randn_like": per_sample_noise([1, 2])}
    given = (denoise, x_T, NoiseSchedule.cosine(), [999, 799, 599, 399, 199, 99])
    eta = {"dpm": 0.0, "ddim": 0.0, "sde": 1.0, "ddpm": 1.0, "mixed": 1.0}[sampler]
    if sampler in ("ddpm", "ddim"):
        expected = ddim(*given, eta=eta, use_clipped_model_output=True, **common)
    else:
        below = 500 if sampler == "mixed" else None
        expected = dpm_solver_pp_2m(*given, eta=eta, second_order_below=below, **common)
    assert torch.equal(found, run(expected).x)


def test_contrast_spreads_values_about_the_middle():
    model, options = randomised(UNet(SMALL)), {"num_steps": 2, "precision": "float32"}
    plain, stretched = (
        sampling.sample_digits(model, torch.tensor([3]), [5], sampling.SampleOptions(**options, contrast=s)).float()
        - 127.5
        for s in (1.0, 1.5)
    )
    assert (stretched - (1.5 * plain).clamp(-127.5, 127.5)).abs().max() <= 1.26  # each was rounded by up to a half


def test_another_seed_gives_other_images(tmp_path, weights):
    for seed in ("0", "1"):
        sample.main(
            [str(tmp_path / seed), "--weights", str(weights), "--num-steps", "1", "--per-digit", "1", "--seed", seed]
        )
    a, b = images(tmp_path / "0"), images(tmp_path / "1")
    assert all(not np.array_equal(a[name], b[name]) for name in a)


def test_training_writes_averaged_weights_that_sample_reads(tmp_path, digit_folder):
    run, out = tmp_path / "run", tmp_path / "out"
    command = ["--data", str(digit_folder()), "--run-dir", str(run), "--steps", "2", "--batch-size", "4"]
    assert train.main([*command, *TINY_DENOISER, *FAST]) == 0
    assert_average_saved(run)
    weights = ["--weights", str(run / "weights.pt")]
    assert sample.main([str(out), *weights, "--num-steps", "1", "--per-digit", "1"]) == 0
    assert len(images(out)) == 10


def test_training_hides_labels_and_weights_errors_as_asked(tmp_path, digit_folder, monkeypatch):
    seen, v_loss = [], train.v_loss
    monkeypatch.setattr(train, "v_loss", lambda *given, **hiding: seen.append(hiding) or v_loss(*given, **hiding))
    command = ["--data", str(digit_folder()), "--run-dir", str(tmp_path / "run"), "--steps", "1", *TINY_DENOISER]
    assert train.main([*command, "--batch-size", "4", "--label-dropout", "0.3", "--loss", "noise"]) == 0
    assert seen == [{"label_dropout": 0.3, "null_label": 10, "loss": "noise"}]


def test_training_draws_a_preview_that_does_not_change_the_weights(tmp_path, digit_folder):
    small = [*TINY_DENOISER, "--schedule", "linear", "--num-timesteps", "20"]
    for every in ("1", "2"):
        command = [
            "--data",
            str(digit_folder(every)),
            "--run-dir",
            str(tmp_path / every),
            "--steps",
            "2",
            "--batch-size",
            "4",
        ]
        assert train.main([*command, *small, "--save-every", every]) == 0
    assert sorted(path.name for path in (tmp_path / "1").glob("pre*")) == ["preview_0000001.png", "preview_0000002.png"]
    assert Image.open(tmp_path / "1" / "preview_0000001.png").size == (242, 242)
    first, second = (load_weights(tmp_path / every / "weights.pt") for every in ("1", "2"))
    assert all(torch.equal(value, second.state_dict[name]) for name, value in first.state_dict.items())
    assert first.config["schedule"] == "linear" and first.config["num_timesteps"] == 20


def test_numbered_images_go_on_where_they_stopped(tmp_path, weights, capsys):
    command = [
        str(tmp_path / "out"),
        "--weights",
        str(weights),
        "--num-steps",
        "2",
        "--labels",
        "47",
        "--batch-size",
        "2",
    ]
    assert sample.main([*command, "--count", "5"]) == 0
    whole = images(tmp_path / "out")
    assert list(whole) == [f"{n:05d}.png" for n in range(1, 6)]
    for name in ("00002.png", "00005.png"):
        (tmp_path / "out" / name).unlink()
    Image.new("RGB", (28, 28), "red").save(tmp_path / "out" / "00001.png")
    (tmp_path / "out" / "00003.png").write_bytes(b"")
    assert sample.main([*command, "--count", "5"]) == 0
    assert Image.open(tmp_path / "out" / "00001.png").getpixel((0, 0)) == (255, 0, 0)  # kept
    assert np.abs(images(tmp_path / "out")["00003.png"].astype(int) - whole["00003.png"]).max() <= 1
    again = np.asarray(Image.open(tmp_path / "out" / "00005.png")).astype(int)
    assert np.abs(again - whole["00005.png"]).max() <= 1
    assert sample.main([*command, "--count", "5", "--seed", "1"]) == 2
    assert "other weights or options" in capsys.readouterr().err
    (tmp_path / "out" / ".sampling.json").write_bytes(b"{\xe9")
    assert sample.main([*command, "--count", "5"]) == 2
    assert "other weights or options" in capsys.readouterr().err
    assert sample.main([str(tmp_path / "new"), "--weights", str(weights), "--count", "5", "--labels", "x"]) == 2
    assert "--labels x" in capsys.readouterr().err
    assert sample.main([str(tmp_path / "new"), "--weights", str(weights), "--labels", "3"]) == 2
    assert "--count" in capsys.readouterr().err


def test_a_kept_image_with_a_wrong_checksum_is_drawn_again(tmp_path):
    kept = sampling.numbered(2, [0], 0)
    for one in kept:
        write_png(tmp_path / one.name, torch.zeros(3, 28, 28, dtype=torch.uint8))
    content = bytearray((tmp_path / kept[0].name).read_bytes())
    content[content.index(b"IEND") - 5] ^= 1  # in the checksum of the pixels, which Pillow doesn't look at
    (tmp_path / ".sampling.json").write_text("{}")
    assert sample.missing_images(tmp_path, kept, {}) == []
    (tmp_path / kept[0].name).write_bytes(content)
    assert sample.missing_images(tmp_path, kept, {}) == kept[:1]


def test_labels_are_refused_where_training_had_none(tmp_path, capsys):
    save_weights(tmp_path / "w.pt", randomised(UNet(SMALL)), SMALL, train={"label_dropout": 1.0})
    command = [str(tmp_path / "out"), "--weights", str(tmp_path / "w.pt"), "--num-steps", "1"]
    assert sample.main(command) == 2 and sample.main([*command, "--count", "2", "--labels", "3"]) == 2
    assert "trained without labels" in capsys.readouterr().err and not (tmp_path / "out").exists()
    assert sample.main([*command, "--count", "2", "--labels", "none"]) == 0
    save_weights(tmp_path / "w.pt", randomised(UNet(SMALL)), SMALL, train={"label_dropout": 0.3}, labelled=False)
    assert sample.main(command) == 2
    save_weights(tmp_path / "w.pt", randomised(UNet(SMALL)), SMALL, train={"label_dropout": 0.0}, labelled=False)
    assert sample.main([str(tmp_path / "unlabelled"), *command[1:], "--count", "1", "--labels", "none"]) == 0
    save_weights(tmp_path / "w.pt", randomised(UNet(SMALL)), SMALL, train={"label_dropout": 0.0}, labelled=True)
    capsys.readouterr()
    assert sampling.load_denoiser(tmp_path / "w.pt").config == SMALL
    assert sample.main(command) == 2 and "trained on labels alone" in capsys.readouterr().err
    assert sample.main([*command, "--per-digit", "1", "--guidance-scale", "1"]) == 0


@pytest.mark.parametrize(
    "option, words",
    [
        (["--image-channels", "1"], "give 3"),
        (["--widths", "64", "100"], "multiples of 16"),
        (["--heads", "3"], "multiples of 16"),
        (["--patch-size", "3"], "don't divide"),
        (["--widths", "16", "16", "16", "16"], "don't divide by 16"),
        (["--learning-rate", "nan"], "give a number"),
    ],
)
def test_networks_that_digits_do_not_fit_are_refused(tmp_path, digit_folder, capsys, option, words):
    assert train.main(["--data", str(digit_folder()), "--run-dir", str(tmp_path / "run"), *option]) == 2
    assert words in capsys.readouterr().err and not (tmp_path / "run").exists()


def test_a_run_goes_on_with_its_own_data_alone(tmp_path, capsys):
    small = [*TINY_DENOISER, "--steps", "1", "--batch-size", "2"]
    small += ["--num-timesteps", "5"]  # fewer than the preview's steps
    for fill, code in ((0, 0), (0, 0), (9, 2)):
        np.savez(tmp_path / "set.npz", images=np.full((6, 28, 28), fill, dtype=np.uint8))
        assert train.main(["--data", str(tmp_path / "set.npz"), "--run-dir", str(tmp_path / "run"), *small]) == code
    assert "other options" in capsys.readouterr().err
    assert load_weights(tmp_path / "run" / "weights.pt").metadata["labelled"] is False


def test_labels_choose_the_digits():
    wanted = sampling.numbered(5, sample.parse_labels("314"), seed=0)
    assert [one.label for one in wanted] == [3, 1, 4, 3, 1] and wanted[4].name == "00005.png"
    assert [one.label for one in sampling.numbered(2, sample.parse_labels("none"), seed=0)] == [SMALL.num_classes] * 2


@pytest.mark.parametrize("images", [sampling.digits_by_number, lambda n, seed: sampling.numbered(n, [1, 2], seed)])
def test_every_image_of_every_seed_has_its_own_noise(images):
    seeds = [one.seed for seed in (0, 1) for one in images(3, seed)]
    assert len({*seeds}) == len(seeds) and images(3, 0) == images(3, 0)


def test_images_come_in_order_and_a_bar_counts_their_steps(capsys):
    images, options = (
        sampling.digits_by_number(1, seed=0),
        sampling.SampleOptions("dpm", 2, detail_steps=0, precision="float32"),
    )
    found = list(sampling.sample_images(randomised(UNet(SMALL)), options, images, batch_size=4))
    assert [one.name for one, _ in found] == [f"{digit}_001.png" for digit in range(10)]
    bar = capsys.readouterr().err
    assert "DPM: 100%" in bar and " 20/20 " in bar and "step/s" in bar


def test_timesteps_are_spaced_as_asked_and_an_interval_may_be_one_of_them():
    steps = {"spacing": 0.5, "early_steps": 1, "detail_steps": 2}
    options = sampling.SampleOptions(num_steps=9, **steps, guidance_interval=(5, 5))
    assert options.timesteps(1000) == trailing_timesteps(1000, 9, **steps)
    with pytest.raises(UserError, match="9 steps of 5 timesteps: give 1 to 5"):
        options.timesteps(5)


def test_script_runs_from_anywhere(script, tmp_path, weights):
    result = script("hw2_1.sh", "new folder/out", "--weights", weights, "--per-digit", "1", "--num-steps", "2")
    assert result.returncode == 0, result.stderr
    assert len(images(tmp_path / "new folder" / "out")) == 10 and result.stdout == ""


def test_bad_input_is_one_line(script, tmp_path, weights, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert_one_line_error(script("hw2_1.sh", "out", "--weights", "nowhere.pt"), "nowhere.pt: no such file")
    command = ["out", "--weights", weights, "--num-steps"]
    assert_refused(sample.main, [*command, "0"], capsys, "--num-steps 0: give 1 to 1000")
    assert_refused(sample.main, [*command, "900", "--spacing", "2"], capsys, "900 steps", "give fewer steps")
    (tmp_path / "file").write_text("")
    assert_refused(sample.main, ["file", "--weights", weights], capsys, "file")
    torch.save({"config": {"rate": 1}, "metadata": {}, "state_dict": {}}, tmp_path / "foreign.pt")
    assert_refused(sample.main, ["out", "--weights", "foreign.pt"], capsys, "foreign.pt", "not the weights of a UNet")


@pytest.mark.parametrize(
    "interval, words", [(["500", "100"], "the smaller timestep first"), (["5"], "give two timesteps")]
)
def test_intervals_that_say_nothing_are_refused(tmp_path, weights, capsys, interval, words):
    command = [str(tmp_path / "out"), "--weights", str(weights), "--guidance-interval", *interval]
    assert sample.main(command) == 2
    assert words in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_an_image_that_is_not_finite_is_named(monkeypatch):
    broken = lambda self, x, t, labels: x * torch.where(labels == 4, torch.nan, 1.0)[:, None, None, None]
    monkeypatch.setattr(UNet, "forward", broken)
    images, options = sampling.digits_by_number(1, seed=0), sampling.SampleOptions(num_steps=2, precision="float32")
    with pytest.raises(UserError, match="4_001.png: not finite at t = 999"):
        list(sampling.sample_images(randomised(UNet(SMALL)), options, images, batch_size=10))


@pytest.mark.parametrize(
    "device, bf16, precision, expected",
    [
        ("cpu", True, "bf16", 100),
        ("cpu", True, "float32", 20),
        ("cpu", False, "bf16", 20),
        ("cuda", True, "float32", 100),
    ],
)
def test_a_cpu_takes_few_images_at_a_time_in_float32(monkeypatch, device, bf16, precision, expected):
    monkeypatch.setattr("common.device.has_bf16", lambda device: bf16)
    assert sampling.fast_batch_size(torch.device(device), precision) == expected


def test_sampling_takes_batches_of_that_size(monkeypatch):
    sizes = []
    monkeypatch.setattr(sampling, "fast_batch_size", lambda device, precision: 3)
    monkeypatch.setattr(sampling, "sample_digits", lambda model, labels, *rest: sizes.append(len(labels)) or labels)
    list(sampling.sample_images(UNet(SMALL), sampling.GRADED, sampling.numbered(7, [1], 0)))
    assert sorted(sizes) == [1, 3, 3]
