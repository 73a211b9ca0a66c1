import numpy as np
import pytest
import torch
from PIL import Image

from p1_cond_ddpm import judge, train_judge


def test_the_networks_keys_are_the_courses(real_data):
    judge.load(real_data / "course" / "Classifier.pth")


def test_shifted_images_keep_their_content():
    torch.manual_seed(0)
    image = torch.zeros(64, 3, 28, 28)
    image[:, :, 10:18, 10:18] = 1
    moved = train_judge.random_shift(image)
    assert moved.sum((1, 2, 3)).unique().tolist() == [3 * 64.0]
    tops = moved[:, 0].amax(2).argmax(1)
    assert set(tops.tolist()) == {8, 9, 10, 11, 12}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "out").mkdir()
    for digit in range(10):
        Image.fromarray(np.full((28, 28, 3), 20 * digit, np.uint8)).save(tmp_path / "out" / f"{digit}_001.png")
    return tmp_path / "out"


def test_course_weights_judge_real_images(real_data, real_val, tmp_path, capsys):
    (tmp_path / "real").mkdir()
    for number, (image, label) in enumerate(zip(*(x[:500] for x in real_val("mnistm")))):
        Image.fromarray(image).save(tmp_path / "real" / f"{label}_{number}.png")
    course = str(real_data / "course" / "Classifier.pth")
    assert judge.main(["--folder", str(tmp_path / "real"), "--weights", course]) == 0
    accuracy = float(capsys.readouterr().out.split()[2])
    assert 0.93 < accuracy < 0.99


def test_output_line_is_the_courses(folder, capsys):
    assert judge.main(["--folder", str(folder), "--weights", str(judge.OWN)]) == 0
    out, err = capsys.readouterr()
    correct = int(out.split("correct/total = ")[1].split("/")[0])
    assert out == f"acc = {correct / 10} (correct/total = {correct}/10)\n" and "project’s own" in err


def test_the_environment_variable_names_the_course_weights(tmp_path, monkeypatch):
    monkeypatch.delenv("HW2_REAL_DATA", raising=False)
    monkeypatch.setattr(judge, "REPOSITORY", tmp_path)
    assert judge.find_weights() == judge.OWN
    (tmp_path / "course").mkdir()
    (tmp_path / "course" / "Classifier.pth").write_text("")
    monkeypatch.setenv("HW2_REAL_DATA", str(tmp_path))
    assert judge.find_weights() == tmp_path / "course" / "Classifier.pth"


@pytest.mark.parametrize(
    "fault, words",
    [
        ("missing", "nowhere: no such folder"),
        ("empty", "out: no pictures"),
        ("size", "3_001.png: an image of 27 x 28"),
        ("name", "x_001.png: named for no digit"),
        ("number", "00031.png: "),
        ("damaged", "3_001.png: "),
    ],
)
def test_bad_folders_are_one_line(folder, fault, words, capsys):
    if fault == "missing":
        folder = folder / "nowhere"
    elif fault == "empty":
        for path in folder.iterdir():
            path.unlink()
    elif fault == "size":
        Image.new("RGB", (27, 28)).save(folder / "3_001.png")
    elif fault == "name":
        (folder / "3_001.png").rename(folder / "x_001.png")
    elif fault == "number":
        (folder / "3_001.png").rename(folder / "00031.png")
    else:
        (folder / "3_001.png").write_bytes(b"")
    assert judge.main(["--folder", str(folder)]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ") and words in err and err.count("\n") == 1
