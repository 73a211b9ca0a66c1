import io
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from common.cli import UserError
from common.images import (
    grid,
    nearest_distance,
    picture_files,
    pictures_of_array,
    read_pictures,
    read_rgb,
    sums_hold,
    to_uint8,
    to_unit_range,
    write_png,
)


def test_uint8_survives_the_unit_range():
    values = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_uint8(to_unit_range(values)), values)
    assert to_uint8(torch.tensor([-3.0, 3.0])).tolist() == [0, 255]


def test_png_round_trip(tmp_path):
    image = torch.randint(0, 256, (3, 5, 7), dtype=torch.uint8)
    write_png(tmp_path / "a.png", image)
    assert np.array_equal(np.asarray(read_rgb(tmp_path / "a.png")), image.permute(1, 2, 0).numpy())


def test_checksums_see_every_flipped_bit_and_what_is_cut_or_added(tmp_path):
    write_png(tmp_path / "a.png", torch.zeros(3, 2, 2, dtype=torch.uint8))
    whole = (tmp_path / "a.png").read_bytes()
    damaged = [whole[:i] + bytes([whole[i] ^ 1 << bit]) + whole[i + 1 :] for i in range(len(whole)) for bit in range(8)]
    assert sums_hold(whole) and not any(map(sums_hold, [*damaged, whole[:-1], whole + b"a", b""]))


def test_a_picture_that_would_fill_the_memory_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("common.images.MOST_PIXELS", 99)
    Image.new("RGB", (10, 10)).save(tmp_path / "a.png")
    with pytest.raises(UserError, match=r"a\.png: .*10 x 10 pixels, more than 99"):
        read_rgb(tmp_path / "a.png")


GREY = np.arange(0, 250, 10, dtype=np.uint8).reshape(5, 5)


@pytest.mark.parametrize(
    "picture",
    [
        Image.fromarray(GREY),
        Image.fromarray(GREY).convert("P"),
        Image.fromarray(GREY.astype(np.uint16) * 257),
        Image.fromarray(GREY).convert("RGBA"),
        Image.fromarray(GREY).convert("LA"),
    ],
    ids=["grey", "palette", "16 bit", "rgba", "grey with alpha"],
)
def test_every_kind_of_picture_reads_as_the_same_rgb(tmp_path, picture):
    picture.save(tmp_path / "a.png")
    assert np.array_equal(np.asarray(read_rgb(tmp_path / "a.png")), np.repeat(GREY[..., None], 3, axis=2))


def test_transparent_pixels_are_white(tmp_path):
    Image.new("RGBA", (2, 2), (10, 20, 30, 0)).save(tmp_path / "a.png")
    assert np.asarray(read_rgb(tmp_path / "a.png")).min() == 255


def test_a_transparent_level_of_16_bits_is_white(tmp_path):
    Image.fromarray(GREY.astype(np.uint16) * 257).save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    level = b"tRNS" + struct.pack(">H", 257 * 20)
    at = content.index(b"IDAT") - 4
    chunk = struct.pack(">I", 2) + level + struct.pack(">I", zlib.crc32(level))
    (tmp_path / "a.png").write_bytes(content[:at] + chunk + content[at:])
    assert np.array_equal(np.asarray(read_rgb(tmp_path / "a.png"))[..., 0], np.where(GREY == 20, 255, GREY))


def encoded(kind):
    content = io.BytesIO()
    Image.effect_noise((28, 28), 50).convert("RGB").save(content, kind)
    return content.getvalue()


def png_with_short_chunk(kind):
    """A whole picture with a malformed chunk behind its pixels."""
    chunk = struct.pack(">I", 0) + kind + struct.pack(">I", zlib.crc32(kind))
    return encoded("PNG")[:-12] + chunk + encoded("PNG")[-12:]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no picture",
        b"\x89PNG\r\n\x1a\n",
        *[encoded(kind)[: len(encoded(kind)) // 2] for kind in ("PNG", "JPEG", "WEBP", "TIFF")],
        png_with_short_chunk(b"gAMA"),
    ],
)
def test_damaged_pictures_are_a_users_error(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.png: not a readable image"):
        read_rgb(tmp_path / "a.png")


def test_grid_lays_out_row_by_row():
    images = torch.arange(6, dtype=torch.uint8)[:, None, None, None].expand(6, 3, 2, 2)
    canvas = grid(images, 3, gap=1)
    assert canvas.shape == (3, 7, 10)
    assert (
        canvas[0, 1, 1::3].tolist() == [0, 1, 2] and canvas[0, 4, 1::3].tolist() == [3, 4, 5] and canvas[0, 0, 0] == 255
    )


def test_both_forms_of_a_set_are_the_same_squares(tmp_path):
    arrays = np.random.RandomState(0).randint(0, 256, (6, 20, 24, 3), dtype=np.uint8)
    np.savez(tmp_path / "set.npz", images=arrays)
    (tmp_path / "set").mkdir()
    for number, array in enumerate(arrays):
        Image.fromarray(array).save(tmp_path / "set" / f"{number}.png")
    for name in ("set", "set.npz"):
        assert read_pictures(tmp_path / name, 10).shape == (6, 3, 10, 10)
        assert torch.equal(read_pictures(tmp_path / name), torch.from_numpy(arrays).permute(0, 3, 1, 2))
        cut = read_pictures(tmp_path / name, 20)
        assert torch.equal(cut, torch.from_numpy(arrays[:, :, 2:22]).permute(0, 3, 1, 2))
    assert torch.equal(*(read_pictures(tmp_path / name, 10) for name in ("set", "set.npz")))
    np.savez(tmp_path / "grey.npz", images=arrays[..., 0])
    assert torch.equal(read_pictures(tmp_path / "grey.npz")[:, 2], torch.from_numpy(arrays[..., 0]))
    Image.fromarray(arrays[0, :5]).save(tmp_path / "set" / "odd.png")
    with pytest.raises(UserError, match="several sizes"):
        read_pictures(tmp_path / "set")


@pytest.mark.parametrize("kind", ["text", "empty", "truncated", "array", "complex", "missing"])
def test_a_foreign_or_missing_set_is_named(tmp_path, kind):
    images, path = np.zeros((3, 8, 8, 3), np.uint8), tmp_path / "bad.npz"
    np.savez(path, images=images * 1j if kind == "complex" else images)
    if kind == "array":
        np.save(tmp_path / "array.npy", images)
        (tmp_path / "array.npy").rename(path)
    elif kind in ("text", "empty", "truncated"):
        path.write_bytes({"text": b"text", "empty": b"", "truncated": path.read_bytes()[:-40]}[kind])
    elif kind == "missing":
        path.unlink()
    with pytest.raises(UserError, match="bad.npz: (not a .npz|no such file)"):
        read_pictures(tmp_path / "bad.npz")


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("orientation, turns", [(1, 0), (3, 2), (6, 1), (8, 3)])
def test_a_picture_is_read_as_a_viewer_shows_it(tmp_path, orientation, turns, suffix):
    upright = np.zeros((16, 16, 3), np.uint8)
    upright[:8, :8] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.rot90(upright, turns).copy()).save(tmp_path / f"a.{suffix}", exif=exif)
    assert np.array_equal(np.asarray(read_rgb(tmp_path / f"a.{suffix}")), upright)


@pytest.mark.parametrize("scale", [1.0, 255.0])
def test_float_pictures_are_not_black(tmp_path, scale):
    values = np.linspace(0, scale, 16, dtype=np.float32).reshape(4, 4)
    Image.fromarray(values).save(tmp_path / "a.tif")
    expected = np.linspace(0, 255, 16).round().reshape(4, 4)
    assert np.array_equal(np.asarray(read_rgb(tmp_path / "a.tif"))[..., 0], expected)
    Image.fromarray(values - scale).save(tmp_path / "b.tif")
    with pytest.raises(UserError, match="floats from"):
        read_rgb(tmp_path / "b.tif")


@pytest.mark.parametrize("dtype", [np.uint16, np.int32])
@pytest.mark.parametrize("scale", [1, 257])
def test_wide_pictures_are_read_by_their_range(tmp_path, dtype, scale):
    Image.fromarray(GREY.astype(dtype) * dtype(scale)).save(tmp_path / "a.tif")
    assert np.array_equal(np.asarray(read_rgb(tmp_path / "a.tif"))[..., 0], GREY)


@pytest.mark.parametrize("offset", [-1, 65_500])
def test_wide_pictures_of_another_range_are_refused(tmp_path, offset):
    Image.fromarray(GREY.astype(np.int32) + offset).save(tmp_path / "a.tif")
    with pytest.raises(UserError, match="whole numbers from"):
        read_rgb(tmp_path / "a.tif")


RGB = np.random.RandomState(1).randint(0, 256, (5, 8, 8, 3), dtype=np.uint8)
ONE_CHANNEL = RGB[..., 0]


@pytest.mark.parametrize(
    "array, expected",
    [
        (RGB, RGB),
        (RGB.transpose(0, 3, 1, 2), RGB),
        (RGB.astype(np.int64), RGB),
        (RGB / 255, RGB),
        (RGB.astype(np.float32), RGB),
        (ONE_CHANNEL, ONE_CHANNEL[..., None]),
        (ONE_CHANNEL[..., None], ONE_CHANNEL[..., None]),
        (ONE_CHANNEL[:, None], ONE_CHANNEL[..., None]),
        (ONE_CHANNEL.reshape(5, 64), ONE_CHANNEL[..., None]),
        (ONE_CHANNEL > 99, (ONE_CHANNEL > 99)[..., None] * np.uint8(255)),
    ],
)
def test_arrays_in_the_wild_are_read(array, expected):
    assert np.array_equal(pictures_of_array(array), np.broadcast_to(expected, (5, 8, 8, 3)))


@pytest.mark.parametrize(
    "array",
    [
        RGB - 0.5,
        RGB * 2.0,
        RGB.astype(int) + 1,
        (ONE_CHANNEL > 99).astype(int),
        (ONE_CHANNEL > 99).astype(np.uint8),
        RGB[:, :3],
        RGB.reshape(5, -1),
        RGB[..., :2],
        RGB[0].transpose(2, 0, 1),
        RGB[0],
        np.zeros((16, 16), np.uint8),
        RGB[0, 0, 0],
    ],
)
def test_arrays_that_could_be_read_in_two_ways_or_none_are_refused(array):
    with pytest.raises(ValueError, match="give"):
        pictures_of_array(array)


def test_one_policy_for_all_folders_of_pictures(tmp_path, capsys):
    for name in ("b.PNG", "a.jfif", ".hidden.png", "Thumbs.db", "labels.csv", "x.txt", "y.txt"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in picture_files(tmp_path)] == ["a.jfif", "b.PNG"]
    assert "left out as no pictures: 'Thumbs.db', 'folder.png', 'labels.csv' and 2 more" in capsys.readouterr().err


def test_pictures_one_folder_below_are_taken_and_said(tmp_path, capsys):
    (tmp_path / "outer" / "data").mkdir(parents=True)
    (tmp_path / "outer" / "data" / "a.png").write_bytes(b"")
    assert picture_files(tmp_path) == [tmp_path / "outer" / "data" / "a.png"]
    assert f"taking those of {tmp_path / 'outer' / 'data'}" in capsys.readouterr().err
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "b.png").write_bytes(b"")
    with pytest.raises(UserError, match="pictures only in 2 folders below; give one, like"):
        picture_files(tmp_path)
    with pytest.raises(UserError, match="no such folder"):
        picture_files(tmp_path / "none")


def test_links_to_folders_are_searched_and_loops_end(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "a.png").write_bytes(b"")
    (tmp_path / "far" / "loop").symlink_to(tmp_path / "images")
    for name in ("link", "again"):
        (tmp_path / "images" / name).symlink_to(tmp_path / "far")
    assert picture_files(tmp_path / "images") == [tmp_path / "images" / "again" / "a.png"]


def test_a_damaged_exif_block_costs_no_picture(tmp_path):
    Image.new("RGB", (4, 4), "red").save(tmp_path / "a.png", exif=b"garbage")
    assert read_rgb(tmp_path / "a.png").getpixel((0, 0)) == (255, 0, 0)


def test_what_resizing_overshoots_is_clipped():
    scaled = RGB / 255 * 1.000001 - 1e-9
    assert np.array_equal(pictures_of_array(scaled), RGB)


def test_what_a_mac_or_a_notebook_adds_is_not_looked_at(tmp_path):
    for name in ("data/a.png", "__MACOSX/data/._a.png", "__MACOSX/b.png", "data/.ipynb_checkpoints/c.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert picture_files(tmp_path) == [tmp_path / "data" / "a.png"]


def test_what_pillow_would_start_a_program_for_is_no_picture(tmp_path):
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 28 28\n%%EndComments\nshowpage\n")
    with pytest.raises(UserError, match="cannot identify image file"):
        read_rgb(tmp_path / "a.png")


def test_nearest_distance_is_the_root_mean_square_to_the_closest():
    training = torch.randint(0, 256, (50, 3, 28, 28), dtype=torch.uint8)
    images = training[:3].clone()
    images[1] = (images[1].int() + 1).clamp(max=255).to(torch.uint8)
    images[2] = 255 - images[2]
    every = ((images[:, None].double() - training[None].double()) ** 2).flatten(2).mean(2).sqrt()
    distance = nearest_distance(images, training, batch_size=2)
    assert distance[0] == 0
    assert torch.allclose(distance.double(), every.amin(1), atol=1e-4)
