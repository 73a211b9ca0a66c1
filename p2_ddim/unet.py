"""The face network of problem 2: the course's UNet.pt, loaded strictly, or a thinner one of the same topology.

Per level two residual blocks on the way down and three on the way up, each of the latter on cat(x, skip);
self-attention after the residual blocks of some levels and in the middle. The names of the modules are those of the
file's keys.

Sources: Ho et al. 2020 (DDPM), appendix B; the course's UNet.pt for names, widths and order.
"""

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.checkpoint import check_finite, load_tensors
from common.cli import UserError
from common.config import option
from common.layers import doubled
from p2_ddim.state_dict import BUFFER, find_state_dict

DOWN_BLOCKS, UP_BLOCKS = 2, 3


@dataclass(frozen=True)
class FaceUNetConfig:
    """The network; the defaults are the course's."""

    widths: tuple[int, ...] = option(
        (128, 128, 256, 256, 512, 512), "channels of each level, finest first, multiples of 32", smallest=32
    )
    attention_levels: tuple[int, ...] = option((4,), "levels with self-attention; 0 is the finest", smallest=0)
    time_channels: int = option(128, "sinusoids of the timestep", smallest=2)
    embedding: int = option(512, "channels of the time embedding", smallest=1)

    @classmethod
    def from_state_dict(cls, state_dict: Mapping[str, Tensor]) -> "FaceUNetConfig":
        """Read the config off a file's keys and shapes. Raises KeyError where it isn't such a file."""
        down = [key.split(".")[0] for key in state_dict if key.startswith("down")]
        levels = len(set(down)) // 3  # down1, then per level two blocks and, but for the last, a strided convolution
        blocks = [f"down{3 * level + 2}" for level in range(levels)]
        embedding, time_channels = state_dict["time.1.weight"].shape
        return cls(
            widths=tuple(len(state_dict[f"{block}.resblocks.conv1.weight"]) for block in blocks),
            attention_levels=tuple(
                i for i, block in enumerate(blocks) if f"{block}.attention.qkv.weight" in state_dict
            ),
            time_channels=time_channels,
            embedding=embedding,
        )


class SinusoidalEmbedding(nn.Module):
    """t (B,) -> [sin, cos] of t times geometric frequencies: (B, channels) float32."""

    def __init__(self, channels: int):
        super().__init__()
        self.register_buffer("inv_freq", torch.exp(-math.log(10_000) * torch.arange(0, channels, 2) / channels))

    def forward(self, t: Tensor) -> Tensor:
        angles = t[:, None] * self.inv_freq
        return torch.cat([angles.sin(), angles.cos()], dim=1)


class ResidualBlock(nn.Module):
    """norm, SiLU, conv, plus the time embedding; norm, SiLU, conv; plus the input."""

    def __init__(self, in_channels: int, out_channels: int, embedding: int):
        super().__init__()
        self.norm1 = nn.GroupNorm(32, in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.time = nn.Sequential(nn.SiLU(), nn.Linear(embedding, out_channels))
        self.norm2 = nn.GroupNorm(32, out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.skip = nn.Identity() if in_channels == out_channels else nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x))) + self.time(time)[:, :, None, None]
        return self.conv2(F.silu(self.norm2(h))) + self.skip(x)


class Attention(nn.Module):
    """Single-head self-attention over all positions; plus the input."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = nn.GroupNorm(32, channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm(x)).flatten(2).transpose(1, 2).chunk(3, dim=2)  # 3 x (B, HW, C)
        h = F.scaled_dot_product_attention(q, k, v)
        return x + self.out(h.transpose(1, 2).unflatten(2, x.shape[2:]))


class Block(nn.Module):
    """A residual block and, where the level has it, attention."""

    def __init__(self, in_channels: int, out_channels: int, *, embedding: int, attention: bool):
        super().__init__()
        self.resblocks = ResidualBlock(in_channels, out_channels, embedding)
        self.attention = Attention(out_channels) if attention else nn.Identity()

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        return self.attention(self.resblocks(x, time))


class Doubled(nn.Module):
    """Nearest-neighbour upsampling: (B, C, H, W) -> (B, C, 2 H, 2 W)."""

    def forward(self, x: Tensor) -> Tensor:
        return doubled(x)


class FaceUNet(nn.Module):
    """Noise predictor: (x_t (B, 3, H, W), t (B,) integer) -> eps (B, 3, H, W); H, W multiples of 2 ** (levels - 1).

    eps is of the output layer's type, whatever x_t's.
    """

    def __init__(self, config: FaceUNetConfig):
        super().__init__()
        self.config = config
        widths, embedding, last_level = config.widths, config.embedding, len(config.widths) - 1
        self.time = nn.Sequential(
            SinusoidalEmbedding(config.time_channels),
            nn.Linear(config.time_channels, embedding),
            nn.SiLU(),
            nn.Linear(embedding, embedding),
        )
        down: list[nn.Module] = [nn.Conv2d(3, widths[0], 3, padding=1)]
        skips, channels = [widths[0]], widths[0]
        for level, width in enumerate(widths):
            for _ in range(DOWN_BLOCKS):
                down.append(Block(channels, width, embedding=embedding, attention=level in config.attention_levels))
                channels = width
                skips.append(width)
            if level < last_level:
                down.append(nn.Sequential(nn.Conv2d(width, width, 3, stride=2, padding=1)))
                skips.append(width)
        middle = [Block(channels, channels, embedding=embedding, attention=attention) for attention in (True, False)]
        up: list[nn.Module] = []
        for level, width in reversed(list(enumerate(widths))):
            for _ in range(UP_BLOCKS):
                up.append(
                    Block(
                        channels + skips.pop(), width, embedding=embedding, attention=level in config.attention_levels
                    )
                )
                channels = width
            if level > 0:
                up.append(nn.Sequential(Doubled(), nn.Conv2d(width, width, 3, padding=1)))
        self.paths = {"down": len(down), "mid": len(middle), "up": len(up)}
        for name, modules in (("down", down), ("mid", middle), ("up", up)):
            for number, module in enumerate(modules, start=1):
                self.add_module(f"{name}{number}", module)
        self.out = nn.Sequential(nn.GroupNorm(32, widths[0]), nn.SiLU(), nn.Conv2d(widths[0], 3, 3, padding=1))

    def path(self, name: str) -> list[nn.Module]:
        """The modules of 'down', 'mid' or 'up' in their order."""
        return [getattr(self, f"{name}{number}") for number in range(1, self.paths[name] + 1)]

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        dtype = self.out[2].weight.dtype
        time, x, skips = self.time(t).to(dtype), x_t.to(dtype), []
        for module in self.path("down"):
            x = module(x, time) if isinstance(module, Block) else module(x)
            skips.append(x)
        for module in self.path("mid"):
            x = module(x, time)
        for module in self.path("up"):
            x = module(torch.cat([x, skips.pop()], dim=1), time) if isinstance(module, Block) else module(x)
        return self.out(x)


def load_face_unet(path: Path) -> FaceUNet:
    """Read a network for inference, on the CPU in float32: the course's UNet.pt or a file of `save_weights`.

    Of other files with such a network in them, what is taken (`find_state_dict`) is said on stderr.
    The tensors of the file become the network's own; nothing is copied.

    Raises:
        UserError: the file is missing or damaged, holds no such network, or a weight is not finite.
    """
    try:
        state, where = find_state_dict(load_tensors(path))
        config = FaceUNetConfig.from_state_dict(state)
        with torch.device("meta"):
            model = FaceUNet(config)
    except (LookupError, ValueError, AttributeError, TypeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise UserError(f"{path}: not a face network like the course's UNet.pt ({reason})") from None
    if where:
        print(f"{path}: taking {where}", file=sys.stderr)
    state.setdefault(BUFFER, SinusoidalEmbedding(config.time_channels).inv_freq)
    expected = {key: value.shape for key, value in model.state_dict().items()}
    wrong = sorted(expected.keys() ^ state.keys()) or sorted(
        k for k, shape in expected.items() if state[k].shape != shape or not state[k].is_floating_point()
    )
    if wrong:
        what = f"{len(wrong)} tensors are missing, unknown, of another shape or no floats, first {wrong[0]}"
        raise UserError(f"{path}: {what}; expected are the keys of the course's UNet.pt")
    state = {key: value.float() for key, value in state.items()}
    check_finite(path, state)
    for key, value in state.items():
        owner, _, name = key.rpartition(".")
        module = model.get_submodule(owner)
        if name in module._buffers:
            module._buffers[name] = value
        else:
            module._parameters[name] = nn.Parameter(value, requires_grad=False)
    return model.eval()
