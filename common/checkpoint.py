"""Weight files: a config, metadata and tensors, nothing that could run code."""

import hashlib
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from common.cli import UserError
from common.config import from_json, to_json
from common.files import REPOSITORY, atomic_write

CHECKPOINTS = REPOSITORY / "checkpoints"
BLOCK = 1 << 18  # bytes read at a time

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
    """Raise UserError that names the first tensor with a NaN or an infinity."""
    for name, value in state_dict.items():
        if not value.isfinite().all():
            raise UserError(
                f"{path}: {name} is not finite, or too large for float16; train again with a lower --learning-rate"
            )


def save_tensors(path: Path, content: Any) -> None:
    """`torch.save`, whole or not at all. Raises UserError where the disk is full."""
    with atomic_write(path) as temporary:
        try:
            torch.save(content, temporary)
        except RuntimeError as error:  # torch's own writer hides the OSError
            raise UserError(f"{path}: can't be written ({str(error).splitlines()[0]}); is the disk full?") from None


def load_tensors(path: Path) -> Any:
    """`torch.load` on the CPU, tensors and plain values only.

    Raises UserError for what is missing, truncated or foreign.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "TypedStorage is deprecated")  # torch 2.0.1's own loader
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a dozen kinds for damaged files
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"{path}: not a readable PyTorch file ({reason}); is it complete?") from None


def load_network(path: Path, network_class: Callable[[Any], Network], config_class: type) -> Network:
    """The network of a weight file, for inference. Raises UserError where the file isn't one of this class."""
    weights = load_weights(path)
    try:
        model = network_class(from_json(config_class, weights.config))
        model.load_state_dict(weights.state_dict)
    except (ValueError, TypeError, RuntimeError) as error:
        raise UserError(
            f"{path}: not the weights of a {network_class.__name__} ({str(error).splitlines()[0]})"
        ) from None
    return model.eval().requires_grad_(False)


def load_weights(path: Path) -> Weights:
    """Read a file of `save_weights`. Raises UserError where it is missing, damaged or not of this project."""
    content = load_tensors(path)
    if not isinstance(content, dict) or set(content) != {"config", "metadata", "state_dict"}:
        raise UserError(
            f"{path}: not a weight file of this project; git checkout checkpoints restores the released ones"
        )
    state = {k: v.float() if v.is_floating_point() else v for k, v in content["state_dict"].items()}
    return Weights(content["config"], content["metadata"], state)


def sha256(path: Path) -> str:
    """Hexadecimal digest of a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def weights_id(path: Path) -> str:
    """What tables call a weight file: the first eight digits of its hash."""
    return sha256(path)[:8]
