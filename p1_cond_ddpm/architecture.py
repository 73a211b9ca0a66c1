"""A U-Net as it runs, drawn: one box a layer in order of execution, lower where the feature maps are smaller."""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor, nn

from common.figures import PAGE, new_figure, styled
from p1_cond_ddpm.unet import Attention, ResidualBlock, UNet

BLOCK, ATTENTION = "residual block", "self-attention"
COLOURS = {"convolution": "#EEDD88", BLOCK: "#AADDEE", ATTENTION: "#EE99AA"}
WIDTH, HEIGHT, LEVEL = 0.62, 1.0, 1.6  # of a box, and from one level to the next; layers are 1 apart

LABEL = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}  # hides the arrow behind a label


class Layer(NamedTuple):
    kind: str
    name: str
    channels: int
    side: int  # of the feature map
    parameters: int

    @property
    def shape(self) -> str:
        return f"{self.side}×{self.side}×{self.channels}"


def described(module: nn.Module) -> tuple[str, str]:
    """The kind and the name of a layer."""
    if isinstance(module, nn.Conv2d):
        halved = ", half" if module.stride[0] == 2 else ""
        return "convolution", f"conv {module.kernel_size[0]}×{module.kernel_size[0]}{halved}"
    return (BLOCK, BLOCK) if isinstance(module, ResidualBlock) else (ATTENTION, ATTENTION)


@torch.inference_mode()
def traced(model: UNet, *, size: int = 28) -> list[Layer]:
    """The layers of one forward pass, those inside blocks left out."""
    layers: list[Layer] = []
    blocks = [m for m in model.modules() if isinstance(m, (ResidualBlock, Attention))]
    inside = {id(part) for block in blocks for part in block.modules() if part is not block}

    def note(module: nn.Module, _: object, output: Tensor) -> None:
        count = sum(p.numel() for p in module.parameters())
        layers.append(Layer(*described(module), output.shape[1], output.shape[2], count))

    shown = [m for m in model.modules() if isinstance(m, (nn.Conv2d, ResidualBlock, Attention)) and id(m) not in inside]
    hooks = [m.register_forward_hook(note) for m in shown]
    device = next(model.parameters()).device
    model(
        torch.zeros(1, model.config.image_channels, size, size, device=device),
        *torch.zeros(2, 1, dtype=torch.int64, device=device),
    )
    for hook in hooks:
        hook.remove()
    return layers


def skips(model: UNet, layers: Sequence[Layer]) -> list[tuple[int, int]]:
    """(from, to) in `layers`: the residual blocks on the way down, and the merging convolutions on the way up."""
    config = model.config
    blocks = [i for i, layer in enumerate(layers) if layer.kind == BLOCK]
    left = blocks[: len(config.widths) * config.blocks]
    right = [i - 1 for i in blocks[-len(left) :]]
    return list(zip(left, reversed(right)))


def path(axis: Axes, points: Sequence[tuple[float, float]], **style: Any) -> None:
    """A line through points with an arrow's head at its end."""
    axis.plot(*zip(*points), color="black", linewidth=0.8, solid_joinstyle="miter", **style)
    head = {"arrowstyle": "-|>", "shrinkA": 0, "shrinkB": 0, "linewidth": 0.8, "mutation_scale": 7, "color": "black"}
    axis.annotate("", points[-1], points[-2], arrowprops=head)


def draw_boxes(axis: Axes, layers: Sequence[Layer], base: Sequence[float]) -> None:
    """A box for every layer, and the shape of the feature maps below those that share one."""
    for x, (layer, y) in enumerate(zip(layers, base)):
        box = Rectangle((x, y), WIDTH, HEIGHT, facecolor=COLOURS[layer.kind], edgecolor="black", linewidth=0.6)
        axis.add_patch(box)
        axis.text(x + WIDTH / 2, y + HEIGHT / 2, layer.name, rotation=90, ha="center", va="center", fontsize=7)
    x = 0
    for shape, run in itertools.groupby(layers[:-1], lambda layer: layer.shape):
        count = len(list(run))
        place, side = x + (count - 1 + WIDTH) / 2, "center"
        if x and base[x - 1] == base[x]:
            place, side = x + (WIDTH - 1) / 2, "left"  # clear of the shape before it
        axis.text(place, base[x] - 0.08, shape, ha=side, va="top", bbox=LABEL)
        x += count


def draw_arrows(axis: Axes, model: UNet, layers: Sequence[Layer], base: Sequence[float]) -> None:
    """From layer to layer, and the skips in grey above them."""
    middle = [y + HEIGHT / 2 for y in base]
    for x, (layer, following) in enumerate(zip(layers, layers[1:])):
        start = (x + WIDTH, middle[x])
        if layer.side != following.side:
            edge = (x + WIDTH / 2, base[x] + HEIGHT * (following.side > layer.side))
            path(axis, [edge, (edge[0], middle[x + 1]), (x + 1, middle[x + 1])])
        else:
            path(axis, [start, (x + 1, middle[x + 1])])
    for number, (left, right) in enumerate(reversed(skips(model, layers))):
        top = base[left] + HEIGHT
        height = top + 0.13 * (1 + number % model.config.blocks)
        ends = (left + WIDTH / 2, right + WIDTH / 2)
        path(axis, [(ends[0], top), (ends[0], height), (ends[1], height), (ends[1], top)], linestyle=(0, (3, 1.5)))


@styled
def draw_architecture(model: UNet, *, size: int = 28) -> Figure:
    """The U with arrows, skips, shapes and the embedding."""
    layers, config = traced(model, size=size), model.config
    sides = sorted({layer.side for layer in layers}, reverse=True)
    base = [-LEVEL * sides.index(layer.side) for layer in layers]
    figure = new_figure(PAGE, 0.5 + 1.1 * len(sides))
    axis = figure.subplots()
    draw_boxes(axis, layers, base)
    draw_arrows(axis, model, layers, base)
    last, middle, image = len(layers) - 1, HEIGHT / 2, f"{size}×{size}×{config.image_channels}"
    given, predicted = f"$x_t$, {image}", f"$v$, {image}"
    if config.patch_size > 1:
        inside, patches = layers[-1].shape, f"{config.patch_size}×{config.patch_size} patches"
        given, predicted = f"{given}\nas {patches}:\n{inside}", f"{inside}:\n{patches}\nof {predicted}"
    path(axis, [(-1.0, middle), (0, middle)])
    axis.text(-1.1, middle, given, ha="right", va="center")
    path(axis, [(last + WIDTH, middle), (last + WIDTH + 1, middle)])
    axis.text(last + WIDTH + 1.1, middle, predicted, ha="left", va="center")
    embedded = f"$t$ and the label,\nembedded in {config.embedding} channels,\nscale and shift\nevery residual block"
    axis.text((last + WIDTH) / 2, middle, embedded, ha="center", va="center")
    axis.set(xlim=(-3.9, last + WIDTH + 3.9), ylim=(min(base) - 0.3, HEIGHT + 0.35), xticks=[], yticks=[])
    axis.set_frame_on(False)
    return figure
