from p1_cond_ddpm.architecture import draw_architecture, traced
from p1_cond_ddpm.unet import UNet, UNetConfig


def test_layers_are_those_of_a_pass_in_order():
    model = UNet(UNetConfig(widths=(16, 32), blocks=1, middle_blocks=1, embedding=16))
    layers = traced(model)
    convolution, block, attention = "convolution", "residual block", "self-attention"
    down, middle = [convolution, block, convolution, block], [attention, block]
    up = [convolution, block, convolution, convolution, block, convolution]
    assert [layer.kind for layer in layers] == down + middle + up
    assert [layer.side for layer in layers] == [14, 14, 7, 7, 7, 7, 7, 7, 7, 14, 14, 14]
    assert layers[0].parameters == 12 * 16 * 9 + 16 and layers[-1].channels == 12
    hooks = [hook for module in model.modules() for hook in module._forward_hooks]
    assert not hooks


def test_a_box_for_every_layer():
    model = UNet(UNetConfig())
    axis = draw_architecture(model).axes[0]
    assert len(axis.patches) == len(traced(model)) and "4.24 M parameters" in axis.get_title()
