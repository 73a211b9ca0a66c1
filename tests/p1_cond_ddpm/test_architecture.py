from p1_cond_ddpm.architecture import draw_architecture, skips, traced
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


def test_a_box_for_every_layer_and_a_skip_for_every_block_on_the_way_down():
    model = UNet(UNetConfig())
    layers, axis = traced(model), draw_architecture(model).axes[0]
    words = [text.get_text() for text in axis.texts]
    assert len(axis.patches) == len(layers) and "7×7×160" in words and words.count("residual block") == 10
    assert sum("2×2 patches" in word for word in words) == 2
    whole = draw_architecture(UNet(UNetConfig(patch_size=1, widths=(16, 16, 16), blocks=1))).axes[0]
    assert not any("patches" in text.get_text() for text in whole.texts)
    found = skips(model, layers)
    assert [(layers[left].side, layers[right].side) for left, right in found] == [(14, 14)] * 2 + [(7, 7)] * 2
    assert all(layers[right].name == "conv 1×1" and layers[right + 1].kind == "residual block" for _, right in found)
    assert [left for left, _ in found] == [1, 2, 4, 5] and [right for _, right in found] == [17, 15, 12, 10]
