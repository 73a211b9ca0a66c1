"""Times, the machine's peak, and the work of a network."""

import time
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn


def best_seconds(work: Mapping[str, Callable[[], object]], device: torch.device, *, repeats: int) -> dict[str, float]:
    """Shortest time of each work, after one call to warm up; they take turns, so that a busy machine is so for all."""
    times: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(repeats + 1):
        for name, call in work.items():
            start = time.perf_counter()
            call()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            times[name].append(time.perf_counter() - start)
    return {name: min(values[1:]) for name, values in times.items()}


def matmul_peak(device: torch.device, *, size: int = 2048) -> float:
    """Multiply-adds per second of a square float32 matrix product."""
    a, b = torch.randn(2, size, size, device=device)
    return size**3 / best_seconds({"product": lambda: a @ b}, device, repeats=5)["product"]


def multiply_adds(model: nn.Module, *inputs: Tensor) -> int:
    """Multiply-adds of the convolutions, as they are defined, and the linear layers in one forward pass."""
    total = 0

    def count(module: nn.Module, _: object, output: Tensor) -> None:
        nonlocal total
        total += output.numel() * module.weight[0].numel()  # type: ignore[operator,index]

    hooks = [m.register_forward_hook(count) for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    with torch.inference_mode():
        model(*inputs)
    for hook in hooks:
        hook.remove()
    return total
