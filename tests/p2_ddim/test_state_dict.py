import contextlib

import pytest
import torch

from p2_ddim.state_dict import find_state_dict


@pytest.fixture
def state():
    """What a network's keys look like; the first and last are looked for."""
    keys = ("time.0.inv_freq", "time.1.weight", "mid1.attention.qkv.bias", "out.2.weight")
    return {key: torch.randn(2, 3 + number) for number, key in enumerate(keys)}


def parameters(state):
    return [value for key, value in state.items() if key != "time.0.inv_freq"]


WRAPPERS = {
    "DataParallel": lambda s: {f"module.{key}": value for key, value in s.items()},
    "torch.compile": lambda s: {f"_orig_mod.{key}": value for key, value in s.items()},
    "AveragedModel": lambda s: {"n_averaged": torch.tensor(5), **{f"module.{key}": value for key, value in s.items()}},
    "model": lambda s: {"epoch": 1, "model": s},
    "lightning": lambda s: {"epoch": 1, "state_dict": {f"model.{key}": value for key, value in s.items()}},
    "deep": lambda s: {"checkpoint": {"optimizer": {"state": {}}, "net": {f"module.{k}": v for k, v in s.items()}}},
    "sorted": lambda s: {"net": dict(sorted(s.items()))},
    "flat ema": lambda s: {
        **{f"online_model.{k}": v + 1 for k, v in s.items()},
        **{f"ema_model.{k}": v for k, v in s.items()},
    },
    "no ema": lambda s: {"model_no_ema": {k: v + 1 for k, v in s.items()}, "shadow": s},
    "capitals": lambda s: {"Model_No_EMA": {k: v + 1 for k, v in s.items()}, "Model_EMA": s},
    "averaged": lambda s: {"net": {k: v + 1 for k, v in s.items()}, "averaged_net": s},
    "swa": lambda s: {"net": {k: v + 1 for k, v in s.items()}, "swa_net": s},
    "moments": lambda s: {"optimizer": {"m": {k: v + 1 for k, v in s.items()}}, "model": s},
    "ema": lambda s: {"model": {k: v + 1 for k, v in s.items()}, "ema": s},
    "torch_ema": lambda s: {
        "net": {k: v + (k != "time.0.inv_freq") for k, v in s.items()},
        "ema": {"shadow_params": parameters(s), "collected_params": [v + 1 for v in parameters(s)]},
    },
    "LitEma": lambda s: {
        "state_dict": {
            **{f"model.{k}": v + (k != "time.0.inv_freq") for k, v in s.items()},
            "model_ema.decay": torch.tensor(0.9),
            **{f"model_ema.{k.replace('.', '')}": v for k, v in s.items() if k != "time.0.inv_freq"},
        },
        "hyper_parameters": {},
    },
    "ema of another network": lambda s: {"net": s, "ema": {"shadow_params": parameters(s)[1:]}},
    "ema of a larger network": lambda s: {
        "net": s,
        "ema": {"shadow_params": [v + 1 for v in (*parameters(s), torch.zeros(1))]},
    },
    "ema rates": lambda s: {"model": {k: v + 1 for k, v in s.items()}, "ema": {0.999: s}},
    "ema_pytorch": lambda s: {
        "ema": {**{f"online_model.{k}": v + 1 for k, v in s.items()}, **{f"ema_model.{k}": v for k, v in s.items()}}
    },
    "no word": lambda s: {"model": s, "schema": {k: v + 1 for k, v in s.items()}},
    "list": lambda s: [3, {"state_dict": {f"model.module.{k}": v for k, v in s.items()}}],
    "ema first": lambda s: {"ema_model": s, "state_dict": {k: v + 1 for k, v in s.items()}},
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_a_state_dict_is_found_in_what_people_save_around_it(state, wrapper):
    found, where = find_state_dict(WRAPPERS[wrapper](state))
    assert found.keys() == state.keys() and all(torch.equal(found[key], value) for key, value in state.items())
    assert where.startswith("the weights under ")


@pytest.mark.parametrize("around, found", [("abcd", True), ("abcde", False)])
def test_a_state_dict_is_looked_for_in_four_dicts(state, around, found):
    """Without a limit a dict that holds itself would be searched for ever."""
    content = state
    for name in around:
        content = {name: content}
    with contextlib.nullcontext() if found else pytest.raises(LookupError, match="time.1.weight and out.2.weight"):
        assert find_state_dict(content)[0].keys() == state.keys()


def test_what_is_taken_is_said_beside_what_is_not_unless_it_lies_in_a_usual_place(state):
    for content in (state, {"epoch": 1, "state_dict": state}):
        found, where = find_state_dict(content)
        assert found.keys() == state.keys() and where == ""
    words = {
        "the weights under ema": {"ema": state},
        "the weights under state_dict, not under net, b": {"state_dict": state, "net": state, "b": state},
        "the weights under ema, not under no name": {**state, "ema": state},
        "the weights under no name, not under net": {**state, "net": state},
    }
    assert {said: find_state_dict(content)[1] for said, content in words.items()} == {said: said for said in words}
