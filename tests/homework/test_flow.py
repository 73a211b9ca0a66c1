import zipfile
from importlib.util import find_spec

import numpy as np
import pytest

from common import fid
from common.checkpoint import load_weights
from common.inception import Network
from homework import archive, flow
from tests.helpers import TINY_DENOISER


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run the flow with a tiny network and four images; (exit code, stages that were there already)."""
    means = lambda images: images.mean(axis=(1, 2)).astype(np.float32)
    monkeypatch.setattr(fid, "find_network", lambda dims: Network("colours", 3, means))
    monkeypatch.setattr(archive, "COUNT", 4)
    monkeypatch.setattr(flow, "CLIPPED", [*flow.CLIPPED, "--steps", "1", "--batch-size", "4"])
    monkeypatch.setattr(flow, "FAST", ["--num-steps", "2"])
    monkeypatch.setattr(flow, "PROCESS", ["--num-steps", "8"])
    images = np.random.RandomState(0).randint(0, 256, (20, 28, 28), dtype=np.uint8)
    np.savez(tmp_path / "mnist.npz", images=images)
    training = [*TINY_DENOISER, "--batch-size", "4", "--precision", "float32"]

    def run(*options):
        data = ["--data", str(tmp_path / "mnist.npz")]
        code = flow.main([str(tmp_path / "run"), "r1", *data, "--steps", "1", *training, *options])
        progress = [line for line in capsys.readouterr().err.splitlines() if line.startswith("[")]
        return code, [line.split("] ")[1].split(":")[0] for line in progress if "there already" in line]

    return run


@pytest.mark.skipif(not find_spec("typst"), reason="needs typst (requirements-report.txt)")
def test_one_command_makes_the_archive_and_goes_on_where_it_stopped(run, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(fid, "find_network", lambda dims: (_ for _ in ()).throw(fid.UserError("no network")))
        assert run() == (2, ["data"]) and not (folder / "fid.txt").exists()
    done = ["data", "training", "blacks", "images"]
    assert load_weights(folder / "clipped" / "weights.pt").metadata["train"]["loss"] == "clipped"
    assert run() == (0, done)
    names = [f"hw3_r1/{name}" for name in ("report_r1.pdf", "code_r1.zip", "img_r1.zip")]
    assert zipfile.ZipFile(folder / "hw3_r1.zip").namelist() == names
    assert "N = 4 against 20" in (folder / "fid.txt").read_text()
    (folder / "hw3_r1.zip").unlink()
    assert run() == (0, [*done, "distance", "process", "template", "report", "code"])
    assert run()[1][-1] == "archive"


def test_no_data_and_odd_names_are_refused_before_anything_is_made(tmp_path, capsys):
    assert flow.main([str(tmp_path / "run"), "r1", "--data", str(tmp_path / "none.npz")]) == 2
    assert "no such file" in capsys.readouterr().err
    assert flow.main([str(tmp_path / "run"), "../r1"]) == 2 and "student ID" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
