from dataclasses import dataclass

import pytest
import torch
from torch import nn

from common.checkpoint import load_weights, save_weights
from common.cli import UserError


@dataclass(frozen=True)
class Shape:
    sizes: tuple[int, ...] = (3, 2)


def test_weights_round_trip(tmp_path):
    module = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    save_weights(tmp_path / "a.pt", module, Shape(), note="x")
    weights = load_weights(tmp_path / "a.pt")
    assert weights.config == {"sizes": [3, 2]} and weights.metadata == {"note": "x"}
    module.load_state_dict(weights.state_dict)
    assert torch.equal(weights.state_dict["0.weight"], module[0].weight.half().float())
    assert weights.state_dict["1.num_batches_tracked"].dtype == torch.int64


@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "text", "foreign", "code"])
def test_damaged_files_are_a_users_error(tmp_path, damage):
    path = tmp_path / "a.pt"
    save_weights(path, nn.Linear(50, 50), Shape())
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "foreign":
        torch.save({"state_dict": {}}, path)
    elif damage == "code":
        torch.save({"config": nn.Linear(1, 1), "metadata": {}, "state_dict": {}}, path)
    else:
        path.write_bytes({"empty": b"", "truncated": content[: len(content) // 2], "text": b"hello"}[damage])
    with pytest.raises(UserError, match=r"a\.pt: (no such file|not a)"):
        load_weights(path)
