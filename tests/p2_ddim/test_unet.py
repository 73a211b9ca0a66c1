import numpy as np
import pytest
import torch

from common.checkpoint import save_weights
from common.cli import UserError
from p2_ddim.sampling import for_inference, sample_faces, to_picture
from p2_ddim.unet import FaceUNet, FaceUNetConfig, load_face_unet
from tests.helpers import GOLDEN, THIN, filled


@pytest.fixture(scope="module")
def golden(tmp_path_factory):
    """The full-size network of the golden vector as hw2_2.sh runs it, and the vector."""
    rows = [line.split("\t") for line in (GOLDEN / "unet_pt_keys.tsv").read_text().splitlines()]
    shapes = {
        row[0]: tuple(int(n) for n in row[1].strip("()").split(",") if n.strip())
        for row in rows
        if row[1].startswith("(")
    }
    path = tmp_path_factory.mktemp("golden") / "UNet.pt"
    torch.save(filled(shapes), path)
    model = for_inference(load_face_unet(path), torch.device("cpu"))
    path.unlink()
    assert len(shapes) == len(model.state_dict()) == 427
    return model, np.load(GOLDEN / "golden_face.npz")


def test_the_keys_give_the_courses_config(golden):
    assert golden[0].config == FaceUNetConfig()


def test_network_meets_the_golden_vector(golden):
    model, vector = golden
    with torch.inference_mode():
        eps = model(torch.from_numpy(vector["noise"]), torch.from_numpy(vector["t"])).numpy()
    assert np.abs(eps - vector["eps"]).max() < 1e-4 * np.abs(vector["eps"]).max()


def test_sampler_meets_the_golden_vector(golden):
    model, vector = golden
    with torch.inference_mode():
        x_0 = sample_faces(model, torch.from_numpy(vector["noise"]), use_clipped_model_output=False)
    assert np.abs(x_0.numpy() - vector["x_0"]).max() < 2e-3
    pictures = torch.stack([to_picture(x) for x in x_0]).permute(0, 2, 3, 1).numpy().astype(float)
    assert ((pictures - vector["png"]) ** 2).mean() < 0.02


def test_a_thin_network_is_read_off_its_tensors(tmp_path):
    model = FaceUNet(THIN).eval()
    torch.save(model.state_dict(), tmp_path / "plain.pt")
    loaded = load_face_unet(tmp_path / "plain.pt")
    assert loaded.config == THIN
    x, t = torch.randn(1, 3, 32, 32), torch.tensor([7])
    assert torch.equal(loaded(x, t), model(x, t))
    save_weights(tmp_path / "ours.pt", model, THIN)
    assert torch.allclose(load_face_unet(tmp_path / "ours.pt")(x, t), model(x, t), atol=0.02)


def test_a_fresh_networks_frequencies_fall_geometrically_from_1_towards_a_ten_thousandth():
    assert torch.allclose(FaceUNet(THIN).time[0].inv_freq, 10_000 ** -(torch.arange(16) / 16))


@pytest.mark.parametrize("fault", ["missing key", "extra key", "wrong shape", "foreign", "no dictionary"])
def test_other_files_are_a_users_error(tmp_path, fault):
    state = FaceUNet(THIN).state_dict()
    if fault == "missing key":
        del state["mid1.attention.qkv.bias"]
    elif fault == "extra key":
        state["more"] = torch.zeros(1)
    elif fault == "wrong shape":
        state["up3.resblocks.conv2.weight"] = torch.zeros(3, 3)
    elif fault == "foreign":
        state = {"conv.weight": torch.zeros(1)}
    else:
        state = [1, 2]
    torch.save(state, tmp_path / "UNet.pt")
    with pytest.raises(UserError, match=r"UNet\.pt: .*the course's UNet\.pt"):
        load_face_unet(tmp_path / "UNet.pt")


def test_an_average_without_the_buffer_is_found_inside_a_file_and_said(tmp_path, capsys):
    state = FaceUNet(THIN).state_dict()
    average = {key: value for key, value in state.items() if key != "time.0.inv_freq"}
    torch.save({"model": {key: value + 1 for key, value in state.items()}, "ema": average}, tmp_path / "UNet.pt")
    found = load_face_unet(tmp_path / "UNet.pt").state_dict()
    assert found.keys() == state.keys() and all(torch.equal(found[key], value) for key, value in state.items())
    said = f"{tmp_path / 'UNet.pt'}: taking the weights under ema, not under model\n"
    assert capsys.readouterr().err == said


@pytest.mark.parametrize("order", [dict, lambda state: dict(sorted(state.items()))])
def test_nothing_is_said_of_a_plain_file_in_any_order(tmp_path, capsys, order):
    torch.save(order(FaceUNet(THIN).state_dict()), tmp_path / "UNet.pt")
    load_face_unet(tmp_path / "UNet.pt")
    assert capsys.readouterr().err == ""


NO_WEIGHTS = {
    "sparse": lambda w: w.to_sparse(),
    "quantised": lambda w: torch.quantize_per_tensor(w, 0.1, 0, torch.qint8),
    "int8": lambda w: w.to(torch.int8),
    "meta": lambda w: w.to("meta"),
    "complex": lambda w: w + 0j,
    "too large": lambda w: w.double() + 1e300,
}


@pytest.mark.parametrize("kind", NO_WEIGHTS)
def test_weights_that_are_no_plain_numbers_are_named(tmp_path, kind):
    state = FaceUNet(THIN).state_dict()
    state["out.2.weight"] = NO_WEIGHTS[kind](state["out.2.weight"])
    torch.save(state, tmp_path / "UNet.pt")
    with pytest.raises(UserError, match="out.2.weight|holds a Python object"):
        load_face_unet(tmp_path / "UNet.pt")


def test_a_nan_in_the_weights_is_named(tmp_path):
    state = FaceUNet(THIN).state_dict()
    state["out.2.weight"].view(-1)[0] = torch.nan
    torch.save(state, tmp_path / "UNet.pt")
    with pytest.raises(UserError, match="out.2.weight is not finite"):
        load_face_unet(tmp_path / "UNet.pt")
