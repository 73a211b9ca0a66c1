"""Times, the machine's peak, and the work of a network."""
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn


def best_seconds(work: Callable[[], object], device: torch.device, *, repeats: int) -> float:
    """Shortest time of `work`, after one call to warm up."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    return min(times[1:])


def matmul_peak(device: torch.device, *, size: int = 2048) -> float:
    """Multiply-adds per second of a square float32 matrix product."""
    a, b = torch.randn(2, size, size, device=device)
    return size**3 / best_seconds(lambda: a @ b, device, repeats=5)


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
