"""Several processes that do one job."""

import os
import subprocess
import sys
import threading

import pytest
import torch
from torch import nn

from common.cli import UserError
from common.device import choose_device
from common.files import REPOSITORY
from common.optimisers import FitOptions
from common.processes import TIMEOUT, Place, alone_in, meet, share
from common.training import fit


@pytest.mark.parametrize(
    "environment, words",
    [
        ({"RANK": "0"}, "has RANK but not WORLD_SIZE and LOCAL_RANK and MASTER_ADDR and MASTER_PORT.*unset RANK"),
        ({"LOCAL_RANK": "1", "MASTER_PORT": "1"}, "has LOCAL_RANK and MASTER_PORT but not RANK"),
        (
            {"RANK": "2", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "", "MASTER_PORT": ""},
            "RANK=2 WORLD",
        ),
        ({"RANK": "-1", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "", "MASTER_PORT": ""}, "RANK=-1"),
    ],
)
def test_half_an_environment_of_torchrun_is_refused(monkeypatch, environment, words):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=words):
        choose_device("cpu")


def test_a_second_job_in_a_folder_is_refused(tmp_path):
    with (
        alone_in(tmp_path / "out", wait=False),
        pytest.raises(UserError, match="out: another process writes there"),
        alone_in(tmp_path / "out", wait=False),
    ):
        pass
    with alone_in(tmp_path / "out", wait=False):
        pass


def test_a_second_job_in_a_folder_waits_for_the_first(tmp_path):
    ended = []

    def second():
        with alone_in(tmp_path, wait=True):
            ended.append("second")

    thread = threading.Thread(target=second)
    with alone_in(tmp_path, wait=True):
        thread.start()
        thread.join(0.1)
        ended.append("first")
    thread.join()
    assert ended == ["first", "second"]


def test_a_folder_that_may_not_be_read_is_refused(tmp_path, monkeypatch):
    def denied(*_):
        raise PermissionError

    monkeypatch.setattr(os, "open", denied)  # root may read everything
    with pytest.raises(UserError, match="out: .*chmod u.rx"), alone_in(tmp_path / "out", wait=True):
        pass


@pytest.mark.parametrize("place", [Place(0, 2), Place(1, 2), Place(2, 3)])
def test_a_share_is_whole_batches_of_one_process_alone(monkeypatch, place):
    monkeypatch.setattr("common.processes.place", lambda: place)
    for count in (0, 1, 6, 7, 20):
        batches = [list(range(count))[start : start + 3] for start in range(0, count, 3)]
        mine = share(range(count), 3)
        assert [mine[start : start + 3] for start in range(0, len(mine), 3)] == batches[place.rank :: place.world]


def test_processes_wait_for_each_other_for_minutes_not_for_ever(monkeypatch):
    asked = []
    monkeypatch.setattr("common.processes.place", lambda: Place(0, 2))
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda *_, timeout: asked.append(timeout))
    meet()
    assert asked == [TIMEOUT]


TWO_PROCESSES = """
import sys, torch
from pathlib import Path
from torch import nn
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
