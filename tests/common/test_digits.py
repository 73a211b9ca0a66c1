import pytest
import torch

from common.cli import UserError
from common.digits import batch_at, load_digits


def test_load_digits(digit_folder):
    root = digit_folder()
    digits = load_digits(root, "train.csv")
    assert digits.images.shape == (40, 3, 28, 28) and digits.images.dtype == torch.uint8
    assert digits.labels.tolist() == [i % 10 for i in range(40)] and digits.names[3] == "00003.png"


@pytest.mark.parametrize(
    "content, message",
    [
        ("name,label\na.png,1\n", "header"),
        ("image_name,label\n00000.png,10\n", "0 to 9"),
        ("image_name,label\n00000.png,one\n", "0 to 9"),
        ("image_name,label\nx.png,1\n", "x.png"),
        ("", "not a CSV"),
        ("image_name,label\n00000.png,1\n00001.png,1,2,3\n", "not a CSV"),
        ("image_name,label\n", "there must be rows"),
        ("image_name,label\n,1\n", "a name of its own"),
        ("image_name,label\n00000.png,1\n00000.png,2\n", "a name of its own"),
    ],
)
def test_bad_tables_are_a_users_error(digit_folder, content, message):
    root = digit_folder()
    (root / "train.csv").write_text(content)
    with pytest.raises(UserError, match=message):
        load_digits(root, "train.csv")


def test_missing_set_is_a_users_error(tmp_path):
    with pytest.raises(UserError, match="get_dataset"):
        load_digits(tmp_path, "train.csv")


def test_an_epoch_visits_everything_once_and_the_next_one_in_another_order():
    epochs = [torch.cat([batch_at(12, 4, seed=0, step=3 * epoch + i) for i in range(3)]) for epoch in range(2)]
    assert all(sorted(epoch.tolist()) == list(range(12)) for epoch in epochs)
    assert epochs[0].tolist() != epochs[1].tolist()


def test_a_batch_larger_than_the_set_is_refused():
    with pytest.raises(UserError, match="batch size 5 exceeds"):
        batch_at(4, 5, seed=0, step=0)
