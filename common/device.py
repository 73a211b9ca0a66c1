"""Where and how precisely networks compute."""

import functools
import platform
import subprocess
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from itertools import repeat
from pathlib import Path
from threading import Event
from typing import Any, TypeVar

import torch

from common.cli import UserError
from common.files import REPOSITORY
from common.processes import place

Job = TypeVar("Job")
Result = TypeVar("Result")
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}  # beside float32
CPU_FLAGS = Path("/proc/cpuinfo")  # Linux alone has it


def choose_device(name: str) -> torch.device:
    """'auto' is CUDA where there is one, else the CPU; anything else is torch's name of a device. CUDA without a number
    is this process's GPU, which becomes the current one.

    cuDNN is kept to deterministic algorithms, and float32 to float32.
    """
    torch.backends.cudnn.deterministic = True
    full_float32()
    local_rank = place().local_rank
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.empty(0, device=f"cuda:{local_rank}" if name == "cuda" else name).device
        if device.type == "cuda":
            torch.cuda.set_device(device)
        return device
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"--device {name}: {str(error).splitlines()[0]}; use auto, cpu, cuda or cuda:N") from None


def full_float32() -> None:
    """Switch TF32 off, for all problems: what is called float32 then is, and a GPU's results are near a CPU's.

    Problem 2 must meet the course's pixels; where speed matters more, bf16 and fp16 are there to be asked for.
    """
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False


def autocast(device: torch.device, precision: str) -> AbstractContextManager:
    """Run networks in `usable_precision`."""
    usable = usable_precision(device, precision)
    return nullcontext() if usable == "float32" else torch.autocast(device.type, DTYPES[usable])


def usable_precision(device: torch.device, asked: str) -> str:
    """ "bf16" where that is asked for and the device computes in it, "fp16" likewise on a GPU, else "float32"."""
    usable = {"bf16": has_bf16(device), "fp16": device.type == "cuda"}
    return asked if usable.get(asked) else "float32"


def training_precision(device: torch.device, asked: str) -> str:
    """As `usable_precision`, but fp16 instead of bf16 on a GPU that has none: training scales its gradients."""
    substitute = asked == "bf16" and device.type == "cuda" and not has_bf16(device)
    return usable_precision(device, "fp16" if substitute else asked)


def make_scaler(precision: str) -> Any:
    """What keeps small gradients from vanishing in fp16 and leaves out steps whose gradient overflows; in any other
    precision it does nothing.

    In a step it reads one number per optimiser from the device. Source: Micikevicius et al. 2018, section 3.2.
    """
    scaler = getattr(torch.amp, "GradScaler", torch.cuda.amp.GradScaler)  # the first not in torch 2.0.1
    return scaler(enabled=precision == "fp16")


def describe_machine(device: torch.device) -> dict[str, str | None]:
    """What a result may depend on besides its options: the device's name, versions and the commit; and when."""
    git = ["git", "-C", str(REPOSITORY), "rev-parse", "HEAD"]
    try:
        commit = subprocess.run(git, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        commit = None  # no git, or not a clone
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    versions = {"python": platform.python_version(), "torch": torch.__version__}
    return {"started": time.strftime("%Y-%m-%d %H:%M:%S%z"), "device": name, **versions, "commit": commit}


def on_cores(
    work: Callable[[Job, Event], Result], jobs: Sequence[Job], device: torch.device
) -> Generator[Result, None, None]:
    """work(job, stopped) for every job, in order. On a CPU, threads work on several jobs at once; elsewhere one job
    follows the other.

    When the caller stops early or a job fails, jobs that have not begun are dropped, and those that have are waited
    for: `stopped` is set then, for long work to look at.
    """
    threads, stopped = torch.get_num_threads(), Event()
    workers = min(threads, len(jobs)) if device.type == "cpu" else 1
    if workers <= 1:
        yield from (work(job, stopped) for job in jobs)
        return
    try:
        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(threads // workers,)) as pool:
            try:
                yield from pool.map(work, jobs, repeat(stopped))
            finally:
                stopped.set()
    finally:
        torch.set_num_threads(threads)  # a worker's number is also that of threads started later


@functools.cache
def has_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bf16 itself; elsewhere it is an error or an emulation slower than float32."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return cpu_has("avx512_bf16", "amx_bf16", "bf16")


@functools.cache
def layout(device: torch.device) -> torch.memory_format:
    """How feature maps of a U-Net lie in memory: channels last on CPUs that multiply tiles of bf16 (AMX) or no bf16.

    Convolutions of 16 to 192 channels are 1.2 to 1.5 times as fast there in training and 1.3 to 1.8 times in sampling.
    """
    last = device.type == "cpu" and (cpu_has("amx_bf16") or not has_bf16(device))
    return torch.channels_last if last else torch.contiguous_format


def cpu_has(*flags: str) -> bool:
    """Whether the CPU names one of these abilities, where the system tells."""
    return CPU_FLAGS.is_file() and not {*flags}.isdisjoint(CPU_FLAGS.read_text(encoding="utf-8").split())
