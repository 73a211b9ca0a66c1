"""What a training shows while it runs."""

import json
import sys
from types import SimpleNamespace

import pytest
import torch

from common import curves
from common.training import fit
from tests.tiny_training import OPTIONS, Interrupted, interrupted_at, loss, network, read_metrics


def write_metrics(run, rows):
    run.mkdir()
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return run


def test_every_metric_has_a_panel_and_every_run_a_line(tmp_path):
    rows = [{"step": step, "loss": 1 / step, "accuracy": step / 3, "learning_rate": 0.1} for step in (1, 2, 3)]
    rows[1]["loss"] = None
    runs = [write_metrics(tmp_path / "a", rows), write_metrics(tmp_path / "b", [{"step": 5, "loss": 2.0}])]
    with open(runs[1] / "metrics.jsonl", "a") as file:
        file.write('{"step": 6, "lo')  # it is being written
    first, rate, accuracy = curves.draw_curves(runs).axes
    assert [panel.get_title() for panel in (first, rate, accuracy)] == ["loss", "learning rate", "accuracy"]
    assert [line.get_xydata().tolist() for line in first.lines] == [[[1, 1], [3, 1 / 3]], [[5, 2]]]
    assert [text.get_text() for text in first.get_legend().get_texts()] == [str(run) for run in runs]
    assert (first.get_yscale(), accuracy.get_yscale(), len(accuracy.lines)) == ("log", "linear", 1)


def test_a_long_run_is_thinned_and_its_last_line_is_there(tmp_path):
    run = write_metrics(tmp_path / "run", [{"step": step} for step in range(1, 3 * curves.POINTS + 1)])
    assert [row["step"] for row in curves.read_metrics(run)] == [*range(3, 3 * curves.POINTS + 1, 3)]


def test_a_loss_below_zero_is_drawn_too(tmp_path):
    run = write_metrics(tmp_path / "run", [{"step": 1, "loss": 1.0}, {"step": 2, "loss": -1.0}])
    assert curves.draw_curves([run]).axes[0].get_yscale() == "linear"


@pytest.mark.parametrize("content", [None, "[1]}\n", '{"loss": 1}\n'])
def test_what_is_no_run_is_refused(tmp_path, capsys, content):
    if content:
        (tmp_path / "metrics.jsonl").write_text(content)
    assert curves.main([str(tmp_path), "--out", str(tmp_path / "curves.png")]) == 2
    assert "metrics.jsonl: " in capsys.readouterr().err and not (tmp_path / "curves.png").exists()


def test_a_training_draws_its_curves_and_keeps_its_previews(tmp_path):
    fit(loss, network(), OPTIONS, tmp_path, preview=lambda ema: torch.zeros(4, 3, 5, 5, dtype=torch.uint8))
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in tmp_path.glob("preview*")) == [f"preview_000000{n}.png" for n in (3, 5, 6)]
    rates = [row["learning_rate"] for row in read_metrics(tmp_path)]
    assert rates == pytest.approx([1e-3, 1e-3, 0.5e-3])


def test_a_drawing_that_fails_ends_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "common.curves", None)  # as where matplotlib is missing
    fit(loss, network(), OPTIONS, tmp_path, preview=lambda ema: 1 / 0)
    errors = capsys.readouterr().err
    assert "curves.png: not drawn" in errors and "preview_0000006.png: not drawn (division by zero)" in errors
    assert torch.load(tmp_path / "state.pt", weights_only=True)["step"] == OPTIONS.steps


def test_tensorboard_gets_the_metrics_where_it_is_installed(tmp_path, monkeypatch):
    events = []

    class Writer:
        def __init__(self, folder, purge_step):
            events.append((folder, purge_step))

        def add_scalar(self, name, value, step):
            if name == "loss":
                events.append((step, value))

        def flush(self):
            pass

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", SimpleNamespace(SummaryWriter=Writer))
    with pytest.raises(Interrupted):
        fit(interrupted_at(4), network(), OPTIONS, tmp_path)
    fit(loss, network(), OPTIONS, tmp_path)
    folder, lines = str(tmp_path), [(row["step"], row["loss"]) for row in read_metrics(tmp_path)]
    assert events == [(folder, 1), lines[0], lines[1], (folder, 4), lines[1], lines[2]]
