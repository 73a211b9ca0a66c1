"""Where users keep the repository, from where they call it, and what their shells and locales are like."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from common.files import REPOSITORY
from tests.helpers import assert_one_line_error

PARTS = (
    "common",
    "p1_cond_ddpm",
    "p2_ddim",
    "p3_dann",
    "homework",
    "checkpoints",
    "__main__.py",
    "hw2_3.sh",
    "hw2_2.sh",
)


@pytest.fixture
def digits(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(3):
        noise = np.random.RandomState(number).randint(0, 255, (28, 28, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def predict(script, digits, tmp_path):
    """Run hw2_3.sh by a shell line in which $SCRIPT, $IMAGES and $CSV are set; (its result, what the CSV holds)."""

    def run(line='bash "$SCRIPT" "$IMAGES" "$CSV"', *, at=REPOSITORY / "hw2_3.sh", **environment):
        (tmp_path / "run.sh").write_text(line)
        variables = {"SCRIPT": str(at), "IMAGES": str(digits), "CSV": str(tmp_path / "pred.csv"), **environment}
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        command = ["bash", str(tmp_path / "run.sh")]
        result = subprocess.run(
            command, cwd=tmp_path, env={**os.environ, "PATH": path, **variables}, capture_output=True, text=True
        )
        csv = tmp_path / "pred.csv"
        return result, csv.read_text(errors="surrogateescape") if csv.exists() else ""

    return run


def assert_predicted(result, csv):
    assert result.returncode == 0, result.stderr
    assert [row.split(",")[0] for row in csv.splitlines()] == ["image_name", "0.png", "1.png", "2.png"]


@pytest.mark.parametrize("name", ["smb-share:server=x,share=y", "a b", "$HOME", "-n", "new\nline\n"])
def test_the_repository_may_lie_anywhere(predict, tmp_path, name):
    place = tmp_path / name
    place.mkdir()
    for part in PARTS:
        source = REPOSITORY / part
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(source, place / part, ignore=ignored) if source.is_dir() else shutil.copy(source, place)
    assert_predicted(*predict(at=place / "hw2_3.sh"))


def test_a_script_may_be_called_through_links_and_with_any_exported_variable(predict, tmp_path):
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "predict").symlink_to(REPOSITORY / "hw2_3.sh")
    (tmp_path / "again").symlink_to("links/predict")
    (tmp_path / "common").mkdir()  # a package of the user's own
    (tmp_path / "common" / "__init__.py").write_text("raise RuntimeError")
    variables = {"CDPATH": str(REPOSITORY.parent), "PYTHONPATH": str(tmp_path), "PYTHONSAFEPATH": "1", "here": "x"}
    assert_predicted(*predict(at=tmp_path / "again", **variables))


@pytest.mark.parametrize("streams", ["2>&-", ">&- 2>&-", "<&-", "2> >(exec true)", "> >(exec true)"])
def test_closed_streams_and_readers_that_are_gone_cost_no_result(predict, streams):
    assert_predicted(*predict(f'bash "$SCRIPT" "$IMAGES" "$CSV" {streams}'))


def test_a_name_may_have_any_bytes_in_any_locale(predict, digits, tmp_path):
    names = [b"caf\xe9.png", "ö.png".encode(), b'a,b"c.png', b"line\rbreak.png"]
    for name in names:
        shutil.copy(digits / "0.png", os.fsencode(digits) + b"/" + name)
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    result, _ = predict(**locale)
    assert result.returncode == 0, result.stderr
    rows = (tmp_path / "pred.csv").read_bytes().split(b"\n")
    fields = [row.rsplit(b",", 1)[0] for row in rows[1:-1]]
    assert {b"caf\xe9.png", "ö.png".encode(), b'"a,b""c.png"', b'"line\rbreak.png"'} < {*fields} and len(fields) == 7


@pytest.mark.parametrize("target", ["/dev/stdout", "stdout", "/dev/fd/1"])
def test_predictions_go_through_to_an_open_stream(predict, tmp_path, target):
    (tmp_path / "stdout").symlink_to("/proc/self/fd/1")
    result, _ = predict(f'echo before > out.txt; bash "$SCRIPT" "$IMAGES" {target} >> out.txt; echo after >> out.txt')
    lines = (tmp_path / "out.txt").read_text().splitlines()
    assert result.returncode == 0, result.stderr
    assert lines[:2] == ["before", "image_name,label"] and lines[-1] == "after" and len(lines) == 6
    assert (tmp_path / "stdout").is_symlink()


def test_predictions_for_a_closed_stream_are_an_error(predict):
    result, _ = predict('bash "$SCRIPT" "$IMAGES" /dev/stdout >&-')
    assert result.returncode == 2 and result.stderr.splitlines()[-1].startswith("error: /dev/stdout: ")


def test_an_empty_path_is_refused(predict):
    result, csv = predict('bash "$SCRIPT" "$IMAGES" ""')
    assert result.returncode == 2 and "an empty path" in result.stderr and not csv


def test_without_its_packages_python_says_so_in_one_line(predict, tmp_path):
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "python3").write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "$@"\n')
    (tmp_path / "bare" / "python3").chmod(0o755)
    result, _ = predict('PATH="$PWD/bare:$PATH" bash "$SCRIPT" "$IMAGES" "$CSV"')
    assert result.returncode == 2 and result.stderr.startswith("error: no package ")
    assert len(result.stderr.splitlines()) == 1 and "requirements.txt" in result.stderr


def test_a_checkout_keeps_its_line_endings(tmp_path):
    attributes = (REPOSITORY / ".gitattributes").read_text()
    assert "* text=auto eol=lf" in attributes


def test_camera_pictures_are_turned_before_they_are_read(predict, digits, tmp_path):
    upright = np.asarray(Image.open(digits / "0.png"))
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.rot90(upright).copy()).save(digits / "1.png", exif=exif)
    _, csv = predict()
    labels = dict(row.split(",") for row in csv.splitlines())
    assert labels["0.png"] == labels["1.png"]


def test_what_lies_beside_the_pictures_is_named_and_gets_no_row(predict, digits):
    (digits / "folder.png").mkdir()
    (digits / "Thumbs.db").write_bytes(b"")
    result, csv = predict()
    assert_predicted(result, csv)
    assert "left out as no pictures: 'Thumbs.db', 'folder.png'" in result.stderr


def test_noises_that_are_not_finite_in_float32_are_refused(script, tmp_path):
    (tmp_path / "noise").mkdir()
    torch.save(torch.full((1, 3, 32, 32), 1e300, dtype=torch.float64), tmp_path / "noise" / "00.pt")
    result = script("hw2_2.sh", "noise", "out", REPOSITORY / "checkpoints" / "p2_celeba32.pt")
    assert result.returncode == 2 and "00.pt: holds values that are not finite in float32" in result.stderr


def test_the_data_set_replaces_an_empty_folder_alone(script, tmp_path):
    shutil.copy(REPOSITORY / "get_dataset.sh", tmp_path)
    (tmp_path / "bin" / "python3").unlink()
    (tmp_path / "bin" / "python3").write_text("#!/bin/sh\nexit 3\n")  # no download
    (tmp_path / "bin" / "python3").chmod(0o755)
    data = tmp_path / "hw2_data"
    run = lambda: script(tmp_path / "get_dataset.sh", PATH=f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    data.mkdir()
    assert run().returncode == 3 and not data.exists()
    data.symlink_to("nowhere")
    assert_one_line_error(run(), "hw2_data is in the way")
    data.unlink()
    (data / "face").mkdir(parents=True)
    assert_one_line_error(run(), "hw2_data is in the way")
    (data / "digits").mkdir()
    assert run().returncode == 0


def test_two_downloads_at_once_make_one_data_set(tmp_path):
    root = tmp_path / "clone"
    root.mkdir()
    shutil.copy(REPOSITORY / "get_dataset.sh", root)
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as archive:
        archive.writestr("hw2_data/digits/a.csv", "")
    (tmp_path / "bin").mkdir()
    python = tmp_path / "bin" / "python3"
    python.write_text(
        '#!/usr/bin/env bash\nif [ "$1 $2" = "-m gdown" ]; then\n'
        f'    echo >> "{tmp_path}/downloads"; sleep 0.5; cp "{tmp_path}/data.zip" "${{@: -1}}"; exit\n'
        f'fi\nexec "{sys.executable}" "$@"\n'
    )
    python.chmod(0o755)
    (tmp_path / "zipfile.py").write_text("raise RuntimeError")  # where the user is
    environment = {**os.environ, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    command = ["bash", str(root / "get_dataset.sh")]
    runs = [subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE) for _ in range(2)]
    assert [run.communicate() and run.returncode for run in runs] == [0, 0]
    assert (tmp_path / "downloads").read_text() == "\n"
    assert sorted(path.name for path in root.rglob("*")) == ["a.csv", "digits", "get_dataset.sh", "hw2_data"]


def test_a_deleted_working_folder_costs_no_result_of_absolute_paths(predict, tmp_path):
    gone = 'mkdir gone; cd gone; rmdir "$PWD"; bash "$SCRIPT" "$IMAGES" '
    assert_predicted(*predict(gone + '"$CSV"'))
    result, _ = predict(gone + "relative.csv")
    assert_one_line_error(result, "relative.csv: No such file or directory")
