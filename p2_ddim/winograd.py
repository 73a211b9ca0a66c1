"""Winograd's 3 x 3 convolution, which takes a quarter of the multiplications: for inference in float32 on a CPU.

An output tile of 4 x 4 pixels comes from an input tile of 6 x 6: both the tile and the filter are transformed to 36 numbers,
multiplied, summed over the channels, and transformed back. The sums over channels are 36 matrix products.

Source: Lavin & Gray 2016 (Fast algorithms for convolutional neural networks), section 4.1 for F(4 x 4, 3 x 3).
"""
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

OUTPUT, INPUT = 4, 6  # sides of a tile
SMALLEST_AREA = 32 * 32  # of a feature map: below, the transformed filters are too much memory to read
FEWEST_CHANNELS = 32  # of the input: below, the transforms cost more than the products
STRIP_TILES = 64  # transformed at a time, so that they stay in the processor's cache

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
    """(O, C, 3, 3) -> (36, O, C), computed in float64."""
    flat = weight.double().flatten(2) @ in_two_dimensions(FILTER_TRANSFORM).T
    return flat.permute(2, 0, 1).contiguous().to(weight.dtype)


def winograd_conv2d(x: Tensor, filters: Tensor, bias: Tensor) -> Tensor:
    """conv2d with padding 1 of x (B, C, H, W), H and W multiples of 4, by filters (36, O, C): (B, O, H, W)."""
    batch, channels, height, width = x.shape
    tiles = width // OUTPUT  # in a row
    rows = max(STRIP_TILES // tiles, 1)  # of tiles in a strip
    to_input, to_output = in_two_dimensions(INPUT_TRANSFORM).to(x), in_two_dimensions(OUTPUT_TRANSFORM).to(x)
    out = x.new_empty(batch, len(bias), height, width)
    for image, result in zip(x, out):
        for top in range(0, height, OUTPUT * rows):
            bottom = min(top + OUTPUT * rows, height)
            n = (bottom - top) // OUTPUT
            strip = F.pad(image[:, max(top - 1, 0) : bottom + 1], (1, 1, int(top == 0), int(bottom == height)))
            patches = strip.unfold(1, INPUT, OUTPUT).unfold(2, INPUT, OUTPUT)  # (C, n, tiles, 6, 6)
            flat = patches.permute(3, 4, 0, 1, 2).reshape(INPUT**2, -1)
            products = filters @ (to_input @ flat).view(INPUT**2, channels, -1)  # (36, O, n tiles)
            y = (to_output @ products.view(INPUT**2, -1)).view(OUTPUT, OUTPUT, -1, n, tiles)
            y = y.permute(2, 3, 0, 4, 1).reshape(len(bias), OUTPUT * n, width)
            torch.add(y, bias[:, None, None], out=result[:, top:bottom])
    return out


class WinogradConv2d(nn.Conv2d):
    """A 3 x 3 convolution with padding 1 that takes Winograd's way where it is faster, torch's elsewhere and in training."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__(in_channels, out_channels, 3, padding=1)
        self._filters: tuple[object, Tensor] | None = None  # the state of the weights that they are of, and the filters

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        possible = x.device.type == "cpu" and x.dtype == self.weight.dtype == torch.float32 and not (height % OUTPUT or width % OUTPUT)
        if not possible or height * width < SMALLEST_AREA or self.in_channels < FEWEST_CHANNELS or torch.is_grad_enabled():
            return super().forward(x)
        assert self.bias is not None
        return winograd_conv2d(x, self.filters(), self.bias)

    def filters(self) -> Tensor:
        """The transformed filters, computed again whenever the weights have changed."""
        state = self.weight.data_ptr(), None if self.weight.is_inference() else self.weight._version
        if self._filters is None or self._filters[0] != state:
            self._filters = state, transformed_filters(self.weight)
        return self._filters[1]
