import io
import os
import re
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image

from homework import archive
from tests.helpers import TINY_DENOISER


def png(mode="RGB", size=(28, 28), kind="PNG"):
    out = io.BytesIO()
    Image.new(mode, size).save(out, kind)
    return out.getvalue()


@pytest.fixture(autouse=True)
def five_images(monkeypatch):
    monkeypatch.setattr(archive, "COUNT", 5)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "images").mkdir()
    for name in archive.image_names():
        (tmp_path / "images" / name).write_bytes(png())
    return tmp_path / "images"


def test_a_folder_becomes_a_flat_archive_of_the_same_bytes(folder, tmp_path, capsys):
    (folder / ".DS_Store").write_text("stays out")
    for name in ("a.zip", "b.zip"):
        assert archive.main(["images", str(folder), str(tmp_path / name)]) == 0
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    assert zipfile.ZipFile(tmp_path / "a.zip").namelist() == [f"0000{n}.png" for n in range(1, 6)]
    assert archive.main(["check", str(tmp_path / "a.zip")]) == 0
    assert "5 images, nothing wrong" in capsys.readouterr().out


CHANGES = {
    "in a folder": (
        lambda files: {f"images/{name}": content for name, content in files.items()},
        "must be flat, 5: images/00001.png",
    ),
    "from a Mac": (
        lambda files: {**files, "__MACOSX/._00001.png": b"", ".DS_Store": b""},
        "a Mac adds, 2: .DS_Store, __MACOSX",
    ),
    "missing": (lambda files: {k: v for k, v in files.items() if k != "00003.png"}, "missing files, 1: 00003.png"),
    "another name": (lambda files: {**files, "6.png": png()}, "other names than 00001.png to 10000.png, 1: 6.png"),
    "grey": (lambda files: {**files, "00002.png": png("L")}, "00002.png: PNG L 28 x 28"),
    "large": (lambda files: {**files, "00002.png": png(size=(32, 32))}, "00002.png: PNG RGB 32 x 32"),
    "a JPEG": (lambda files: {**files, "00002.png": png(kind="JPEG")}, "00002.png: JPEG RGB"),
    "damaged": (lambda files: {**files, "00002.png": png()[:40]}, "00002.png: not a readable image"),
}


@pytest.mark.parametrize("change, words", CHANGES.values(), ids=CHANGES.keys())
def test_check_says_what_is_wrong(tmp_path, capsys, change, words):
    archive.write_archive(tmp_path / "img.zip", change({name: png() for name in archive.image_names()}).items())
    assert archive.main(["check", str(tmp_path / "img.zip")]) == 2
    assert words in capsys.readouterr().err


def test_a_damaged_archive_names_the_image(tmp_path, capsys):
    archive.write_archive(tmp_path / "img.zip", {name: png() for name in archive.image_names()}.items())
    content = bytearray((tmp_path / "img.zip").read_bytes())
    content[content.index(b"00003.png") + 12] ^= 0xFF  # in the compressed image
    (tmp_path / "img.zip").write_bytes(content)
    assert archive.main(["check", str(tmp_path / "img.zip")]) == 2
    assert "00003.png: not a readable image" in capsys.readouterr().err


def test_nothing_wrong_is_written(folder, tmp_path, capsys):
    (folder / "00004.png").write_bytes(png("L"))
    assert archive.main(["images", str(folder), str(tmp_path / "img.zip")]) == 2
    assert "00004.png: PNG L" in capsys.readouterr().err
    (folder / "00004.png").unlink()
    assert archive.main(["images", str(folder), str(tmp_path / "img.zip")]) == 2
    assert "missing files, 1: 00004.png" in capsys.readouterr().err
    (tmp_path / "img.zip").write_bytes(b"PK")
    assert archive.main(["check", str(tmp_path / "img.zip")]) == 2
    assert "not a readable zip" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "img.zip"]


def test_a_submission_holds_code_images_and_report(folder, tmp_path, capsys):
    images, code, report = tmp_path / "img_r1.zip", tmp_path / "code_r1.zip", tmp_path / "report_r1.pdf"
    report.write_bytes(b"%PDF")
    assert archive.main(["images", str(folder), str(images)]) == 0
    assert archive.main(["code", str(code)]) == 0
    assert archive.main(["submission", str(tmp_path / "hw3_r1.zip"), *map(str, (images, code, report))]) == 0
    names = [f"hw3_r1/{name}" for name in ("img_r1.zip", "code_r1.zip", "report_r1.pdf")]
    assert zipfile.ZipFile(tmp_path / "hw3_r1.zip").namelist() == names
    zipfile.ZipFile(code).extractall(tmp_path / "code")
    assert sorted(path.name for path in (tmp_path / "code").iterdir()) == ["readme.md", "requirements.txt", "src"]
    readme = (tmp_path / "code" / "readme.md").read_text()
    modules = {*re.findall(r"python3 -m (\S+)", readme)} - {"pip", "pytorch_fid"}
    assert {"p1_cond_ddpm.train", "homework.mnist"} < modules and not re.findall(r"\]\(|bash \S", readme)
    assert all((tmp_path / "code" / "src" / f"{m.replace('.', '/')}.py").is_file() for m in modules)
    options = ["-m", "p1_cond_ddpm.sample", "--help"]
    assert (
        subprocess.run([sys.executable, *options], cwd=tmp_path / "code" / "src", capture_output=True).returncode == 0
    )
    assert archive.main(["submission", str(tmp_path / "twice.zip"), str(report), str(report)]) == 2
    assert "two files of one name" in capsys.readouterr().err
    images.write_bytes(code.read_bytes())
    assert archive.main(["submission", str(tmp_path / "other.zip"), str(images)]) == 2
    assert "missing files, 5" in capsys.readouterr().err and not (tmp_path / "other.zip").exists()


@pytest.mark.processes
def test_the_three_files_of_hku_train_by_themselves(tmp_path):
    assert archive.main(["hku", str(tmp_path / "hku")]) == 0
    assert sorted(path.name for path in (tmp_path / "hku").iterdir()) == ["model.py", "train_mnist.py", "unet.py"]
    images = np.random.RandomState(0).randint(0, 256, (20, 28, 28), dtype=np.uint8)
    np.savez(tmp_path / "mnist.npz", images=images, labels=np.arange(20) % 10)
    options = [*TINY_DENOISER, "--steps", "1", "--batch-size", "4", "--num-timesteps", "10", "--precision", "float32"]
    train = [sys.executable, "hku/train_mnist.py", "--data", "mnist.npz"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run([*train, "--run-dir", "run", *options], cwd=tmp_path, env=environment, check=True)
    assert {"preview_0000001.png", "curves.png", "weights.pt"} < {path.name for path in (tmp_path / "run").iterdir()}


def test_the_report_gets_the_name_that_the_course_asks_for(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(archive, "REPOSITORY", tmp_path)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "report.pdf").write_bytes(b"%PDF")
    assert archive.main(["report", "r12345678"]) == 0
    assert (tmp_path / "hw2_r12345678.pdf").read_bytes() == b"%PDF"
    assert archive.main(["report", "../x"]) == 2 and "student ID" in capsys.readouterr().err
