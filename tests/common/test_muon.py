import pytest
import torch
from torch import nn

from common import muon
from common.muon import COEFFICIENTS, Muon, orthogonalised
from common.optimisers import FitOptions, make_optimizers


@pytest.mark.parametrize("rows, columns", [(20, 60), (60, 20), (32, 32)])
def test_singular_values_become_one_and_directions_stay(rows, columns):
    generator = torch.Generator().manual_seed(0)
    matrices = torch.randn(3, rows, columns, generator=generator) * torch.tensor([1e-3, 1.0, 1e3])[:, None, None]
    u, _, vh = torch.linalg.svd(matrices, full_matrices=False)
    got = orthogonalised(matrices)
    assert got.shape == matrices.shape and got.dtype == torch.float32
    along = (u.mT @ got @ vh.mT).diagonal(dim1=1, dim2=2)  # singular values in the basis of the exact decomposition
    assert along[:, :-3].min() > 0.6 and along.max() < 1.3
    assert (got - u @ along.diag_embed() @ vh).abs().max() < 0.05


def test_every_singular_value_goes_five_times_through_the_quintic(monkeypatch):
    monkeypatch.setattr(muon, "has_bf16", lambda device: False)
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(1, 12, 30, generator=generator)
    u, s, vh = torch.linalg.svd(matrix.double(), full_matrices=False)
    s = s / s.norm()
    for _ in range(5):
        s = COEFFICIENTS[0] * s + COEFFICIENTS[1] * s**3 + COEFFICIENTS[2] * s**5
    assert (orthogonalised(matrix) - u @ s.diag_embed() @ vh).abs().max() < 1e-4


def test_a_step_moves_by_the_rate_along_the_orthogonalised_gradient():
    weight = nn.Parameter(torch.randn(24, 3, 5, 5, generator=torch.Generator().manual_seed(1)))
    before, weight.grad = weight.detach().clone(), torch.randn(24, 3, 5, 5, generator=torch.Generator().manual_seed(2))
    Muon([weight], lr=0.1, weight_decay=0.5).step()
    moved = weight.detach() - before * (1 - 0.1 * 0.5)
    assert moved.square().mean().sqrt() == pytest.approx(0.1 * 0.2, rel=0.25)  # AdamW's updates at this rate, about
    direction = orthogonalised(weight.grad.flatten(1)[None])[0]
    assert torch.cosine_similarity(moved.flatten(), -direction.flatten(), dim=0) > 0.999


def test_momentum_averages_gradients():
    weight = nn.Parameter(torch.zeros(20, 20))
    optimizer = Muon([weight], lr=1.0)
    noise = torch.randn(40, 20, 20, generator=torch.Generator().manual_seed(3))
    for one in noise:
        weight.grad = torch.eye(20) + one
        optimizer.step()
    assert weight.detach().diagonal().mean() < -1 and weight.detach().fill_diagonal_(0).mean().abs() < 0.1


def test_hidden_matrices_go_to_muon_and_the_rest_to_adamw():
    module = nn.ModuleDict({"embed": nn.Embedding(11, 32), "hidden": nn.Conv2d(32, 32, 3), "out": nn.Conv2d(32, 12, 3)})
    muon, adamw = make_optimizers(module, FitOptions(optimizer="muon"))
    assert [p.shape for group in muon.param_groups for p in group["params"]] == [module["hidden"].weight.shape]
    assert sum(p.numel() for o in (muon, adamw) for g in o.param_groups for p in g["params"]) == sum(
        p.numel() for p in module.parameters()
    )
    assert [type(o) for o in make_optimizers(module, FitOptions(optimizer="adamw"))] == [torch.optim.AdamW]
