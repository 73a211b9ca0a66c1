"""benchmarks/memory.py, and what it says of hw2_2.sh."""

import torch

from benchmarks.memory import LivingTensors, sampling_peak
from p2_ddim.sample import GPU_CHUNK
from p2_ddim.unet import FaceUNetConfig


def test_only_living_tensors_count():
    with LivingTensors(torch.device("cpu")) as tensors:
        first = torch.ones(1024)  # 4 KiB
        view = first[:10]
        third = first + view.sum()  # the sum is 4 bytes of a block of 512
        del first
        assert tensors.bytes == 2 * 4096  # the view keeps the first one alive
        assert tensors.peak == 2 * 4096 + 512
        del view
        assert tensors.bytes == 4096 == third.numel() * third.element_size()


def test_the_default_chunk_fits_the_graders_gpu():
    peaks = [sampling_peak(FaceUNetConfig(), images) for images in (1, GPU_CHUNK)]
    assert 455e6 < peaks[0] < peaks[1] < 11e9 / 2
