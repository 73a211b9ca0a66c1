import json
import re
import shutil
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image

from common import fid as common_fid
from common.files import REPOSITORY
from common.inception import Network
from homework import archive, grade, siblings
from homework.rules import page_count


@pytest.fixture(autouse=True)
def ten_images(monkeypatch):
    """Archives of ten images, whose features are the means of three colours."""
    run = lambda images: images.mean(axis=(1, 2)).astype(np.float32)
    monkeypatch.setattr(archive, "COUNT", 10)
    monkeypatch.setattr(siblings, "packaged_network", lambda dims: Network("colours", dims, run))


@pytest.fixture
def images(tmp_path):
    (tmp_path / "images").mkdir()
    random = np.random.RandomState(0)
    for name in archive.image_names():
        pixels = np.broadcast_to(random.randint(100, 110, 3).astype(np.uint8), (28, 28, 3))
        Image.fromarray(pixels.copy()).save(tmp_path / "images" / name)
    return tmp_path / "images"


@pytest.fixture
def submission(images, tmp_path):
    """Make an archive with another name, more files, or another number of pages than asked for."""

    def make(name="hw3_r1.zip", extra=(), pages=3):
        (tmp_path / "report_r1.pdf").write_bytes(b"%PDF" + b"/Type /Page " * pages)
        assert archive.main(["images", str(images), str(tmp_path / "img_r1.zip")]) == 0
        assert archive.main(["code", str(tmp_path / "code_r1.zip")]) == 0
        for file in extra:
            (tmp_path / file).touch()
        files = [str(tmp_path / file) for file in ("report_r1.pdf", "img_r1.zip", "code_r1.zip", *extra)]
        assert archive.main(["submission", str(tmp_path / name), *files]) == 0
        return tmp_path / name

    return make


def failed(capsys, homework, *arguments):
    capsys.readouterr()
    code = grade.main(["--homework", homework, *map(str, arguments), "--json"])
    found = [row["check"] for row in json.loads(capsys.readouterr().out)["rows"] if row["passed"] is False]
    assert code == bool(found)
    return found


CHANGES = {
    "as asked for": ({}, []),
    "another name": ({"name": "hw3-r1.zip"}, ["archive's name", "its content", "report: report_ID.pdf"]),
    "another file": ({"extra": ["notes.txt"]}, ["its content"]),
    "no report": ({"pages": 0}, ["report: report_r1.pdf"]),
    "a short report": ({"pages": 2}, ["report: report_r1.pdf"]),
    "a long report": ({"pages": 6}, ["report: report_r1.pdf"]),
}


@pytest.mark.parametrize("changes, fails", CHANGES.values(), ids=CHANGES.keys())
def test_an_archive_fails_the_rules_that_it_breaks(submission, images, capsys, changes, fails):
    assert failed(capsys, "cvpdl2025", submission(**changes), images) == fails


def test_the_guide_hands_in_what_is_asked_for():
    guide = (REPOSITORY / "docs" / "mnist.md").read_text(encoding="utf-8")
    (files,) = re.findall(r"archive submission hw3_ID.zip (.*)", guide)
    assert set(files.split()) == {"report_ID.pdf", "code_ID.zip", "img_ID.zip"}


def test_a_flat_archive_and_wrong_parts_are_found(submission, tmp_path, capsys):
    with zipfile.ZipFile(tmp_path / "hw3_r2.zip", "w") as flat:
        flat.writestr("report_r2.pdf", b"%PDF")
    assert failed(capsys, "cvpdl2025", tmp_path / "hw3_r2.zip") == ["its content", "report: report_r2.pdf"]
    whole = submission()
    with zipfile.ZipFile(whole) as content:
        content.extractall(tmp_path / "x")
    shutil.copy(tmp_path / "x" / "hw3_r1" / "code_r1.zip", tmp_path / "x" / "hw3_r1" / "img_r1.zip")
    shutil.make_archive(str(tmp_path / "hw3_r1"), "zip", tmp_path / "x")
    assert failed(capsys, "cvpdl2025", whole) == ["img_r1.zip"]


def test_the_distance_decides(submission, images, tmp_path, capsys):
    mu, sigma = common_fid.moments(np.full((5, 3), 104.0) + np.random.RandomState(0).randn(5, 3))
    for shift, fails in ((0, []), (6, ["FID, 2048 features"])):  # 6 ** 2 in each of three colours
        np.savez(tmp_path / "mnist.npz", mu=mu + shift, sigma=sigma)
        assert failed(capsys, "cvpdl2025", submission(), tmp_path / "mnist.npz") == fails


def test_the_distance_of_two_real_sets_stands_beside(submission, images, tmp_path, capsys):
    assert grade.main(["--homework", "cvpdl2025", str(submission()), str(images)]) == 0
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("| FID"))
    assert re.search(r"FID-3 -?0\.0000, N = 10 \|", row)
    for name in archive.image_names()[:2]:
        shutil.copy(images / name, images / f"x{name}")
    assert grade.main(["--homework", "cvpdl2025", str(submission()), str(images)]) == 0
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("| FID"))
    assert re.search(r"two real sets: FID-3 \d+\.\d{4}, N = 6", row)
    np.savez(tmp_path / "mnist.npz", mu=np.zeros(2), sigma=np.eye(2))
    assert grade.main(["--homework", "cvpdl2025", str(submission()), str(tmp_path / "mnist.npz")]) == 2
    assert "mnist.npz: of 2 features" in capsys.readouterr().err


def test_odd_zips_are_refused_or_told_in_short(tmp_path, capsys):
    with zipfile.ZipFile(tmp_path / "hw3_r1.zip", "w") as loose:
        for number in range(100):
            loose.writestr(f"hw3_r1/{number}.png", b"")
    assert grade.main(["--homework", "cvpdl2025", str(tmp_path / "hw3_r1.zip")]) == 1
    assert "too much, 100: hw3_r1/0.png" in (out := capsys.readouterr().out) and "hw3_r1/99.png" not in out
    with zipfile.ZipFile(tmp_path / "hw3_r2.zip", "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("zeros", bytes(10**7))
    for name, words in (("hw3_r2.zip", "too many for its size"), ("none.zip", "no such file")):
        assert grade.main(["--homework", "cvpdl2025", str(tmp_path / name)]) == 2
        assert words in capsys.readouterr().err


def test_nycu_wants_images_and_a_process(images, tmp_path, capsys):
    assert failed(capsys, "nycu2022", tmp_path, images) == ["picture of the process"]
    Image.new("RGB", (60, 60)).save(tmp_path / "process.png")
    assert failed(capsys, "nycu2022", tmp_path, images) == []
    Image.new("L", (28, 28)).save(images / "00002.png")
    assert failed(capsys, "nycu2022", tmp_path) == ["images"]


def test_hku_wants_three_files_by_themselves_and_two_pages(tmp_path, capsys):
    assert archive.main(["hku", str(tmp_path / "hku")]) == 0
    (tmp_path / "hku" / "report.pdf").write_bytes(b"%PDF /Type /Page /Type/Page")
    assert failed(capsys, "hku2024", tmp_path / "hku") == []
    (tmp_path / "hku" / "model.py").write_text("from common.diffusion import ddim")
    (tmp_path / "hku" / "report.pdf").write_bytes(b"%PDF" + b" /Type /Page" * 3)
    assert failed(capsys, "hku2024", tmp_path / "hku") == ["imports", "report: report.pdf"]
    (tmp_path / "hku" / "unet.py").unlink()
    assert failed(capsys, "hku2024", tmp_path / "hku")[0] == "files"


def test_pages_are_counted_in_compressed_objects_too():
    objects = zlib.compress(b"<</Type /Pages>> <</Type/Page /A 1>> <</Type /Page>>")
    assert page_count(b"%PDF-1.5 stream\r\n" + objects + b"endstream stream\nnot compressed endstream") == 2
    assert page_count(b"/Type /Page") == 0
