"""What a training shows while it runs: curves, previews, and events for TensorBoard. None of it can end the run."""

import math
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from common.images import grid, write_png


def draw_progress(run: Path, step: int, preview: Callable[[], Tensor] | None) -> None:
    """Draw run/curves.png anew and, where `preview` returns (N, 3, H, W) uint8, run/preview_STEP.png beside the earlier
    ones; what fails is said.
    """

    def curves(path: Path) -> None:
        from common.curves import draw_curves  # here, since matplotlib may be missing
        from common.figures import write_figure

        write_figure(draw_curves([run]), path)

    def pictures(path: Path) -> None:
        if preview:
            images = preview().cpu()
            write_png(path, grid(images, math.isqrt(len(images))))

    for name, draw in (("curves.png", curves), (f"preview_{step:07d}.png", pictures)):
        try:
            draw(run / name)
        except Exception as error:
            print(f"warning: {run / name}: not drawn ({error})", file=sys.stderr)


class Events:
    """Metrics in TensorBoard's files, in the run's folder; nothing where that package is missing."""

    def __init__(self, run: Path, *, done: int):
        """After `done` steps: what an interrupted run has said of later ones is hidden."""
        self.writer: Any = None
        try:
            from torch.utils.tensorboard import SummaryWriter

            self.writer = SummaryWriter(str(run), purge_step=done + 1)
        except Exception:  # an installation may be broken in many ways
            return

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        if self.writer:
            for name, value in metrics.items():
                self.writer.add_scalar(name, value, step)
            self.writer.flush()
