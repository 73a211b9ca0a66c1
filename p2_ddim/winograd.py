"""Problem 2's network with Winograd's convolutions, for inference on a CPU."""

from torch import Tensor, nn

from common.winograd import WinogradConv2d
from p2_ddim.unet import Doubled, FaceUNet, ResidualBlock


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
