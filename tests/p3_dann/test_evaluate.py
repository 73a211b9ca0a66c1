import pandas as pd
import pytest
import torch

from common.digits import DigitSet
from p3_dann import evaluate
from p3_dann.network import Outputs


class Brightness(torch.nn.Module):
    """Classes by the mean of the image's absolute values, which inversion keeps; or at random."""

    def __init__(self, guess: bool):
        super().__init__()
        self.guess, self.unused = guess, torch.nn.Parameter(torch.zeros(()))

    def forward(self, x):
        classes = torch.randint(0, 10, (len(x),)) if self.guess else (x.abs().mean(dim=(1, 2, 3)) > 0.5).long()
        return Outputs(x, torch.nn.functional.one_hot(classes, 10).float(), x)


@pytest.mark.parametrize("guess, least, most", [(False, 0.99, 1.0), (True, 0.02, 0.2)])
def test_agreement_tells_a_stable_network_from_one_that_guesses(guess, least, most):
    levels = torch.tensor([10, 245, 120, 135], dtype=torch.uint8).repeat(150)
    images = levels[:, None, None, None].expand(-1, 3, 28, 28)
    found = [evaluate.agreement(Brightness(guess), images) for _ in range(2)]
    assert least <= found[0] <= most
    assert guess or found[0] == found[1]


def test_agreement_compares_the_image_with_its_strong_view(monkeypatch):
    monkeypatch.setattr(evaluate.augment, "strong", lambda x: x.flip(0))
    levels = torch.tensor([128] * 3 + [255], dtype=torch.uint8)  # the strong view swaps the first and the last
    images = levels[:, None, None, None].expand(-1, 3, 28, 28)
    assert evaluate.agreement(Brightness(guess=False), images) == 0.5
    assert evaluate.agreement(Brightness(guess=False), images, batch_size=1) == 1.0


def test_accuracy_of_a_network_is_the_share_it_gets_right():
    images = torch.tensor([128, 255, 255], dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 28, 28)
    digits = DigitSet(images, torch.tensor([0, 1, 0]))
    assert evaluate.accuracy(Brightness(guess=False), digits) == pytest.approx(2 / 3)


def test_accuracy_matches_names_not_rows(tmp_path, capsys):
    (tmp_path / "pred.csv").write_text("image_name,label\nb.png,2\na.png,1\nc.png,9\n")
    (tmp_path / "truth.csv").write_text("image_name,label\na.png,1\nb.png,3\nc.png,9\n")
    arguments = ["--predictions", str(tmp_path / "pred.csv"), "--labels", str(tmp_path / "truth.csv")]
    assert evaluate.main(arguments) == 0
    assert capsys.readouterr().out == "accuracy 0.6667 (2/3)\n"
    pd.DataFrame({"image_name": ["d.png"], "label": [1]}).to_csv(tmp_path / "truth.csv", index=False)
    assert evaluate.main(arguments) == 2 and "1 images of" in capsys.readouterr().err
