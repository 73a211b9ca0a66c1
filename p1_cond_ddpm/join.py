"""Give a network a guide: a worse one of the same kind, narrower and trained for less. Writes both as one file.

python3 -m p1_cond_ddpm.join runs/p1/weights.pt runs/p1_guide/weights.pt runs/p1/guided.pt

The presets mnistm and guide, one after the other, train the guide. A network that has one already gets the new one.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace

from common.checkpoint import load_network, load_weights, save_weights
from common.cli import UserError, command, some_path, wrote
from p1_cond_ddpm.unet import UNet, UNetConfig, guide_config, without_guidance


@command
def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=some_path, help="of the network")
    parser.add_argument("guide", type=some_path, help="weights of the worse network")
    parser.add_argument("out", type=some_path, help="the file to write")
    arguments = parser.parse_args(argv)
    model = load_network(arguments.weights, UNet, UNetConfig)
    guide = without_guidance(load_network(arguments.guide, UNet, UNetConfig))
    model.guide = None
    config = replace(model.config, guide_widths=guide.config.widths)
    if guide.config != guide_config(config):
        raise UserError(f"{arguments.guide}: differs from {arguments.weights} in more than its widths; train another")
    joined, model.guide = UNet(config), guide
    joined.load_state_dict(model.state_dict())
    how = load_weights(arguments.weights).metadata | {"guide": load_weights(arguments.guide).metadata}
    save_weights(arguments.out, joined, config, **how)
    wrote(arguments.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
