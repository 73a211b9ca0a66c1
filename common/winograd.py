"""Winograd's 3 x 3 convolution, which takes a quarter of the multiplications: for inference on a CPU.

An output tile of 4 x 4 pixels comes from an input tile of 6 x 6: both the tile and the filter are transformed to 36
numbers, multiplied, summed over the channels, and transformed back. The sums over channels are 36 matrix products. The
images pass in strips that fit the processor's cache: rows of a large image, or several small images. What comes just
before and after the convolution is done on a strip while it is there.

Source: Lavin & Gray 2016 (Fast algorithms for convolutional neural networks), section 4.1 for F(4 x 4, 3 x 3).
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

OUTPUT, INPUT = 4, 6  # sides of a tile
FEWEST_CHANNELS = 96  # in and out: below, the transforms cost what the products save
FEWEST_TILES = 64  # of all images: below, reading the transformed filters takes too long
SMALL_FILTERS, LARGE_AREA = 2**18 - 1, 32 * 32  # channels in times channels out; larger ones, and bf16, for larger maps
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
    """conv2d with padding 1 of x (B, C, H, W) by filters (36, C, O), bias (B, O): (B, O, H, W).

    With affine = (scale, shift), both (B, C), silu(scale x + shift) is convolved, computed strip by strip. residual (B,
    O, H, W) is added to the result. Memory in the channels_last format is the fast one, and the result's.
    """
    batch, channels, height, width = x.shape
    outputs, down, across = filters.shape[2], -(-height // OUTPUT), -(-width // OUTPUT)
    most = STRIP_TILES * 4 // x.element_size()
    images, rows = max(most // (down * across), 1), min(max(most // across, 1), down)  # of tiles, in a strip
    to_input, to_output = in_two_dimensions(INPUT_TRANSFORM).to(x), in_two_dimensions(OUTPUT_TRANSFORM).to(x)
    pixels, out = x.permute(0, 2, 3, 1), x.new_empty(batch, height, width, outputs)
    strip = x.new_zeros(images, OUTPUT * rows + 2, OUTPUT * across + 2, channels)
    image, row, pixel, _ = strip.stride()
    tiles = images * rows * across
    # Allocated once: fresh memory for every strip takes longer than the transforms.
    patches, transformed = x.new_empty(2, INPUT**2 * tiles * channels)
    products, tiles_out = x.new_empty(INPUT**2 * tiles * outputs), x.new_empty(OUTPUT**2 * tiles * outputs)

    for first in range(0, batch, images):
        now = slice(first, first + images)
        n = len(pixels[now])
        for top in range(0, height, OUTPUT * rows):
            deep = min(rows, -(-(height - top) // OUTPUT))
            end = min(top + OUTPUT * deep, height)
            above, below = max(top - 1, 0), min(end + 1, height)
            inside = strip[:n, above - top + 1 : below - top + 1, 1 : width + 1]
            if affine is None:
                inside.copy_(pixels[now, above:below])
            else:
                scale, shift = (part[now, None, None] for part in affine)
                F.silu(torch.addcmul(shift, pixels[now, above:below], scale, out=inside), inplace=True)
            if top == 0:
                strip[:, 0] = 0
            if below == height:
                strip[:, below - top + 1 :] = 0
            size = n * deep * across
            view = strip.as_strided(
                (INPUT, INPUT, n, deep, across, channels), (row, pixel, image, OUTPUT * row, OUTPUT * pixel, 1)
            )
            patch = patches[: INPUT**2 * size * channels].view(INPUT**2, -1)
            patch.view(view.shape).copy_(view)
            product = products[: INPUT**2 * size * outputs].view(INPUT**2, size, outputs)
            tile_in = transformed[: patch.numel()].view(INPUT**2, -1)
            tile_out = tiles_out[: OUTPUT**2 * size * outputs].view(OUTPUT**2, -1)
            torch.mm(to_input, patch, out=tile_in)
            torch.bmm(tile_in.view(INPUT**2, size, channels), filters, out=product)
            torch.mm(to_output, product.view(INPUT**2, -1), out=tile_out)
            y = tile_out.view(OUTPUT, OUTPUT, n, deep, across, outputs).permute(2, 3, 0, 4, 1, 5)
            y = y.reshape(n, OUTPUT * deep, OUTPUT * across, outputs)[:, : end - top, :width]
            if residual is not None:
                y += residual.permute(0, 2, 3, 1)[now, top:end]
            torch.add(y, bias[now, None, None], out=out[now, top:end])
    return out.permute(0, 3, 1, 2)


def group_norm_affine(x: Tensor, norm: nn.GroupNorm) -> tuple[Tensor, Tensor]:
    """(scale, shift), both (B, C), such that norm(x) = scale x + shift for x (B, C, H, W)."""
    images = x.permute(0, 2, 3, 1).flatten(1, 2)
    sums = torch.zeros(len(x), 2, x.shape[1], dtype=torch.float64)
    at_once = max(STRIP_PIXELS // images.shape[1], 1)
    for some, total in zip(images.split(at_once), sums.split(at_once)):
        for strip in some.split(STRIP_PIXELS, dim=1):
            pixels = strip.float()
            total += torch.stack([pixels.sum(1), pixels.square().sum(1)], dim=1)
    size = norm.num_channels // norm.num_groups
    mean, square = (sums / images.shape[1]).unflatten(2, (-1, size)).mean(3).repeat_interleave(size, 2).unbind(1)
    scale = norm.weight * ((square - mean.square()).clamp(min=0) + norm.eps).rsqrt()
    return scale.to(x), (norm.bias - scale * mean).to(x)


class WinogradConv2d(nn.Conv2d):
    """A convolution with the weights of another, 3 x 3 with padding 1, that takes Winograd's way where it is faster."""

    def __init__(self, layer: nn.Conv2d):
        super().__init__(layer.in_channels, layer.out_channels, 3, padding=1, device="meta")
        self.weight, self.bias = layer.weight, layer.bias
        self._filters: tuple[Tensor, int | None, Tensor] | None = None  # the weights they are of, their version, they

    def forward(self, x: Tensor) -> Tensor:
        if not self.faster_for(x):
            return super().forward(x)
        assert self.bias is not None
        return winograd_conv2d(x, self.filters(), self.bias.expand(len(x), -1))

    def after_norm_and_silu(
        self,
        x: Tensor,
        norm: nn.GroupNorm,
        *,
        modulation: tuple[Tensor, Tensor] | None = None,
        offset: Tensor | None = None,
        residual: Tensor | None = None,
    ) -> Tensor:
        """conv(silu(factor norm(x) + shift)) + offset + residual: (B, O, H, W).

        For x (B, C, H, W), modulation = (factor, shift), both (B, C), offset (B, O), residual (B, O, H, W).
        """
        factor, shift = modulation or (None, None)
        if self.faster_for(x):
            assert self.bias is not None
            bias = self.bias.expand(len(x), -1) if offset is None else self.bias + offset
            affine = group_norm_affine(x, norm)
            if factor is not None and shift is not None:
                affine = factor * affine[0], torch.addcmul(shift, factor, affine[1])
            return winograd_conv2d(x, self.filters(), bias, affine=affine, residual=residual)
        y = norm(x)
        if factor is not None and shift is not None:
            y = torch.addcmul(shift[:, :, None, None], y, factor[:, :, None, None])
        y = super().forward(F.silu(y, inplace=not torch.is_grad_enabled()))
        if offset is not None:
            y = y + offset[:, :, None, None]
        return y if residual is None else y + residual

    def faster_for(self, x: Tensor) -> bool:
        """Whether Winograd's way gives the same result as torch's, but for rounding, in less time."""
        batch, _, height, width = x.shape
        known = x.device.type == "cpu" and x.dtype == self.weight.dtype and x.dtype in (torch.float32, torch.bfloat16)
        wide = min(self.in_channels, self.out_channels) >= FEWEST_CHANNELS
        many = batch * -(-height // OUTPUT) * -(-width // OUTPUT) >= FEWEST_TILES
        light = x.dtype == torch.float32 and self.in_channels * self.out_channels <= SMALL_FILTERS
        return known and wide and many and (light or height * width >= LARGE_AREA) and not torch.is_grad_enabled()

    def filters(self) -> Tensor:
        """The transformed filters, computed again whenever the weights have changed."""
        weight = self.weight.detach()  # kept, its memory is not given to other weights
        version, kept = None if weight.is_inference() else weight._version, self._filters
        if kept is None or (kept[0].data_ptr(), kept[1]) != (weight.data_ptr(), version):
            self._filters = kept = weight, version, transformed_filters(weight)
        return kept[2]
