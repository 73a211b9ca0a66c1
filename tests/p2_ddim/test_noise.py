import torch

from p2_ddim import noise
from p2_ddim.noise import read_noise


def test_a_noise_depends_on_its_number_and_the_seed_alone(tmp_path):
    few, many = noise.seeded_noises(2, 32), noise.seeded_noises(5, 32)
    assert torch.equal(few, many[:2]) and not torch.equal(few[0], few[1])
    assert not torch.equal(noise.seeded_noises(2, 32, seed=1)[0], few[0])
    assert noise.main([str(tmp_path / "noise"), "--count", "12", "--size", "32"]) == 0
    paths = sorted((tmp_path / "noise").iterdir())
    assert [path.name for path in paths] == [f"{i:02d}.pt" for i in range(12)]
    assert torch.equal(read_noise(paths[4])[0], many[4]) and paths[4].stat().st_size < 15_000  # not the whole batch


def test_bad_options_are_one_line(tmp_path, capsys):
    assert noise.main([str(tmp_path / "noise"), "--size", "40"]) == 2
    assert "--size" in capsys.readouterr().err and not (tmp_path / "noise").exists()
