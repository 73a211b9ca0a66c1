"""DDIM samples of a face network from given noises.

python3 -m p2_ddim.sample NOISE_DIR OUT_DIR UNET_PT      (hw2_2.sh)

Every NOISE_DIR/NAME.pt, a float tensor (1, 3, H, W), becomes OUT_DIR/NAME.png. Under torchrun the processes share the
chunks out, and the bytes are those of one process.
"""

import argparse
import os
import resource
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from common.cli import UserError, add_device, command, out_of_memory, some_path, wrote
from common.config import check_range
from common.device import choose_device, usable_precision
from common.diffusion import NotFinite
from common.files import make_folder
from common.images import write_png
from common.processes import alone_in, is_main_process, share
from p2_ddim.noise import noise_files, read_noise
from p2_ddim.sampling import (
    NUM_STEPS,
    NUM_TIMESTEPS,
    for_inference,
    sample_faces,
    step_noise_seeds,
    to_picture,
)
from p2_ddim.unet import FaceUNet, load_face_unet

GPU_CHUNK, CPU_CHUNK = 5, 1  # images at a time
LONGEST_NAME = 255  # bytes of a file's name on every common file system


def chunks(noises: dict[str, Tensor], size: int) -> Iterator[list[str]]:
    """Names in order, at most `size` at a time, only equal shapes together."""
    chunk: list[str] = []
    for name in noises:
        if chunk and (len(chunk) == size or noises[name].shape != noises[chunk[0]].shape):
            yield chunk
            chunk = []
        chunk.append(name)
    if chunk:
        yield chunk


def peak_memory(device: torch.device) -> int:
    """Bytes: the most that tensors took on a GPU, or that this process took in all on a CPU (Linux)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@torch.inference_mode()
def sample_to_files(
    model: FaceUNet,
    noises: dict[str, Tensor],
    out: Path,
    *,
    chunk_size: int,
    eta: float = 0.0,
    seed: int = 0,
    num_steps: int = NUM_STEPS,
    use_clipped_model_output: bool = False,
) -> None:
    """Write out/NAME.png for this process's share of the noises, in whole chunks; where the memory runs out, go on with
    half the chunk size.
    """
    device = next(model.parameters()).device
    seeds = dict(zip(noises, step_noise_seeds(len(noises), seed=seed)))
    queue = share(list(chunks(noises, chunk_size)))
    total, quiet = sum(map(len, queue)) * num_steps, not is_main_process()
    with tqdm(total=total, unit="step", desc="DDIM", disable=quiet) as bar:
        while queue:
            chunk = queue[0]
            x_T = torch.cat([noises[name] for name in chunk]).to(device)
            before, x_0 = bar.n, None
            try:
                x_0 = sample_faces(
                    model,
                    x_T,
                    num_steps=num_steps,
                    eta=eta,
                    use_clipped_model_output=use_clipped_model_output,
                    seeds=[seeds[name] for name in chunk],
                    on_step=bar.update,
                )
            except NotFinite as error:
                raise UserError(f"{chunk[error.row]}.pt: its image is {error}; is the network damaged?") from None
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                if len(chunk) == 1:
                    raise UserError(f"out of memory on {device} with one image at a time; try --device cpu") from None
                half = len(chunk) // 2
                queue = [whole[i : i + half] for whole in queue for i in range(0, len(whole), half)]
            if x_0 is None:  # outside the handler, whose traceback keeps the tensors of the failed step
                bar.update(before - bar.n)
                torch.cuda.empty_cache()
                continue
            for name, image in zip(chunk, x_0):
                write_png(out / f"{name}.png", to_picture(image))
            del queue[0]


@command
def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("noise_dir", type=some_path, help="folder of NAME.pt")
    parser.add_argument("out_dir", type=some_path, help="folder for NAME.png")
    parser.add_argument("unet_pt", type=some_path, help="the course's UNet.pt, or weights of p2_ddim.train")
    parser.add_argument("--num-steps", type=int, default=NUM_STEPS, help="of DDIM (default: 50)")
    parser.add_argument("--eta", type=float, default=0.0, help="0 deterministic DDIM, 1 as random as DDPM (default: 0)")
    parser.add_argument("--seed", type=int, default=0, help="for eta > 0")
    parser.add_argument(
        "--use-clipped-model-output",
        action="store_true",
        help="compute eps anew where x_0 was clipped, as DDIM should; without it the course's pixels",
    )
    parser.add_argument(
        "--precision",
        choices=("float32", "bf16", "fp16"),
        default="float32",
        help="bf16, and fp16 on a GPU: faster where the device has it, not the course's pixels",
    )
    parser.add_argument(
        "--chunk-size", type=int, help=f"images at a time (default: {GPU_CHUNK} on a GPU, {CPU_CHUNK} on a CPU)"
    )
    add_device(parser)
    arguments = parser.parse_args(argv)
    check_range("--num-steps", arguments.num_steps, 1, NUM_TIMESTEPS - 1)
    check_range("--eta", arguments.eta, 0, 1)
    check_range("--seed", arguments.seed, 0)
    device = choose_device(arguments.device)

    paths = noise_files(arguments.noise_dir)
    noises = {path.stem: read_noise(path) for path in paths}
    if len(noises) < len(paths):
        raise UserError(f"{arguments.noise_dir}: noises whose names differ in .pt and .PT alone; rename them")
    for path in paths:
        if len(os.fsencode(path.stem)) > LONGEST_NAME - len(".png"):
            raise UserError(f"{path}: its picture's name would be too long; give it a shorter one")
    if usable_precision(device, arguments.precision) != arguments.precision:
        print(f"{device} does not compute in {arguments.precision}: falling back to float32", file=sys.stderr)
    model = for_inference(load_face_unet(arguments.unet_pt), device, arguments.precision)
    make_folder(arguments.out_dir)
    default = CPU_CHUNK if device.type == "cpu" else GPU_CHUNK
    chunk_size = default if arguments.chunk_size is None else arguments.chunk_size
    check_range("--chunk-size", chunk_size, 1)
    how = {name: getattr(arguments, name) for name in ("eta", "seed", "num_steps", "use_clipped_model_output")}
    with alone_in(arguments.out_dir, wait=True):
        sample_to_files(model, noises, arguments.out_dir, chunk_size=chunk_size, **how)
    if is_main_process():
        wrote(arguments.out_dir, f"{len(noises)} pictures")
    print(f"peak memory {peak_memory(device) / 1e9:.2f} GB", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
