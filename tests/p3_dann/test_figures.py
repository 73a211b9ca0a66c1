import numpy as np
import torch
from PIL import Image

from common.checkpoint import save_weights
from p3_dann import figures
from p3_dann.network import DigitNetwork, NetworkConfig


def test_both_figures_are_drawn(tmp_path, digit_folder):
    digit_folder("mnistm", 60), digit_folder("usps", 60)
    config = NetworkConfig(widths=(8, 8))
    torch.manual_seed(0)
    save_weights(tmp_path / "w.pt", DigitNetwork(config), config)
    weights = ["--before", str(tmp_path / "w.pt"), "--after", str(tmp_path / "w.pt")]
    out = tmp_path / "figures"
    assert figures.main(["--data", str(tmp_path / "digits"), "--target", "usps", *weights, "--out", str(out)]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["p3_usps_class.png", "p3_usps_domain.png"]
    assert Image.open(out / "p3_usps_class.png").width > 700


def test_the_same_points_have_one_scale_in_both_directions_and_one_legend():
    points = np.random.RandomState(0).rand(40, 2) * [1, 5]
    embeddings = {name: figures.Embedding(points, 0.5) for name in ("before", "after")}
    by_class = figures.draw(embeddings, np.arange(40) % 10, [str(n) for n in range(10)], figures.CLASS_COLOURS)
    by_domain = figures.draw(embeddings, np.arange(40) % 2, ["a", "b"], figures.DOMAIN_COLOURS)
    assert [axis.get_aspect() for axis in by_class.axes] == [1, 1]
    assert [[text.get_text() for text in axis.texts] for axis in by_class.axes] == [[str(n) for n in range(10)]] * 2
    assert len(by_domain.legends) == 1 and not by_class.legends
