"""Winograd's 3 x 3 convolution, which takes a quarter of the multiplications: for inference on a CPU.

An output tile of 4 x 4 pixels comes from an input tile of 6 x 6: both the tile and the filter are transformed to 36
numbers, multiplied, summed over the channels, and transformed back. The sums over channels are 36 matrix products. The
image passes in strips that fit the processor's cache, and what comes just before and after the convolution is done on a
strip while it is there.

Source: Lavin & Gray 2016 (Fast algorithms for convolutional neural networks), section 4.1 for F(4 x 4, 3 x 3).
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from p2_ddim.unet import Doubled, FaceUNet, ResidualBlock

OUTPUT, INPUT = 4, 6  # sides of a tile
SMALLEST_AREA = 32 * 32  # of a feature map: below, the transformed filters are too much memory to read
LEAST_WORK = 2**26  # channels in times channels out times area: below, torch's convolution is as fast
STRIP_TILES = 64  # transformed at a time in float32, twice as many in bf16
STRIP_PIXELS = 2048  # summed at a time

# One-dimensional transforms: of the input (B^T), the filter (G) and the output (A^T).
INPUT_TRANSFORM = [
    [4, 0, -5, 0, 1, 0],
    [0, -4, -4, 1, 1, 0],
    [0, 4, -4, -1, 1, 0],
    [0, -2, -1, 2, 1, 0],
    [0, 2, -1, -2, 1, 0],
    [0, 4, 0, -5, 0, 1],
]
FILTER_TRANSFORM: Sequence[Sequence[float]] = [
    [1 / 4, 0, 0],
    [-1 / 6, -1 / 6, -1 / 6],
    [-1 / 6, 1 / 6, -1 / 6],
    [1 / 24, 1 / 12, 1 / 6],
    [1 / 24, -1 / 12, 1 / 6],
    [0, 0, 1],
]
OUTPUT_TRANSFORM = [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]]


def in_two_dimensions(transform: Sequence[Sequence[float]]) -> Tensor:
    """The transform of a flattened square tile: float64."""
    one = torch.tensor(transform, dtype=torch.float64)
    return torch.kron(one, one)


def transformed_filters(weight: Tensor) -> Tensor:
    """(O, C, 3, 3) -> (36, C, O), computed in float64."""
    flat = weight.double().flatten(2) @ in_two_dimensions(FILTER_TRANSFORM).T
    return flat.permute(2, 1, 0).contiguous().to(weight.dtype)


def winograd_conv2d(
    x: Tensor,
    filters: Tensor,
    bias: Tensor,
    *,
    affine: tuple[Tensor, Tensor] | None = None,
    residual: Tensor | None = None,
) -> Tensor:
    """conv2d with padding 1 of x (B, C, H, W), H and W multiples of 4, by filters (36, C, O), bias (B, O): (B, O, H,
    W).

    With affine = (scale, shift), both (B, C), silu(scale x + shift) is convolved, computed strip by strip. residual (B,
    O, H, W) is added to the result. Memory in the channels_last format is the fast one, and the result's.
    """
    batch, channels, height, width = x.shape
    outputs, tiles = filters.shape[2], width // OUTPUT
    rows = max(STRIP_TILES * 4 // x.element_size() // tiles, 1)  # of tiles in a strip
    to_input, to_output = in_two_dimensions(INPUT_TRANSFORM).to(x), in_two_dimensions(OUTPUT_TRANSFORM).to(x)
    out = x.new_empty(batch, height, width, outputs)
    strip = x.new_zeros(OUTPUT * rows + 2, width + 2, channels)
    row, pixel, _ = strip.stride()

    def tiled(image: Tensor, top: int, n: int) -> Tensor:
        """n rows of tiles of an image (H, W, O), as (4, 4, n, tiles, O)."""
        return image[top : top + OUTPUT * n].view(n, OUTPUT, tiles, OUTPUT, outputs).permute(1, 3, 0, 2, 4)

    for i, image in enumerate(x.permute(0, 2, 3, 1)):
        for top in range(0, height, OUTPUT * rows):
            n = min(rows, (height - top) // OUTPUT)
            first, end = max(top - 1, 0), min(top + OUTPUT * n + 1, height)
            inside = strip[first - top + 1 : end - top + 1, 1:-1]
            if affine is None:
                inside.copy_(image[first:end])
            else:
                F.silu(torch.addcmul(affine[1][i], image[first:end], affine[0][i], out=inside), inplace=True)
            if top == 0:
                strip[0] = 0
            if end == height:
                strip[end - top + 1] = 0
            patches = strip.as_strided(
                (INPUT, INPUT, n, tiles, channels), (row, pixel, OUTPUT * row, OUTPUT * pixel, 1)
            )
            products = (to_input @ patches.reshape(INPUT**2, -1)).view(INPUT**2, n * tiles, channels) @ filters
            y = (to_output @ products.view(INPUT**2, -1)).view(OUTPUT, OUTPUT, n, tiles, outputs)
            target = tiled(out[i], top, n)
            if residual is None:
                torch.add(y, bias[i], out=target)
            else:
                torch.add(y.add_(bias[i]), tiled(residual[i].permute(1, 2, 0), top, n), out=target)
    return out.permute(0, 3, 1, 2)


def group_norm_affine(x: Tensor, norm: nn.GroupNorm) -> tuple[Tensor, Tensor]:
    """(scale, shift), both (B, C), such that norm(x) = scale x + shift for x (B, C, H, W)."""
    sums = torch.zeros(len(x), 2, x.shape[1], dtype=torch.float64)
    for image, total in zip(x.permute(0, 2, 3, 1), sums):
        for strip in image.flatten(0, 1).split(STRIP_PIXELS):
            pixels = strip.float()
            total += torch.stack([pixels.sum(0), pixels.square().sum(0)])
    size = norm.num_channels // norm.num_groups
    mean, square = (sums / x[0, 0].numel()).unflatten(2, (-1, size)).mean(3).repeat_interleave(size, 2).unbind(1)
    scale = norm.weight * ((square - mean.square()).clamp(min=0) + norm.eps).rsqrt()
    return scale.to(x), (norm.bias - scale * mean).to(x)


class WinogradConv2d(nn.Conv2d):
    """A convolution with the weights of another, 3 x 3 with padding 1, that takes Winograd's way where it is faster."""

    def __init__(self, layer: nn.Conv2d):
        super().__init__(layer.in_channels, layer.out_channels, 3, padding=1, device="meta")
        self.weight, self.bias = layer.weight, layer.bias
        self._filters: tuple[object, Tensor] | None = None  # the state of the weights that they are of, and the filters

    def forward(self, x: Tensor) -> Tensor:
        if not self.faster_for(x):
            return super().forward(x)
        assert self.bias is not None
        return winograd_conv2d(x, self.filters(), self.bias.expand(len(x), -1))

    def after_norm_and_silu(
        self, x: Tensor, norm: nn.GroupNorm, *, offset: Tensor | None = None, residual: Tensor | None = None
    ) -> Tensor:
        """conv(silu(norm(x))) + offset + residual, for x (B, C, H, W), offset (B, O), residual (B, O, H, W): (B, O, H,
        W).
        """
        if self.faster_for(x):
            assert self.bias is not None
            bias = self.bias.expand(len(x), -1) if offset is None else self.bias + offset
            return winograd_conv2d(x, self.filters(), bias, affine=group_norm_affine(x, norm), residual=residual)
        y = super().forward(F.silu(norm(x), inplace=not torch.is_grad_enabled()))
        if offset is not None:
            y = y + offset[:, :, None, None]
        return y if residual is None else y + residual

    def faster_for(self, x: Tensor) -> bool:
        """Whether Winograd's way gives the same result as torch's, but for rounding, in less time."""
        height, width = x.shape[2:]
        known = x.device.type == "cpu" and x.dtype == self.weight.dtype and x.dtype in (torch.float32, torch.bfloat16)
        large = height * width >= SMALLEST_AREA and self.in_channels * self.out_channels * height * width >= LEAST_WORK
        return known and large and not (height % OUTPUT or width % OUTPUT or torch.is_grad_enabled())

    def filters(self) -> Tensor:
        """The transformed filters, computed again whenever the weights have changed."""
        state = self.weight.data_ptr(), None if self.weight.is_inference() else self.weight._version
        if self._filters is None or self._filters[0] != state:
            self._filters = state, transformed_filters(self.weight)
        return self._filters[1]


class WinogradResidualBlock(nn.Module):
    """A `ResidualBlock` with its weights, each normalisation and SiLU inside the convolution that follows."""

    def __init__(self, block: ResidualBlock):
        super().__init__()
        self.norm1, self.conv1, self.time = block.norm1, WinogradConv2d(block.conv1), block.time
        self.norm2, self.conv2, self.skip = block.norm2, WinogradConv2d(block.conv2), block.skip

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        h = self.conv1.after_norm_and_silu(x, self.norm1, offset=self.time(time))
        return self.conv2.after_norm_and_silu(h, self.norm2, residual=self.skip(x))


def use_winograd(model: FaceUNet) -> None:
    """Replace, in place, the residual blocks and the convolutions after upsampling. Weights and their names stay."""
    for module in [*model.modules()]:
        for name, child in module.named_children():
            if isinstance(child, ResidualBlock):
                setattr(module, name, WinogradResidualBlock(child))
            elif isinstance(module, nn.Sequential) and isinstance(module[0], Doubled) and isinstance(child, nn.Conv2d):
                setattr(module, name, WinogradConv2d(child))
