"""A training of a few steps on a few numbers, and ways to stop it."""

import json

import torch
from torch import nn

from common.optimisers import FitOptions

OPTIONS = FitOptions(steps=6, save_every=3, log_every=2, warmup=2, precision="float32", ema_decay=0.9)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 20), nn.BatchNorm1d(20), nn.Dropout(0.5), nn.Linear(20, 20), nn.Linear(20, 1))


def loss(module, step):
    x = torch.randn(16, 4)
    return (module(x) - x.sum(1, keepdim=True)).square().mean(), {"batch": step.batch}


def read_metrics(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


class Interrupted(Exception):
    pass


def interrupted_at(stop):
    def interrupting(module, step):
        if step.step == stop:
            raise Interrupted
        return loss(module, step)

    return interrupting
