"""Files that are made to run code, to fill the memory, to hang their reader, or to be written elsewhere."""

import contextlib
import json
import os
import pickle
import signal
import struct
import zipfile
import zlib
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from PIL import Image

from common import curves
from common.checkpoint import load_network, load_tensors, load_weights, save_weights
from common.digits import load_training_digits
from common.images import read_pictures, read_rgb
from common.run_folder import read_settings
from homework import archive, download, release
from p1_cond_ddpm import judge
from p1_cond_ddpm.unet import UNet, UNetConfig
from p2_ddim.noise import noise_files, read_noise, write_noises
from p2_ddim.unet import load_face_unet
from p3_dann.predict import main as predict
from tests.faults.inject import run
from tests.helpers import SMALL, randomised

never = lambda _: False


class Code:
    """What runs code where it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("form", ["torch", "torch before 1.6", "pickle", "npz"])
def test_code_in_pickles_never_runs(tally, tmp_path, form):
    count, path, marker = tally("hostile: code in pickles"), tmp_path / "a.pt", tmp_path / "ran"
    content = {"config": {}, "metadata": {}, "state_dict": {"a": Code(marker)}}
    if form == "npz":
        with open(path, "wb") as file:
            np.savez(file, images=np.array([Code(marker)], dtype=object), labels=np.array([Code(marker)], dtype=object))
    elif form == "pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "torch")
    readers = (load_tensors, load_weights, read_noise, load_face_unet, judge.load, load_training_digits)
    for reader in readers:
        count.add(reader.__name__, lambda reader=reader: reader(path), never)
    assert not marker.exists()


def deflated(path, name, size):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as bomb:
        bomb.writestr(name, bytes(size))


def png_of(width, height):
    """A PNG whose header promises more than follows."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [header, b"IDAT" + zlib.compress(bytes(1000)), b"IEND"]
    framed = [struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


def test_what_would_fill_the_memory_is_refused(tally, tmp_path):
    count, size = tally("hostile: files that unpack to more than the memory"), 50_000_000
    deflated(tmp_path / "a.pt", "a/data.pkl", size)
    deflated(tmp_path / "a.npz", "images.npy", size)
    deflated(tmp_path / "a.zip", "00001.png", size)
    (tmp_path / "a.png").write_bytes(png_of(60_000, 2_000))
    torch.save(torch.zeros(()).expand(1, 3, 2**15, 2**15), tmp_path / "noise.pt")
    many = {"config": {}, "metadata": {}, "state_dict": {"a": torch.zeros(()).expand(2**17, 2**17)}}
    torch.save(many, tmp_path / "weights.pt")
    save_weights(tmp_path / "wide.pt", UNet(SMALL), UNetConfig(widths=(2**20, 2**20)))
    count.add("a zip in place of weights", lambda: load_tensors(tmp_path / "a.pt"), never)
    count.add("a .npz", lambda: read_pictures(tmp_path / "a.npz"), never)
    count.add("an archive", lambda: run(archive.main, "check", tmp_path / "a.zip"), never)
    count.add("a picture", lambda: read_rgb(tmp_path / "a.png"), never)
    count.add("a noise of one number many times", lambda: read_noise(tmp_path / "noise.pt"), never)
    count.add("weights of one number many times", lambda: load_weights(tmp_path / "weights.pt"), never)
    count.add("a config of a wide network", lambda: load_network(tmp_path / "wide.pt", UNet, UNetConfig), never)


@contextlib.contextmanager
def ten_seconds() -> Iterator[None]:
    def hangs(*_):
        raise AssertionError("hangs")

    before = signal.signal(signal.SIGALRM, hangs)
    signal.alarm(10)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_what_never_ends_is_not_read(tally, tmp_path, kind, monkeypatch):
    count = tally(f"hostile: a {kind} in place of a file")

    def put(name):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.unlink(missing_ok=True)
        os.mkfifo(path) if kind == "pipe" else path.symlink_to("/dev/zero")
        return path

    save_weights(tmp_path / "good.pt", randomised(UNet(SMALL)), SMALL)
    alone = {
        "a.pt": load_tensors,
        "b.npz": load_training_digits,
        "pictures/a.png": lambda path: read_pictures(path.parent),
        "noises/00.pt": lambda path: noise_files(path.parent),
        "options.json": read_settings,
        "metrics.jsonl": lambda path: curves.read_metrics(path.parent),
        "checkpoints/manifest.json": lambda path: run(download.main, "--folder", path.parent),
        "released/manifest.json": lambda path: run(release.main, tmp_path / "good.pt", "a.pt", "--folder", path.parent),
        "report.pdf": lambda path: run(archive.main, "submission", tmp_path / "hw3.zip", path),
        "img_1.zip": lambda path: run(archive.main, "check", path),
        "digits/train.csv": lambda path: load_training_digits(path.parent),
    }
    for name, read in alone.items():
        path = put(name)

        def timed(read=read, path=path):
            with ten_seconds():
                return read(path)

        count.add(name, timed, never)


@pytest.mark.parametrize("name", ["../x.pt", "/tmp/x.pt", "a/x.pt", "..", "", "x.pt/"])
def test_a_name_leads_out_of_no_folder(tally, tmp_path, name):
    count, folder = tally("hostile: names in a manifest that lead elsewhere"), tmp_path / "a" / "checkpoints"
    save_weights(tmp_path / "w.pt", torch.nn.Linear(2, 2))
    run(release.main, tmp_path / "w.pt", "a.pt", "--folder", folder)
    before = sorted(tmp_path.rglob("*"))
    count.add("release", lambda: run(release.main, tmp_path / "w.pt", name, "--folder", folder), never)
    manifest = json.loads((folder / "manifest.json").read_text())
    entry = {**manifest["files"]["a.pt"], "urls": [(tmp_path / "w.pt").as_uri()]}
    (folder / "manifest.json").write_text(json.dumps({"files": {name: entry}}))
    count.add("download", lambda: run(download.main, "--folder", folder), never)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("target", [".", "..", "missing", "../images"])
def test_links_in_a_folder(tally, tmp_path, commands, target):
    count, folder = tally("hostile: links to folders, and to nothing, among pictures"), tmp_path / "images"
    before = tmp_path / "before.csv"
    run(predict, folder, before, "--weights", tmp_path / "p3.pt")
    (folder / "link").symlink_to(target)
    (folder / "link.png").symlink_to(target)
    again = lambda: run(predict, folder, tmp_path / "after.csv", "--weights", tmp_path / "p3.pt")
    count.add(target, again, lambda _: (tmp_path / "after.csv").read_bytes() == before.read_bytes())


NAMES = [
    b"caf\xe9",
    b"a\rb",
    b"a\nb",
    b'a"b',
    b"a,b",
    b" ",
    b"-n",
    b"a" * 243,
    b"a" * 250,
    b"a" * 251,
    bytes(range(1, 47)),
]
NAMES += [bytes(range(48, 256)), "数字".encode() * 40]


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_a_picture_may_have_any_name(tally, tmp_path, commands, name):
    count, folder = tally("names of every byte and length"), tmp_path / "named"
    folder.mkdir()
    picture = os.fsencode(folder) + b"/" + name + b".png"
    Image.new("RGB", (28, 28)).save(os.fsdecode(tmp_path / "a.png"))
    os.link(os.fsencode(tmp_path / "a.png"), picture)
    quoted = b'"' + name.replace(b'"', b'""') + b'.png"' if set(name) & set(b',"\r\n') else name + b".png"

    def predicted():
        run(predict, folder, tmp_path / "pred.csv", "--weights", tmp_path / "p3.pt")
        return (tmp_path / "pred.csv").read_bytes().rpartition(b",")[0]

    count.add(repr(name), predicted, lambda csv: csv == b"image_name,label\n" + quoted)


@pytest.mark.parametrize("length", [247, 251, 252, 255])
def test_a_noise_may_have_a_name_of_any_length(tally, tmp_path, commands, length):
    from p2_ddim.sample import main as sample

    count = tally("names of every byte and length")
    write_noises(tmp_path / "long", 1, 32)
    (tmp_path / "long" / "00.pt").rename(tmp_path / "long" / ("a" * (length - 3) + ".pt"))
    out = tmp_path / "out"
    drawn = lambda: run(sample, tmp_path / "long", out, tmp_path / "p2.pt", "--num-steps", 1)
    count.add(str(length), drawn, lambda _: len([*out.iterdir()]) == 1)
    assert length < 255 or not out.exists()  # refused before the work
