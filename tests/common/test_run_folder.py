"""Runs that go on, grow, and find their folder damaged."""

import contextlib
import json
from dataclasses import replace

import pytest
import torch

from common.cli import UserError
from common.run_folder import RunFolder, differences, read_settings
from common.training import fit
from tests.tiny_training import OPTIONS, Interrupted, interrupted_at, loss, network, read_metrics

pytestmark = pytest.mark.usefixtures("undrawn")


def test_other_options_do_not_continue_a_run_and_are_named(tmp_path):
    fit(loss, network(), OPTIONS, tmp_path, settings={"train": {"target": "svhn"}})
    with pytest.raises(
        UserError,
        match="-rate 0.001 there, --learning-rate 0.002 here; --target svhn there, --target",
    ):
        fit(loss, network(), replace(OPTIONS, learning_rate=2e-3), tmp_path, settings={"train": {"target": "usps"}})


def test_settings_that_differ_are_named_as_they_are_typed():
    there = {
        "fit": {"steps": 5, "clip": 1.0},
        "train": {"steps": 1, "widths": [16, 32], "flip": True, "mix": False},
        "data": {"fingerprint": "ab"},
        "old": {"level": 0},
    }
    here = {
        "fit": {"steps": 9, "clip": 1.0},
        "train": {"steps": 2, "widths": [16, 64], "flip": False, "mix": True, "init": "0123456789abcdefg"},
        "data": {"fingerprint": "cd"},
        "new": {"ema_decay": 0.5},
    }
    assert differences(there, here) == [
        "data ab there, data cd here",
        "no --ema-decay there, --ema-decay 0.5 here",
        "--level 0 there, no --level here",
        "--flip there, --no-flip here",
        "no --init there, --init 0123456789abcdef here",
        "--no-mix there, --mix here",
        "--steps 1 there, --steps 2 here",
        "--widths 16 32 there, --widths 16 64 here",
    ]


@pytest.mark.parametrize(
    "content, words",
    [
        (None, "no such file"),
        ('{"fit": {"steps": "6"}}', "not the options of a training"),
        ('{"fit": {"steps": 6}, "train": 1}', "not the options of a training"),
    ],
)
def test_options_that_cannot_be_a_runs_are_one_line(tmp_path, content, words):
    if content:
        (tmp_path / "options.json").write_text(content)
    with pytest.raises(UserError, match=rf"options.json: not readable as a run's options \({words}\); give another"):
        read_settings(tmp_path / "options.json")


@pytest.mark.parametrize("step, good", [(0, False), (1, True), (6, True), (7, False), ("1", False), (None, False)])
def test_a_state_is_of_a_step_that_the_run_has(tmp_path, step, good):
    folder, settings = RunFolder(tmp_path), {"fit": {"steps": 6, "log_every": 1}}
    folder.begin(settings, None)
    torch.save({"step": step} if step is not None else [1], tmp_path / "state.pt")
    if good:
        assert folder.resume(settings, lambda steps: steps) == {"step": step}
    else:
        with pytest.raises(UserError, match="not the state of a training of 6 steps; give another --run-dir"):
            folder.resume(settings, lambda steps: steps)


def test_a_resume_says_where_it_goes_on(tmp_path, capsys):
    with pytest.raises(Interrupted):
        fit(interrupted_at(4), network(), OPTIONS, tmp_path)
    assert "goes on" not in capsys.readouterr().err
    fit(loss, network(), OPTIONS, tmp_path)
    said = capsys.readouterr().err
    assert f"{tmp_path}: goes on after step 3 of 6" in said and "warning" not in said
    assert " 6/6 [" in said and "step/s" in said
    fit(loss, network(), OPTIONS, tmp_path)
    assert f"{tmp_path}: finished, all 6 steps" in capsys.readouterr().err


@pytest.mark.parametrize("cooldown, first, stop", [(0.5, 6, None), (0.5, 6, 2), (0.5, 8, 7), (0.0, 6, None)])
def test_a_run_made_longer_ends_as_if_it_had_been_so_from_the_start(tmp_path, cooldown, first, stop):
    options = replace(OPTIONS, steps=12, cooldown=cooldown, save_every=2)
    whole, longer = network(), network()
    fit(loss, whole, options, tmp_path / "whole")
    if stop is None:
        fit(loss, longer, replace(options, steps=first), tmp_path / "longer")
    else:
        with pytest.raises(Interrupted):
            fit(interrupted_at(stop), longer, replace(options, steps=first), tmp_path / "longer")
    longer = network()
    fit(loss, longer, options, tmp_path / "longer")
    assert all(torch.equal(x, y) for x, y in zip(whole.state_dict().values(), longer.state_dict().values()))
    assert [row["step"] for row in read_metrics(tmp_path / "longer")] == [2, 4, 6, 8, 10, 12]


def test_a_grown_run_goes_on_after_a_crash_before_its_next_state(tmp_path):
    options, whole, longer = replace(OPTIONS, steps=12, save_every=50), network(), network()
    fit(loss, whole, options, tmp_path / "whole")
    fit(loss, longer, replace(options, steps=8), tmp_path / "longer")
    for stop in (6, 7):
        with pytest.raises(Interrupted):
            fit(interrupted_at(stop), network(), options, tmp_path / "longer")
        assert read_settings(tmp_path / "longer" / "options.json")["fit"]["steps"] == 12
    longer = network()
    fit(loss, longer, options, tmp_path / "longer")
    assert all(torch.equal(x, y) for x, y in zip(whole.state_dict().values(), longer.state_dict().values()))


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_run_without_its_last_state_goes_on_before_the_cooldown(tmp_path):
    whole, again = network(), network()
    fit(loss, whole, OPTIONS, tmp_path)
    assert (tmp_path / "before_cooldown.pt").is_file()
    (tmp_path / "state.pt").unlink()
    with pytest.raises(UserError, match="--seed 0 there, --seed 1 here"):
        fit(loss, network(), replace(OPTIONS, seed=1), tmp_path)
    fit(loss, again, OPTIONS, tmp_path)
    assert all(torch.equal(x, y) for x, y in zip(whole.state_dict().values(), again.state_dict().values()))
    assert [row["step"] for row in read_metrics(tmp_path)] == [2, 4, 6]


@pytest.mark.parametrize("left", ["metrics.jsonl", "weights.pt"])
def test_a_run_that_lost_its_states_is_not_replaced(tmp_path, left):
    fit(loss, network(), replace(OPTIONS, save_every=2), tmp_path)
    (tmp_path / "weights.pt").write_bytes(b"weights")
    for path in tmp_path.iterdir():
        if path.name not in (left, "options.json"):
            path.unlink()
    before = contents(tmp_path)
    with pytest.raises(UserError, match="state.pt is lost.*remove the folder to start over"):
        fit(loss, network(), OPTIONS, tmp_path)
    assert contents(tmp_path) == before


def test_a_run_killed_before_its_first_state_starts_over(tmp_path):
    with pytest.raises(Interrupted):
        fit(interrupted_at(2), network(), OPTIONS, tmp_path)
    assert not (tmp_path / "state.pt").exists() and len(read_metrics(tmp_path)) == 1
    fit(loss, network(), OPTIONS, tmp_path)
    assert [row["step"] for row in read_metrics(tmp_path)] == [2, 4, 6]


@pytest.mark.parametrize("save_every, lost", [(1, True), (2, False)])
def test_metrics_beyond_the_first_state_say_that_it_is_lost(tmp_path, save_every, lost):
    folder, settings = RunFolder(tmp_path), {"fit": {"steps": 9, "log_every": 1, "save_every": save_every}}
    for step in (1, 2):
        folder.log({"step": step})
    with pytest.raises(UserError, match="state.pt is lost") if lost else contextlib.nullcontext():
        assert folder.resume(settings, lambda steps: steps) is None


def test_a_run_is_not_made_shorter_than_what_its_states_allow(tmp_path):
    fit(loss, network(), replace(OPTIONS, steps=12), tmp_path)
    before = (tmp_path / "state.pt").read_bytes(), (tmp_path / "options.json").read_bytes()
    with pytest.raises(
        UserError, match="12 steps can't become one of 6.*step 12 and 8, and one after step 5 or.*--steps 12"
    ):
        fit(loss, network(), replace(OPTIONS, steps=6), tmp_path)
    assert before == ((tmp_path / "state.pt").read_bytes(), (tmp_path / "options.json").read_bytes())


@pytest.mark.parametrize(
    "name, content, words",
    [
        ("options.json", b"", "not readable as a run's options"),
        ("options.json", b"[]", "not readable as a run's options"),
        ("options.json", b'{"fit": {}}', "not readable as a run's options"),
        ("state.pt", b"damaged", "text, not a PyTorch file"),
        ("state.pt", {"weights": 1}, "not the state of a training"),
        ("state.pt", {"step": 3, "sums": {}}, "a state of another version or network"),
    ],
)
def test_a_damaged_run_folder_is_one_line(tmp_path, name, content, words):
    fit(loss, network(), OPTIONS, tmp_path)
    (tmp_path / name).write_bytes(content) if isinstance(content, bytes) else torch.save(content, tmp_path / name)
    before = contents(tmp_path)
    with pytest.raises(UserError, match=words):
        fit(loss, network(), OPTIONS, tmp_path)
    assert contents(tmp_path) == before


def first_memory(state):
    return state["AdamW"]["state"][0]


ODD = {
    "negative": (lambda state: state.update(step=-2), "not the state of a training of 6 steps"),
    "beyond the end": (lambda state: state.update(step=7), "not the state of a training of 6 steps"),
    "no memory": (lambda state: state["AdamW"]["state"].clear(), "memory is lost"),
    "part of the memory": (lambda state: first_memory(state).pop("exp_avg"), "memory is lost"),
    "memory of another network": (
        lambda state: first_memory(state).update(exp_avg=torch.zeros(3, 3)),
        "memory is of another network",
    ),
    "no optimiser": (lambda state: state.update(AdamW=5), "another version or network"),
    "sums of numbers": (lambda state: state.update(sums={"loss": 1.0}), "another version or network"),
    "sums of vectors": (lambda state: state.update(sums={"loss": torch.zeros(2)}), "another version or network"),
    "sums without names": (lambda state: state.update(sums={1: torch.zeros(())}), "another version or network"),
}


@pytest.mark.parametrize("kind", ODD)
def test_an_odd_state_is_one_line_and_costs_nothing(tmp_path, kind):
    fit(loss, network(), OPTIONS, tmp_path)
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    change, words = ODD[kind]
    change(state)
    torch.save(state, tmp_path / "state.pt")
    before = contents(tmp_path)
    with pytest.raises(UserError, match=words):
        fit(loss, network(), OPTIONS, tmp_path)
    assert contents(tmp_path) == before


def test_metrics_of_any_bytes_do_not_stop_a_run(tmp_path):
    with pytest.raises(Interrupted):
        fit(interrupted_at(4), network(), OPTIONS, tmp_path)
    (tmp_path / "metrics.jsonl").write_bytes(b"caf\xe9\n")
    fit(loss, network(), OPTIONS, tmp_path)
    assert (tmp_path / "metrics.jsonl").read_bytes().startswith(b"caf\xe9\n")


def test_lost_metrics_do_not_stop_a_run(tmp_path, capsys):
    with pytest.raises(Interrupted):
        fit(interrupted_at(4), network(), OPTIONS, tmp_path)
    (tmp_path / "metrics.jsonl").unlink()
    fit(loss, network(), OPTIONS, tmp_path)
    assert f"warning: {tmp_path / 'metrics.jsonl'}: changed since the run wrote it\n" in capsys.readouterr().err
    assert [row["step"] for row in read_metrics(tmp_path)] == [4, 6]


def test_half_a_line_of_metrics_does_not_stop_a_run(tmp_path):
    with pytest.raises(Interrupted):
        fit(interrupted_at(5), network(), OPTIONS, tmp_path)
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 5, "lo')
    fit(loss, network(), OPTIONS, tmp_path)
    assert [row["step"] for row in read_metrics(tmp_path)] == [2, 4, 6]


def test_another_number_of_processes_is_another_run(tmp_path, monkeypatch):
    fit(loss, network(), OPTIONS, tmp_path)
    options = json.loads((tmp_path / "options.json").read_text())
    options["machine"]["world_size"] = 2
    (tmp_path / "options.json").write_text(json.dumps(options))
    with pytest.raises(UserError, match="processes 2 there, processes 1 here"):
        fit(loss, network(), OPTIONS, tmp_path)


def test_every_start_notes_the_machine(tmp_path):
    for _ in range(2):
        fit(loss, network(), OPTIONS, tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "machines.jsonl").read_text().splitlines()]
    assert len(lines) == 2 and lines[0]["torch"] == torch.__version__ and {"device", "python", "commit"} < set(lines[0])
    assert read_settings(tmp_path / "options.json")["machine"] == {"world_size": 1, "computed_in": "float32"}
