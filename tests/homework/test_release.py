import json

import pytest
import torch
from torch import nn

from common.checkpoint import load_weights, save_weights
from common.cli import UserError
from homework import download, release


def test_a_release_is_what_the_download_verifies(tmp_path):
    save_weights(tmp_path / "weights.pt", nn.Linear(2, 2))
    folder = tmp_path / "checkpoints"
    for name in ("a.pt", "b.pt"):
        assert release.main([str(tmp_path / "weights.pt"), name, "--folder", str(folder)]) == 0
    assert set(json.loads((folder / "manifest.json").read_text())["files"]) == {"a.pt", "b.pt"}
    assert download.main(["--folder", str(folder)]) == 0


def test_weights_that_are_not_the_manifests_are_not_loaded(tmp_path):
    save_weights(tmp_path / "weights.pt", nn.Linear(2, 2))
    released = tmp_path / "checkpoints" / "a.pt"
    assert release.main([str(tmp_path / "weights.pt"), "a.pt", "--folder", str(released.parent)]) == 0
    load_weights(released)
    save_weights(released, nn.Linear(2, 2))
    with pytest.raises(UserError, match=r"a\.pt: not the file that manifest\.json lists"):
        load_weights(released)


@pytest.mark.parametrize("content", [b"damaged", None])
def test_nothing_damaged_or_too_large_is_released(tmp_path, content, monkeypatch):
    save_weights(tmp_path / "weights.pt", nn.Linear(2, 2))
    if content:
        (tmp_path / "weights.pt").write_bytes(content)
    monkeypatch.setattr(release, "LARGEST", 100)
    assert release.main([str(tmp_path / "weights.pt"), "a.pt", "--folder", str(tmp_path / "checkpoints")]) == 2
    assert not (tmp_path / "checkpoints").exists()


def test_weights_that_are_not_finite_are_neither_saved_nor_released(tmp_path, capsys):
    module = nn.Linear(2, 2)
    save_weights(tmp_path / "weights.pt", module)
    content = torch.load(tmp_path / "weights.pt", weights_only=True)
    content["state_dict"]["weight"][0, 0] = torch.nan
    torch.save(content, tmp_path / "weights.pt")
    assert release.main([str(tmp_path / "weights.pt"), "a.pt", "--folder", str(tmp_path / "checkpoints")]) == 2
    assert "weight is not finite" in capsys.readouterr().err and not (tmp_path / "checkpoints").exists()
    nn.init.constant_(module.weight, 1e6)  # beyond float16
    with pytest.raises(UserError, match="weight is not finite"):
        save_weights(tmp_path / "large.pt", module)
    assert not (tmp_path / "large.pt").exists()
