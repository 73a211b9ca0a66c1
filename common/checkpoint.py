"""Weight files: a config, metadata and tensors, nothing that could run code."""

import codecs
import re
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from common.cli import UserError
from common.config import from_json, to_json
from common.files import REPOSITORY, atomic_write
from common.manifest import check_listed, sha256
from common.zips import check_sums, check_unpacked_size, zip_members

CHECKPOINTS = REPOSITORY / "checkpoints"
PACKED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"7z\xbc\xaf": "7z", b"Rar!": "rar"}  # first bytes

Network = TypeVar("Network", bound=nn.Module)


class Weights(NamedTuple):
    config: dict[str, Any]  # builds the network
    metadata: dict[str, Any]  # how the weights came about
    state_dict: dict[str, Tensor]  # float tensors in float32


def save_weights(path: Path, module: nn.Module, config: Any = None, **metadata: Any) -> None:
    """Save a module's state dict with the dataclass that builds it (if any) and JSON-like metadata.

    Floats of two and more dimensions are stored in float16; vectors (gains, running means, frequencies) take little
    room.

    Raises:
        UserError: a weight is not finite, or beyond float16; nothing is written.
    """
    on_cpu = {k: v.detach().cpu() for k, v in module.state_dict().items()}
    state = {k: v.half() if v.is_floating_point() and v.ndim > 1 else v for k, v in on_cpu.items()}
    check_finite(path, state)
    save_tensors(path, {"config": to_json(config) if config else {}, "metadata": metadata, "state_dict": state})


def check_finite(path: Path, state_dict: Mapping[str, Tensor]) -> None:
    """Raise UserError that names the first tensor with a NaN or an infinity, or that isn't one with plain numbers."""
    for name, value in state_dict.items():
        if not is_plain(value):
            raise UserError(f"{path}: {name} is no tensor of real numbers (sparse, quantised?); give a dense one")
        if not value.isfinite().all():
            raise UserError(f"{path}: {name} is not finite, or too large for float16; use other weights")


def is_plain(value: Any) -> bool:
    """Whether something is a dense tensor of real numbers, with its whole content."""
    if not isinstance(value, Tensor) or value.layout != torch.strided:
        return False
    if value.is_meta or value.is_quantized or value.is_complex():
        return False
    return value.numel() * value.element_size() <= value.untyped_storage().nbytes()  # not one number many times


def save_tensors(path: Path, content: Any) -> None:
    """`torch.save`, whole or not at all, and flushed to the disk. Raises UserError where that is full."""
    with atomic_write(path, flush=True) as temporary:
        try:
            torch.save(content, temporary)
        except RuntimeError as error:  # torch's own writer hides the OSError
            raise UserError(f"{path}: can't be written ({str(error).splitlines()[0]}); is the disk full?") from None


def load_tensors(path: Path) -> Any:
    """`torch.load` on the CPU, tensors and plain values only; a .safetensors file where that package is there.

    Raises:
        UserError: the file is missing, truncated, not what the manifest beside it lists, or something else; says what
            it is.
    """
    if not path.is_file():
        raise UserError(f"{path}: {'not a regular file; save it as one' if path.exists() else 'no such file'}")
    check_listed(path)
    if is_safetensors(path):
        try:
            from safetensors.torch import load_file
        except ImportError:
            raise UserError(f"{path}: a safetensors file; pip install safetensors reads it") from None
        try:
            return load_file(path)
        except Exception as error:  # safetensors' own, which has no public base class
            raise UserError(f"{path}: a damaged safetensors file ({error})") from None
    if is_torchscript(path):  # which torch 2.0.1 would run in spite of weights_only
        raise UserError(f"{path}: a TorchScript module; save its state_dict() with torch.save instead")
    check_unpacked_size(path)
    try:
        check_sums(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch 2.0.1's own loader, and of foreign files
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a dozen kinds for damaged files
        raise UserError(f"{path}: {what_it_is(path, str(error))}") from None


def is_torchscript(path: Path) -> bool:
    """Whether a file is what torch.jit.save writes."""
    return any(member.filename.endswith("/constants.pkl") for member in zip_members(path))


def is_safetensors(path: Path) -> bool:
    """Whether a file begins as one of Hugging Face's: the length of a JSON header, and the header."""
    with open(path, "rb") as file:
        start = file.read(9)
    return len(start) == 9 and start[8:] == b"{" and int.from_bytes(start[:8], "little") < path.stat().st_size


def what_it_is(path: Path, error: str) -> str:
    """What a file is that `torch.load` refuses with an error, and what to do."""
    with open(path, "rb") as file:
        start = file.read(512)
    if not start:
        return "an empty file; copy or download it again"
    if start.removeprefix(codecs.BOM_UTF8).lstrip()[:1] == b"<":
        return "a web page, not a PyTorch file; open the link in a browser and download the file itself"
    if start.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the file itself; run git lfs pull"
    members = zip_members(path)
    if start.startswith(b"\x93NUMPY") or members and all(member.filename.endswith(".npy") for member in members):
        return "NumPy arrays, not a PyTorch file; save tensors with torch.save"
    if members and not any(member.filename.endswith("/data.pkl") for member in members):
        return "a zip file, but not of torch.save; unpack it first"
    for first, packer in PACKED.items():
        if start.startswith(first):
            return f"packed by {packer}; unpack it first"
    text = " ".join(start.decode("utf-8", "surrogateescape").split())
    if text.isprintable():
        return f"text, not a PyTorch file ({text[:60]}); copy or download the file itself"
    if found := re.search(r"(?:GLOBAL|class|global) `?'?([A-Za-z_][\w.]*\.\w+)", error):
        return f"holds a Python object ({found[1]}), not only tensors; save a tensor or a state_dict() with torch.save"
    if "Unsupported operand 149" in error:  # FRAME, of protocol 4 and later
        return "a pickle of a protocol that can't be loaded safely; save a tensor or a state_dict() with torch.save"
    return "damaged, or not a PyTorch file; copy or download it again"


def load_network(path: Path, network_class: Callable[[Any], Network], config_class: type) -> Network:
    """The network of a weight file, for inference. Raises UserError where the file isn't one of this class."""
    weights = load_weights(path)
    try:
        config: Any = from_json(config_class, weights.config)
        with torch.device("meta"):  # whose networks take no memory, however large the config says they are
            shapes = {name: value.shape for name, value in network_class(config).state_dict().items()}
        if shapes != {name: value.shape for name, value in weights.state_dict.items()}:
            raise ValueError("tensors of other names or shapes than its config says")
        model = network_class(config)
        model.load_state_dict(weights.state_dict)
    except (ValueError, TypeError, RuntimeError) as error:
        raise UserError(
            f"{path}: not the weights of a {network_class.__name__} ({str(error).splitlines()[0]})"
        ) from None
    return model.eval().requires_grad_(False)


def load_weights(path: Path) -> Weights:
    """Read a file of `save_weights`.

    Raises:
        UserError: it is missing, damaged or not of this project, or a weight is not finite.
    """
    content = load_tensors(path)
    parts = ("config", "metadata", "state_dict")
    if not isinstance(content, dict) or {*content} != {*parts} or not all(isinstance(content[k], dict) for k in parts):
        raise UserError(
            f"{path}: not a weight file of this project; git checkout checkpoints restores the released ones"
        )
    check_finite(path, content["state_dict"])
    state = {k: v.float() if v.is_floating_point() else v for k, v in content["state_dict"].items()}
    return Weights(content["config"], content["metadata"], state)


def weights_id(path: Path) -> str:
    """What tables call a weight file: the first eight digits of its hash."""
    return sha256(path)[:8]
