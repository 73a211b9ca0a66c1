"""Several processes that train together."""

import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from common.files import REPOSITORY
from common.optimisers import FitOptions
from common.training import fit

TWO_PROCESSES = """
import sys, torch
from pathlib import Path
from torch import nn
from common.diffusion import NoiseSchedule
from common.images import to_unit_range
from common.run_folder import read_settings
from p1_cond_ddpm.loss import v_loss
from p1_cond_ddpm.unet import UNet
from p2_ddim.train import eps_loss
from p2_ddim.unet import FaceUNet, FaceUNetConfig
from p3_dann import train as p3_train
from p3_dann.network import DigitNetwork, NetworkConfig
from p3_dann.objective import ObjectiveOptions
from tests.helpers import SMALL
from common.training import FitOptions, fit

def loss(module, step):
    x = torch.eye(4)[[step.batch % 4]]
    return (module(x) - step.batch).square().mean(), {}

torch.manual_seed(0)
module, run = nn.Linear(4, 1), Path(sys.argv[1])
fit(loss, module, FitOptions(steps=3, precision="float32", clip=1e9), run)
torch.save(module.state_dict(), run / f"{sys.argv[2]}{torch.initial_seed()}.pt")
"""


@pytest.mark.processes
def test_two_processes_take_different_batches_and_average_their_gradients(tmp_path):
    (tmp_path / "script.py").write_text(TWO_PROCESSES)
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        str(tmp_path / "script.py"),
    ]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    result = subprocess.run([*command, str(tmp_path / "run"), "rank"], env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    found = [torch.load(path, weights_only=True) for path in (tmp_path / "run").glob("rank*.pt")]

    def both(module, step):
        return torch.stack(
            [(module(torch.eye(4)[[b % 4]]) - b).square().mean() for b in (2 * step.step, 2 * step.step + 1)]
        ).mean(), {}

    torch.manual_seed(0)
    alone = nn.Linear(4, 1)
    fit(both, alone, FitOptions(steps=3, precision="float32", clip=1e9), tmp_path / "alone")
    assert len(found) == 2
    for state in found:
        assert all(torch.allclose(state[key], value, atol=1e-6) for key, value in alone.state_dict().items())


OWN_FOLDERS = """
import os, sys, torch
from pathlib import Path
from torch import nn
from common.training import FitOptions, fit

torch.manual_seed(0)
module, run = nn.Linear(4, 1), Path(sys.argv[1]) / os.environ["RANK"]
fit(lambda m, step: (m(torch.ones(1, 4)).square().mean(), {}), module, FitOptions(steps=3, precision="float32"), run)
torch.save(module.state_dict(), f"{run}{sys.argv[2]}.pt")
"""


@pytest.mark.processes
def test_only_the_first_process_needs_the_run_folder(tmp_path):
    """As on two machines without a common file system: rank 1 gets the state from rank 0, also in a resume."""
    (tmp_path / "script.py").write_text(OWN_FOLDERS)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += [str(tmp_path / "script.py"), str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    for name, finished in (("first", 0), ("again", 1)):
        result = subprocess.run([*command, name], env=environment, capture_output=True, text=True, timeout=120)
        assert result.returncode == 0, result.stderr
        assert result.stderr.count("finished, all 3 steps") == finished
    names = ("0first", "0again", "1first", "1again")
    states = [torch.load(tmp_path / f"{name}.pt", weights_only=True) for name in names]
    assert all(torch.equal(state["weight"], states[0]["weight"]) for state in states)
    assert (tmp_path / "0" / "state.pt").exists() and not (tmp_path / "1").exists()
