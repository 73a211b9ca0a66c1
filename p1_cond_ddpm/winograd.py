"""Problem 1's network with Winograd's convolutions, for inference on a CPU."""

from torch import Tensor, nn

from common.winograd import WinogradConv2d
from p1_cond_ddpm.unet import ResidualBlock, UNet


class WinogradResidualBlock(ResidualBlock):
    """Another block with its weights, each normalisation and SiLU inside the convolution that follows."""

    def __init__(self, block: ResidualBlock):
        nn.Module.__init__(self)
        self.norm1, self.conv1, self.modulation = block.norm1, WinogradConv2d(block.conv1), block.modulation
        self.norm2, self.conv2 = block.norm2, WinogradConv2d(block.conv2)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.conv1.after_norm_and_silu(x, self.norm1)
        scale, shift = self.modulation(embedding).chunk(2, dim=1)
        return self.conv2.after_norm_and_silu(h, self.norm2, modulation=(1 + scale, shift), residual=x)


def use_winograd(model: UNet) -> UNet:
    """The model, its guide and its head with other residual blocks, in place. Weights and their names stay."""
    for module in [*model.modules()]:
        for name, child in module.named_children():
            if isinstance(child, ResidualBlock):
                setattr(module, name, WinogradResidualBlock(child))
    return model
