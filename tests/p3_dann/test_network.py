import pytest
import torch
from torch import nn

from p3_dann.inference import for_inference
from p3_dann.network import DigitNetwork, DomainBatchNorm2d, NetworkConfig
from tests.helpers import randomised


def test_each_domain_is_normalised_by_itself_and_the_targets_statistics_stay():
    source, target = torch.randn(8, 4, 5, 5) * 3 + 2, torch.randn(8, 4, 5, 5) - 1
    norm, alone = DomainBatchNorm2d(4, eps=0.1), nn.BatchNorm2d(4, eps=0.1)
    nn.init.normal_(norm.weight), nn.init.normal_(norm.bias)
    alone.load_state_dict(norm.state_dict())
    found = norm(torch.cat([source, target]))
    assert torch.allclose(found[8:], alone(target)) and norm.state_dict().keys() == alone.state_dict().keys()
    assert torch.equal(norm.running_mean, alone.running_mean) and torch.equal(norm.running_var, alone.running_var)
    assert torch.allclose(norm.eval()(source), alone.eval()(source))
    assert torch.allclose(found[:8], alone.train()(source), atol=1e-5)


@pytest.mark.parametrize("domain_statistics", [False, True])
def test_the_network_knows_its_options(domain_statistics):
    config = NetworkConfig(widths=(8, 8), domain_statistics=domain_statistics)
    network = DigitNetwork(config)
    assert network.config == config
    assert any(isinstance(m, DomainBatchNorm2d) for m in network.modules()) == domain_statistics
    assert network(torch.randn(4, 3, 28, 28)).features.shape == (4, 8)


def test_folding_for_inference_changes_no_output():
    network = randomised(DigitNetwork(NetworkConfig(widths=(8, 16))))
    for norm in (m for m in network.modules() if isinstance(m, nn.BatchNorm2d)):
        nn.init.uniform_(norm.running_mean, -1, 1)
        nn.init.uniform_(norm.running_var, 0.5, 2)
    x = torch.randn(4, 3, 28, 28)
    expected = network(x).logits
    folded = for_inference(network)
    assert torch.allclose(folded(x).logits, expected, atol=1e-5)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
