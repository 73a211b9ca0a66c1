"""The face network's tensors in what people save around them."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor

FIRST_KEY, LAST_KEY = "time.1.weight", "out.2.weight"  # which every such network has beside each other
BUFFER = "time.0.inv_freq"  # the only one; averages of parameters don't have it
State = dict[str, Tensor]


def find_state_dict(content: Any) -> tuple[State, str]:
    """The network's tensors, and in words where they were, "" for a plain file.

    Undone are a common prefix (DataParallel, torch.compile, AveragedModel) and dicts and lists that hold a state dict
    among other things, but for an optimizer's; of several, averaged weights (EMA) are preferred. Averages may also be a
    list (torch_ema, diffusers) or have names without dots (LitEma), beside the network that they are of.

    Raises:
        LookupError: there is no such network.
    """
    named: dict[str, State] = {}
    nameless: dict[str, State | Sequence[Tensor]] = {}
    for where, values in _dicts(content):
        named |= _networks(where, values, [FIRST_KEY, LAST_KEY])
        nameless |= _networks(where, values, [FIRST_KEY.replace(".", ""), LAST_KEY.replace(".", "")])
        if isinstance(values.get("shadow_params"), (list, tuple)):
            nameless[f"{where}shadow_params."] = values["shadow_params"]
    found = dict(named)
    for where, average in nameless.items():
        for network in named.values():
            if state := _with_names(average, network):
                found[where] = state
    if not found:
        raise LookupError(f"no tensors {FIRST_KEY} and {LAST_KEY} in one place")
    taken, *others = sorted(found, key=lambda where: not _averaged(where))
    if taken in ("", "state_dict.") and not others:
        return found[taken], ""
    left = f", not under {', '.join(where[:-1] or 'no name' for where in others)}" if others else ""
    return found[taken], f"the weights under {taken[:-1] or 'no name'}{left}"


def _dicts(content: Any, where: str = "", depth: int = 0) -> Iterator[tuple[str, dict[str, Any]]]:
    """Dicts in dicts and lists with the path to each, every part of it ending with a dot; without what isn't named by a
    string.
    """
    if depth > 4 or "optim" in where.lower():
        return
    if isinstance(content, (list, tuple)):
        content = dict(enumerate(content))
    elif isinstance(content, Mapping):
        yield where, {key: value for key, value in content.items() if isinstance(key, str)}
    else:
        return
    for key, value in content.items():
        yield from _dicts(value, f"{where}{key}.", depth + 1)


def _networks(where: str, values: Mapping[str, Any], ends: Sequence[str]) -> dict[str, State]:
    """By path, every network in a dict of tensors whose first and last key end so."""
    tensors = {key: value for key, value in values.items() if isinstance(value, Tensor)}
    first, last = ends
    prefixes = [key.removesuffix(first) for key in tensors if key.endswith(first)]
    return {
        where + prefix: {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        for prefix in prefixes
        if prefix + last in tensors
    }


def _with_names(average: State | Sequence[Tensor], network: State) -> State | None:
    """An average under the names of its network, or None where it is of another one."""
    names = {key.replace(".", ""): key for key in network if key != BUFFER}
    if not isinstance(average, dict):
        average = dict(zip(names, average)) if len(average) == len(names) else {}
    fits = all(name in average and average[name].shape == network[key].shape for name, key in names.items())
    return {**network, **{key: average[name] for name, key in names.items()}} if fits else None


def _averaged(where: str) -> bool:
    """Whether a path names averaged weights; beside them may lie the network that they follow (ema.online_model)."""
    followed = re.search("online|(no|non)_?ema", where, re.IGNORECASE)
    return not followed and bool(re.search(r"(?i:(\b|_)(ema|swa|shadow|averag))|E(ma|MA)|SWA", where))
