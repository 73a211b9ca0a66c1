import numpy as np
import pytest
import torch

from common.cli import UserError
from common.digits import NULL_LABEL, load_digits, load_training_digits


def test_load_digits(digit_folder):
    root = digit_folder()
    digits = load_digits(root, "train.csv")
    assert digits.images.shape == (40, 3, 28, 28) and digits.images.dtype == torch.uint8
    assert digits.labels.tolist() == [i % 10 for i in range(40)]


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


def test_training_digits_in_four_forms(tmp_path, digit_folder):
    folder = digit_folder()
    whole = load_digits(folder, "train.csv")
    assert torch.equal(load_training_digits(folder).images, whole.images)
    pictures = load_training_digits(folder / "data")
    assert torch.equal(pictures.images, whole.images) and set(pictures.labels.tolist()) == {NULL_LABEL}
    arrays = whole.images.permute(0, 2, 3, 1).numpy()
    split = np.where(np.arange(len(arrays)) % 4, "train", "val")
    np.savez(tmp_path / "set.npz", images=arrays, labels=whole.labels.numpy(), split=split)
    part = load_training_digits(tmp_path / "set.npz")
    assert torch.equal(part.images, whole.images[split == "train"]) and torch.equal(
        part.labels, whole.labels[split == "train"]
    )
    for digit, name in ((7, "00003.png"), (2, "00001.png")):
        (tmp_path / "by digit" / str(digit)).mkdir(parents=True)
        (tmp_path / "by digit" / str(digit) / name).write_bytes((folder / "data" / name).read_bytes())
    sorted_in = load_training_digits(tmp_path / "by digit")
    assert torch.equal(sorted_in.images, whole.images[[1, 3]]) and sorted_in.labels.tolist() == [2, 7]


@pytest.mark.parametrize(
    "content",
    [
        {"labels": np.arange(2)},
        {"labels": np.eye(5, 10)},
        {"labels": np.array([1, 2, 11, 0, 0])},
        {"labels": np.array(["one"] * 5)},
        {"labels": np.array([1, 2, None, 3, 4])},
        {"labels": np.array([1, 2, 10, 3, 4])},
        {"labels": np.array([0, 1, 2, 0.5, 3])},
        {"labels": np.array([0, 1, 2, np.nan, 3])},
        {"split": np.array(["train"])},
        {"split": np.arange(5) > 2},
        {"split": np.arange(5)},
    ],
    ids=["few", "one-hot", "no digit", "words", "objects", "1 to 10", "half", "nan", "split", "bools", "numbers"],
)
def test_labels_that_do_not_fit_their_images_are_a_users_error(tmp_path, content):
    np.savez(tmp_path / "bad.npz", images=np.zeros((5, 28, 28), dtype=np.uint8), **content)
    with pytest.raises(UserError, match="one digit per image"):
        load_training_digits(tmp_path / "bad.npz")


def test_a_folder_among_pictures_is_left_out_and_named(digit_folder, capsys):
    pictures = digit_folder() / "data"
    (pictures / "sub").mkdir()
    assert len(load_training_digits(pictures)) == 40
    assert "left out as no pictures: 'sub'" in capsys.readouterr().err


@pytest.mark.parametrize("split", [np.array([b"train", b"val", b"train"]), np.array(["Train", "val", "TRAIN"])])
@pytest.mark.parametrize("labels", [[0.0, 1.0, 10.0], ["0", "1", "10"]])
def test_a_split_and_labels_of_any_type_are_read(tmp_path, split, labels):
    np.savez(tmp_path / "set.npz", images=np.zeros((3, 28, 28, 3), np.uint8), labels=np.array(labels), split=split)
    digits = load_training_digits(tmp_path / "set.npz")
    assert len(digits.images) == 2 and digits.labels.tolist() == [0, NULL_LABEL]
