import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from common.checkpoint import save_weights
from p3_dann import inference, predict
from p3_dann.network import DigitNetwork, NetworkConfig
from tests.helpers import assert_one_line_error, assert_refused


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(0)
    config = NetworkConfig(widths=(8, 8))
    save_weights(tmp_path / "weights.pt", DigitNetwork(config), config)
    return tmp_path / "weights.pt"


def test_both_domains_are_recognised_in_any_folder_of_twenty(real_val):
    random = np.random.RandomState(0)
    for domain in ("svhn", "usps"):
        images = torch.from_numpy(real_val(domain)[0]).permute(0, 3, 1, 2)
        found = [inference.recognise_domain(images[random.choice(len(images), 20, replace=False)]) for _ in range(100)]
        assert found == [domain] * 100


def test_a_row_for_every_image_sorted_by_name(script, digit_folder, tmp_path, weights):
    folder = digit_folder("usps 2") / "data"
    (folder / "notes.txt").write_text("no image")
    (folder / ".hidden.png").write_text("")
    picture = Image.open(folder / "00000.png")
    picture.resize((40, 31)).save(folder / "b odd.png")
    picture.convert("L").save(folder / "a grey.JPG")
    picture.convert("P").save(folder / "c.png")
    result = script("hw2_3.sh", folder, "new/pred.csv", "--weights", weights)
    assert result.returncode == 0, result.stderr
    table = pd.read_csv(tmp_path / "new" / "pred.csv")
    assert list(table.columns) == ["image_name", "label"] and table["label"].isin(range(10)).all()
    assert table["image_name"].tolist() == sorted(
        p.name for p in folder.iterdir() if p.suffix != ".txt" and p.name[0] != "."
    )


def test_a_damaged_image_is_reported_and_costs_no_other_row(script, digit_folder, tmp_path, weights):
    folder = digit_folder() / "data"
    script("hw2_3.sh", folder, "before.csv", "--weights", weights)
    (folder / "00005.png").write_bytes(b"\x89PNG")
    result = script("hw2_3.sh", folder, "after.csv", "--weights", weights)
    assert result.returncode == 0 and "00005.png: not a readable image" in result.stderr
    before, after = (pd.read_csv(tmp_path / f"{name}.csv").set_index("image_name") for name in ("before", "after"))
    assert len(after) == 40 and before.drop("00005.png").equals(after.drop("00005.png"))


def test_two_runs_write_the_same_bytes(script, digit_folder, tmp_path, weights):
    folder = digit_folder() / "data"
    for name in ("a.csv", "b.csv"):
        script("hw2_3.sh", folder, name, "--weights", weights)
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


def test_bad_input_is_one_line(script, digit_folder, tmp_path, weights, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert_one_line_error(script("hw2_3.sh", "nowhere", "p.csv"), "nowhere: no such folder")
    (tmp_path / "empty").mkdir()
    assert_refused(predict.main, ["empty", "p.csv"], capsys, "empty: no pictures")
    (tmp_path / "empty" / "a.png").write_bytes(b"")
    assert_refused(predict.main, ["empty", "p.csv"], capsys, "none of its 1 images")
    folder = digit_folder() / "data"
    assert_refused(predict.main, [folder, "p.csv", "--weights", "none.pt"], capsys, "none.pt: no such file")
    assert_refused(predict.main, [folder, tmp_path, "--weights", weights], capsys, str(tmp_path))
    assert not (tmp_path / "p.csv").exists()
