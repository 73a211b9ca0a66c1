"""What several test modules share."""

import os
import re
import socket
import subprocess
import sys
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from common.checkpoint import load_weights
from common.files import REPOSITORY
from common.processes import MEETING, NUMBERS
from p1_cond_ddpm.unet import UNetConfig
from p2_ddim.unet import FaceUNetConfig

GUIDES = [REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "checkpoints/README.md")]
GUIDES += [path for path in sorted((REPOSITORY / "docs").glob("*.md")) if path.name != "experiments.md"]
GOLDEN = Path(__file__).parent / "golden"
TINY_DENOISER = "--widths 16 --blocks 1 --middle-blocks 0 --embedding 16".split()  # options of p1_cond_ddpm.train
FAST = "--warmup 0 --learning-rate 0.01".split()  # of every training
SMALL = UNetConfig(widths=(16, 32), blocks=1, middle_blocks=1, embedding=32)
THIN = FaceUNetConfig(widths=(32, 32, 64, 64, 96, 96), time_channels=32, embedding=64)


def randomised(model):
    """The model with every parameter random: zero-initialised branches would hide what they do."""
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return model.eval()


def filled(shapes):
    """Tensors by the rule of the golden vector: a function of key and shape alone."""
    state = {}
    for key, shape in shapes.items():
        n = np.random.RandomState(zlib.crc32(key.encode()) & 0xFFFFFFFF).standard_normal(shape).astype(np.float32)
        if key == "time.0.inv_freq":
            n = np.exp(-np.log(10_000) * np.arange(0, 2 * shape[0], 2) / (2 * shape[0])).astype(np.float32)
        elif key.endswith("bias"):
            n = 0.1 * n
        elif len(shape) == 1:
            n = 1 + 0.1 * n
        else:
            small = 0.1 if key.endswith(("conv2.weight", "attention.out.weight")) else 1.0
            n = n / np.float32(np.sqrt(np.prod(shape[1:]))) * np.float32(small)
        state[key] = torch.from_numpy(n)
    return state


def assert_one_line_error(result: subprocess.CompletedProcess, *words: str) -> None:
    """Exit code 2 and a last line on stderr that says `error:` and all the words, no traceback."""
    last = result.stderr.strip().splitlines()[-1]
    assert result.returncode == 2, result.stderr
    assert last.startswith("error: ") and "Traceback" not in result.stderr
    assert all(word in last for word in words), last


def assert_refused(main, arguments: Sequence[object], capsys, *words: str) -> None:
    """The same of a command's function, called in this process."""
    code = main([*map(str, arguments)])
    assert_one_line_error(subprocess.CompletedProcess(arguments, code, "", capsys.readouterr().err), *words)


def assert_average_saved(run: Path) -> None:
    """weights.pt has the average of a run's weights, up to float16, not the last ones; after FAST the two differ."""
    state, saved = torch.load(run / "state.pt", weights_only=True), load_weights(run / "weights.pt").state_dict
    distance = lambda weights: max((weights[key].float() - saved[key].float()).abs().mean() for key in saved)
    assert distance(state["ema"]["module"]) < 0.5 * distance(state["module"])


def start_two(*arguments: object) -> list[subprocess.Popen]:
    """This interpreter with these arguments, as the two processes of one job; without torchrun, which ends both."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    processes = []
    for rank in ("0", "1"):
        place = dict(zip((*NUMBERS, *MEETING), (rank, "2", rank, "localhost", str(port))))
        environment = {**os.environ, **place, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, *map(str, arguments)]
        processes.append(subprocess.Popen(command, cwd=REPOSITORY, env=environment, stderr=subprocess.PIPE, text=True))
    return processes


def block_lines(text):
    """The commands of a guide's blocks, each on one line: without comments, with $W as the guide set it."""
    whole = re.sub(r"\\\n\s*", "", "".join(re.findall(r"```bash\n(.*?)```", text, re.S)))
    lines = [line for line in (re.sub(r"(^|\s+)#.*", "", line) for line in whole.splitlines()) if line]
    for name, value in (found.groups() for line in lines if (found := re.fullmatch(r"(\w+)=(\S+)", line))):
        lines = [line.replace(f"${name}", value) for line in lines if line != f"{name}={value}"]
    return lines
