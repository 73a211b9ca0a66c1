"""Memory of problem 2's tensors on a GPU, by the number of images at a time; no GPU is needed.

python3 -m benchmarks.memory

The course's network samples on torch's "meta" device, where every operation makes its result's shape alone, so that the
bytes of all living tensors can be added up as a GPU's allocator would. What cuDNN takes while it convolves comes on
top.
"""

import argparse
import collections
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from common.cli import command
from common.diffusion import NoiseSchedule, ddim
from p2_ddim.sample import GPU_CHUNK
from p2_ddim.sampling import for_inference
from p2_ddim.unet import FaceUNet, FaceUNetConfig

BLOCK = 512  # bytes; CUDA's allocator rounds up to a multiple


class LivingTensors(TorchDispatchMode):
    """While active, adds up the bytes of the tensors on one device that operations make and nothing has freed yet."""

    def __init__(self, device: torch.device):
        super().__init__()
        self.device, self.bytes, self.peak = device, 0, 0
        self.users = collections.Counter[int]()  # tensors of each storage

    def __torch_dispatch__(self, operation: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = operation(*args, **(kwargs or {}))
        for tensor in tree_flatten(result)[0]:
            if isinstance(tensor, Tensor) and tensor.device.type == self.device.type:
                self._add(tensor)
        return result

    def _add(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, -(-storage.nbytes() // BLOCK) * BLOCK
        self.bytes += size if self.users[key] == 0 else 0
        self.peak = max(self.peak, self.bytes)
        self.users[key] += 1
        weakref.finalize(tensor, self._drop, key, size)

    def _drop(self, key: int, size: int) -> None:
        self.users[key] -= 1
        self.bytes -= size if self.users[key] == 0 else 0


@torch.inference_mode()
def sampling_peak(config: FaceUNetConfig, images: int, *, size: int = 256) -> int:
    """Bytes of the network and the most that living tensors take while `images` noises are sampled together."""
    device = torch.device("meta")
    with LivingTensors(device) as tensors:
        with device:
            network, x_T = FaceUNet(config), torch.empty(images, 3, size, size)
        steps = ddim(for_inference(network, device), x_T, NoiseSchedule.linear(), [981, 1], clip_x_0=True)
        collections.deque(steps, maxlen=0)
    return tensors.peak


@command
def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=(1, GPU_CHUNK, 10), help="at a time")
    for images in parser.parse_args(argv).images:
        note = " (hw2_2.sh's default)" if images == GPU_CHUNK else ""
        print(f"{images} images of 256 x 256 at a time{note}: {sampling_peak(FaceUNetConfig(), images) / 1e9:.2f} GB")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
