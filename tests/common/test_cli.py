import errno
from types import SimpleNamespace

import pytest
import torch

from common.cli import UserError, command
from common.device import autocast, choose_device, has_bf16
from common.processes import MEETING, NUMBERS


@pytest.mark.parametrize(
    "error, message",
    [
        (UserError("a.pt: no such file"), "error: a.pt: no such file\n"),
        (OSError(errno.ENOSPC, "No space left on device", "out/a.png"), "error: out/a.png: No space left on device\n"),
        (ModuleNotFoundError("No module named 'diffusers'", name="diffusers"), "error: no package diffusers; "),
        (torch.cuda.OutOfMemoryError("CUDA out of memory. Tried"), "error: out of memory; "),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
            "error: out of memory; ",
        ),
        (RuntimeError("Unable to find a valid cuDNN algorithm to run convolution"), "error: out of memory; "),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), "error: out of memory; "),
        (RuntimeError("[../third_party/gloo/gloo/transport/tcp/pair.cc:589] Read error"), "error: another process of"),
        (RuntimeError("Application timeout caused pair closure"), "error: another process of this job has ended or "),
    ],
)
def test_what_the_user_can_mend_is_one_line_and_exit_code_2(error, message, capsys):
    @command
    def main(argv=None):
        raise error

    assert main() == 2
    err = capsys.readouterr().err
    assert err.startswith(message) and err.count("\n") == 1


@pytest.mark.parametrize("error", [KeyError("own mistake"), RuntimeError("mat1 and mat2 shapes cannot be multiplied")])
def test_other_errors_are_not_hidden(error):
    @command
    def main(argv=None):
        raise error

    with pytest.raises(type(error)):
        main()


def test_devices_are_named_as_torch_does():
    assert choose_device("cpu") == torch.device("cpu")
    with pytest.raises(UserError, match="--device nonsense: .*use auto"):
        choose_device("nonsense")


def test_cuda_is_the_gpu_of_this_process_and_in_float32_is_exact(monkeypatch):
    current = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    monkeypatch.setattr(torch, "empty", lambda *_, device: SimpleNamespace(device=torch.device(device)))
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    assert choose_device("auto") == torch.device("cuda:0") and not torch.backends.cudnn.allow_tf32
    for name, value in zip((*NUMBERS, *MEETING), ("5", "8", "1", "localhost", "29500")):
        monkeypatch.setenv(name, value)
    assert choose_device("auto") == choose_device("cuda") == torch.device("cuda:1")
    assert choose_device("cuda:3") == torch.device("cuda:3") and choose_device("cpu") == torch.device("cpu")
    assert current == [torch.device(f"cuda:{n}") for n in (0, 1, 1, 3)]


def test_bf16_is_used_where_the_device_has_it():
    cpu, x = torch.device("cpu"), torch.ones(2, 2)
    with autocast(cpu, "float32"):
        assert (x @ x).dtype == torch.float32
    with autocast(cpu, "bf16"):
        assert (x @ x).dtype == (torch.bfloat16 if has_bf16(cpu) else torch.float32)
