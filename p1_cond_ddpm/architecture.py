"""A network as it runs, drawn: one box a layer in order of execution, lower where the feature maps are smaller."""

from typing import NamedTuple

import torch
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from torch import Tensor, nn

from p1_cond_ddpm.unet import Attention, ResidualBlock, UNet

COLOURS = {"convolution": "#DDCC77", "residual block": "#88CCEE", "self-attention": "#CC6677"}
KINDS: dict[type[nn.Module], str] = {
    nn.Conv2d: "convolution",
    ResidualBlock: "residual block",
    Attention: "self-attention",
}
FULL_HEIGHT = 0.8  # of the box with the most channels


class Layer(NamedTuple):
    kind: str
    channels: int
    side: int  # of the feature map
    parameters: int


@torch.inference_mode()
def traced(model: UNet, *, size: int = 28) -> list[Layer]:
    """The layers of one forward pass, those inside blocks left out."""
    layers: list[Layer] = []
    inside = {
        id(part)
        for m in model.modules()
        if isinstance(m, (ResidualBlock, Attention))
        for part in m.modules()
        if part is not m
    }

    def note(module: nn.Module, _: object, output: Tensor) -> None:
        layers.append(
            Layer(KINDS[type(module)], output.shape[1], output.shape[2], sum(p.numel() for p in module.parameters()))
        )

    hooks = [m.register_forward_hook(note) for m in model.modules() if type(m) in KINDS and id(m) not in inside]
    device = next(model.parameters()).device
    model(
        torch.zeros(1, model.config.image_channels, size, size, device=device),
        *torch.zeros(2, 1, dtype=torch.int64, device=device),
    )
    for hook in hooks:
        hook.remove()
    return layers


def draw_architecture(model: UNet) -> Figure:
    """Boxes from input to output, as high as they have channels."""
    layers = traced(model)
    sides, most = sorted({layer.side for layer in layers}, reverse=True), max(layer.channels for layer in layers)
    figure = Figure(figsize=(11, 1.3 + 1.3 * len(sides)), dpi=110, layout="constrained")
    axis = figure.subplots()
    for x, layer in enumerate(layers):
        height, base = FULL_HEIGHT * layer.channels / most, -sides.index(layer.side)
        axis.add_patch(
            Rectangle((x + 0.1, base), 0.8, height, facecolor=COLOURS[layer.kind], edgecolor="black", linewidth=0.6)
        )
        axis.text(x + 0.5, base + height + 0.02, str(layer.channels), ha="center", fontsize=7)
    axis.set(xlim=(0, len(layers)), ylim=(0.9 - len(sides), 1.1), xticks=[])
    axis.set_yticks([0.3 - i for i in range(len(sides))], [f"{side} × {side}" for side in sides])
    axis.tick_params(length=0)
    axis.set_frame_on(False)
    counts = {kind: sum(layer.parameters for layer in layers if layer.kind == kind) / 1e6 for kind in COLOURS}
    labels = {kind: f"{kind}, {count:.2f} M parameters" for kind, count in counts.items()}
    handles = [Patch(facecolor=COLOURS[kind], edgecolor="black", label=label) for kind, label in labels.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    config, total = model.config, sum(p.numel() for p in model.parameters()) / 1e6
    axis.set_title(
        f"{total:.2f} M parameters; the image enters as {config.patch_size} × {config.patch_size} patches; "
        f"time and label embedding ({config.embedding}) scale and shift every residual block;\n"
        "each block on the right also gets the output of its mirror "
        "image on the left",
        fontsize=9,
    )
    return figure
