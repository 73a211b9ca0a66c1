"""The denoiser of problem 1: a small class-conditional U-Net, at full resolution or on patches.

On 2 x 2 patches a 28 x 28 image enters as 14 x 14 positions of 12 channels and leaves the same way, which makes a step
cheaper and the digits worse. The network predicts v = sqrt(abar) noise - sqrt(1 - abar) x_0 (see train.py).

Sources: U-Net for diffusion, Ho et al. 2020; scale-and-shift conditioning, Dhariwal & Nichol 2021; working on patches
and spending the depth at low resolution, Hoogeboom et al. 2023 (simple diffusion).
"""

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.config import option
from common.device import layout
from common.diffusion import NoiseSchedule
from common.layers import doubled, zero_init

SCHEDULES = {"cosine": NoiseSchedule.cosine, "linear": NoiseSchedule.linear}


@dataclass(frozen=True)
class UNetConfig:
    """The network."""

    image_channels: int = option(3, "channels of an image")
    num_classes: int = option(10, "classes; the label num_classes means 'no class'")
    patch_size: int = option(2, "side of the patches that the network works on", smallest=1)
    widths: tuple[int, ...] = option((64, 160), "channels at each resolution, finest first", smallest=16)
    blocks: int = option(2, "residual blocks per resolution, each way", smallest=1)
    middle_blocks: int = option(2, "residual blocks at the coarsest resolution between the two ways", smallest=0)
    embedding: int = option(256, "channels of the time and class embedding", smallest=1)
    heads: int = option(4, "attention heads, at the coarsest resolution", smallest=1)
    schedule: str = option("cosine", "noise levels that the timesteps stand for", choices=tuple(SCHEDULES))
    num_timesteps: int = option(1000, "timesteps", smallest=2, largest=1000)
    guide_widths: tuple[int, ...] = option((), "channels of its guide, which p1_cond_ddpm.join adds", smallest=16)
    head_interval: tuple[int, ...] = option(
        (), "timesteps in which its head predicts what a label changes, which p1_cond_ddpm.distill teaches", smallest=0
    )

    def noise_schedule(self) -> NoiseSchedule:
        return SCHEDULES[self.schedule](self.num_timesteps)


def guide_config(config: UNetConfig) -> UNetConfig:
    """That of a network's guide, which differs in its widths alone."""
    return replace(config, widths=config.guide_widths, guide_widths=(), head_interval=())


def timestep_embedding(t: Tensor, channels: int) -> Tensor:
    """Sinusoids of the timestep: t (B,) -> (B, channels) float32. Source: Vaswani et al. 2017, section 3.5."""
    frequencies = torch.exp(-math.log(10_000) * torch.arange(channels // 2, device=t.device) / (channels // 2))
    angles = t.float()[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=1)


class ResidualBlock(nn.Module):
    """norm, SiLU, conv, norm scaled and shifted by the embedding, SiLU, conv; plus the input."""

    def __init__(self, channels: int, embedding: int):
        super().__init__()
        self.norm1 = nn.GroupNorm(channels // 16, channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.modulation = zero_init(nn.Linear(embedding, 2 * channels))
        self.norm2 = nn.GroupNorm(channels // 16, channels)
        self.conv2 = zero_init(nn.Conv2d(channels, channels, 3, padding=1))

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        scale, shift = self.modulation(embedding)[:, :, None, None].chunk(2, dim=1)
        h = torch.addcmul(shift, self.norm2(h), 1 + scale)
        return x + self.conv2(F.silu(h))


class Attention(nn.Module):
    """Multi-head self-attention over all positions; plus the input."""

    def __init__(self, channels: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(channels // 16, channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = zero_init(nn.Linear(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        tokens = self.norm(x).flatten(2).transpose(1, 2)  # (B, HW, C)
        q, k, v = (
            self.qkv(tokens).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        )  # 3 x (B, heads, HW, C / heads)
        # Spelled out: the fused function's backward pass takes three times as long on a CPU at this size.
        weights = (q @ k.transpose(2, 3) / math.sqrt(q.shape[3])).softmax(dim=3)  # (B, heads, HW, HW)
        h = (weights @ v).transpose(1, 2).flatten(2)  # (B, HW, C)
        return x + self.out(h).transpose(1, 2).unflatten(2, (height, width))


class GuidanceHead(nn.Module):
    """What a label changes in v, in patches as UNet.output's, from what UNet.features returns: one residual block a
    level, coarsest first.
    """

    def __init__(self, widths: tuple[int, ...], patch_channels: int, embedding: int):
        super().__init__()
        self.take, self.blocks, self.rise = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for width, wider in zip(widths, (*widths[1:], None)):
            # torch 2.13.0 crashes in the gradient of a group norm whose channels-last input needs none
            self.take.insert(0, nn.Conv2d(width, width, 1))
            self.blocks.insert(0, ResidualBlock(width, embedding))
            if wider is not None:
                self.rise.insert(0, nn.Conv2d(wider, width, 1))
        self.norm = nn.GroupNorm(widths[0] // 16, widths[0])
        self.output = zero_init(nn.Conv2d(widths[0], patch_channels, 3, padding=1))

    def forward(self, levels: list[Tensor], embedding: Tensor) -> Tensor:
        x = self.blocks[0](self.take[0](levels[0]), embedding)
        for features, take, block, rise in zip(levels[1:], self.take[1:], self.blocks[1:], self.rise):
            x = block(take(features) + doubled(rise(x)), embedding)
        return self.output(F.silu(self.norm(x)))


class UNet(nn.Module):
    """v-prediction network: (x_t (B, C, H, W), t (B,) integer, labels (B,) in 0..num_classes) -> v (B, C, H, W).

    H and W are multiples of patch_size * 2 ** (len(widths) - 1); the label num_classes asks for the unconditional
    output.

    `guide` is None or a worse network of the same kind. The forward pass leaves it alone; samplers step away from its
    prediction. `head` is None or predicts v minus that without label, in config.head_interval: with guidance=True the
    output is (B, 2 C, H, W), which is v and this difference.
    """

    def __init__(self, config: UNetConfig):
        super().__init__()
        self.config = config
        patch_channels = config.image_channels * config.patch_size**2
        sinusoids, embedding = 2 * config.widths[0], config.embedding
        self.time = nn.Sequential(nn.Linear(sinusoids, embedding), nn.SiLU(), nn.Linear(embedding, embedding))
        self.label = nn.Embedding(config.num_classes + 1, config.embedding)
        self.input = nn.Conv2d(patch_channels, config.widths[0], 3, padding=1)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for width, wider in zip(config.widths, (*config.widths[1:], None)):
            self.down.append(self._level(config, width, merge=False))
            self.up.insert(0, self._level(config, width, merge=True))
            if wider is not None:
                self.down.append(nn.Conv2d(width, wider, 3, stride=2, padding=1))
                self.up.insert(0, nn.Conv2d(wider, width, 1))
        coarsest = config.widths[-1]
        self.middle = nn.ModuleList()
        for _ in range(config.middle_blocks):
            self.middle.append(Attention(coarsest, config.heads))
            self.middle.append(ResidualBlock(coarsest, config.embedding))
        self.norm = nn.GroupNorm(config.widths[0] // 16, config.widths[0])
        self.output = zero_init(nn.Conv2d(config.widths[0], patch_channels, 3, padding=1))
        self.guide = UNet(guide_config(config)) if config.guide_widths else None
        self.head = GuidanceHead(config.widths, patch_channels, config.embedding) if config.head_interval else None

    @staticmethod
    def _level(config: UNetConfig, width: int, *, merge: bool) -> nn.ModuleList:
        level = nn.ModuleList()
        for _ in range(config.blocks):
            if merge:
                level.append(nn.Conv2d(2 * width, width, 1))
            level.append(ResidualBlock(width, config.embedding))
        return level

    def features(self, x_t: Tensor, t: Tensor, labels: Tensor) -> tuple[list[Tensor], Tensor]:
        """What v is made of: the last features of every level, coarsest first, each (B, width, h, w); and the
        embedding of t and labels (B, config.embedding).
        """
        embedding = F.silu(self.time(timestep_embedding(t, self.time[0].in_features)) + self.label(labels))
        patches = F.pixel_unshuffle(x_t, self.config.patch_size)
        x = self.input(patches.contiguous(memory_format=layout(x_t.device)))
        skips = []
        for stage in self.down:
            if isinstance(stage, nn.Conv2d):
                x = stage(x)
                continue
            for block in stage:
                x = block(x, embedding)
                skips.append(x)
        for layer in self.middle:
            x = layer(x) if isinstance(layer, Attention) else layer(x, embedding)
        levels = []
        for stage in self.up:
            if isinstance(stage, nn.Conv2d):
                x = doubled(stage(x))
                continue
            for merge, block in zip(stage[::2], stage[1::2]):
                x = block(merge(torch.cat([x, skips.pop()], dim=1)), embedding)
            levels.append(x)
        return levels, embedding

    def image(self, patches: Tensor) -> Tensor:
        """(B, C patch_size^2, H / patch_size, W / patch_size) -> (B, C, H, W)."""
        return F.pixel_shuffle(patches, self.config.patch_size).contiguous()

    def from_features(self, levels: list[Tensor]) -> Tensor:
        """v (B, C, H, W) from what `features` returns."""
        return self.image(self.output(F.silu(self.norm(levels[-1]))))

    def forward(self, x_t: Tensor, t: Tensor, labels: Tensor, *, guidance: bool = False) -> Tensor:
        levels, embedding = self.features(x_t, t, labels)
        v = self.from_features(levels)
        if not guidance:
            return v
        assert self.head is not None
        return torch.cat([v, self.image(self.head(levels, embedding))], dim=1)


def without_guidance(model: UNet) -> UNet:
    """The model, changed in place: without guide and head, as it was trained at first."""
    model.config, model.guide, model.head = replace(model.config, guide_widths=(), head_interval=()), None, None
    return model
