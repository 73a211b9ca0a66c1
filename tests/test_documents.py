"""What README and the guides tell one to type is a command line; the numbers of their tables are those of docs/."""

import argparse
import csv
import importlib
import os
import re
import shlex
import subprocess
import sys

import pandas as pd
import pytest

from common.checkpoint import CHECKPOINTS, weights_id
from common.files import REPOSITORY
from common.measurements import read_measurements
from p1_cond_ddpm.figures import sweep_lines
from p1_cond_ddpm.sampling import GRADED
from tests.helpers import GUIDES, block_lines

DOCS = REPOSITORY / "docs"
SCRIPTS = {
    "hw2_1.sh": "p1_cond_ddpm.sample",
    "hw2_2.sh": "p2_ddim.sample",
    "hw2_3.sh": "p3_dann.predict",
    "hw2_download.sh": "homework.download",
    "demo.sh": "homework.demo",
    "grade.sh": "homework.grade",
}
TESTS = ([], ["--current"], ["-m", "slow"], ["-m", "faults"])  # arguments of test.sh
README = GUIDES[0].read_text(encoding="utf-8")
MNIST = (DOCS / "mnist.md").read_text(encoding="utf-8")
BEFORE = "c8aedfa3"  # MNIST's network before its blacks were exact


class Parsed(Exception):
    """A command line that its module's own parser has taken."""


def lines_to_parse():
    """Every command of a sentence or a table; of blocks those that test_guides.py runs with a stand-in for Python."""
    for guide in GUIDES:
        text = guide.read_text(encoding="utf-8")
        yield from re.findall(r"`((?:bash|python3 -m|python3 \w+\.py) [^`…]+)`", text)
        yield from (line for line in block_lines(text) if line.startswith(("bash demo.sh", "bash test.sh")))


def parse(module, arguments, monkeypatch):
    """Let a module's own parser read arguments, and stop there."""
    keep = argparse.ArgumentParser.parse_args

    def parse_and_stop(parser, *given, **options):
        keep(parser, *given, **options)  # exits where the line asks for help
        raise Parsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_and_stop)
    monkeypatch.chdir(REPOSITORY)
    with pytest.raises((Parsed, SystemExit)) as end:
        importlib.import_module(module).main(arguments)
    assert isinstance(end.value, Parsed) or end.value.code == 0


@pytest.mark.parametrize("line", sorted({*lines_to_parse()}))
def test_a_line_in_a_guides_text_is_a_command_line(line, monkeypatch):
    """Those of blocks are run by test_guides.py."""
    words = shlex.split(line)
    released = [word for word in words if re.fullmatch(r"checkpoints/\w+\.pt", word)]
    assert all((REPOSITORY / word).is_file() for word in released)
    if words[0] == "python3":
        module, arguments = (words[2], words[3:]) if words[1] == "-m" else (words[1].removesuffix(".py"), words[2:])
        parse(module, arguments, monkeypatch)
    elif words[1] in SCRIPTS:
        parse(SCRIPTS[words[1]], words[2:], monkeypatch)
    else:
        assert (REPOSITORY / words[1]).is_file()
        assert words[2:] in (TESTS if words[1] == "test.sh" else [[]])


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.stem)
def test_commands_are_in_blocks_of_bash(guide):
    """Elsewhere test_guides.py would not find them."""
    text = guide.read_text(encoding="utf-8")
    rest = re.sub(r"^```(bash|python|mermaid)\n.*?^```$", "", text, flags=re.S | re.M)
    assert not re.findall(r"^[ \t]*(?:\$ )?(?:bash|python3|pip|torchrun) .*", rest, re.M)
    assert {*re.findall(r"use_environment (\w+)", text)} <= {"graded", "current"}


def test_readmes_python_runs(tmp_path):
    code = re.search(r"```python\n(.*?)```", README, re.S)[1] + "print(*sevens.shape, *digits.shape)"
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert result.stdout == "3 3 28 28 3\n", result.stderr


def cells(start):
    """The cells of README's table rows that begin with a text."""
    rows = [line.strip("| ").split(" | ") for line in README.splitlines() if line.startswith(start)]
    assert rows, start
    return rows


def test_readmes_scores_are_those_of_docs():
    seeds, steps, demo = (pd.read_csv(DOCS / f"{name}.csv") for name in ("p1_seeds", "p2_steps", "demo"))
    assert {*seeds["weights"]} == {weights_id(CHECKPOINTS / "p1_mnistm.pt"), "real"}
    by_scale = {scale: rows for scale, rows in seeds.groupby("guidance_scale")}
    guided, unguided, real = by_scale[GRADED.guidance_scale], by_scale[1.0], seeds[seeds["weights"] == "real"]
    [[_, measure, *_, with_guidance]], [[*_, without]] = (
        cells("| 1 digits | accuracy of"),
        cells("| 1 digits | the same"),
    )
    assert f"mean of {len(guided)} seeds (worst)" in measure and len(unguided) == len(guided)
    for cell, rows in ((with_guidance, guided), (without, unguided)):
        judged = 100 * rows["given_judge"]
        assert cell == f"{judged.mean():.1f} % ({judged.min():.1f} %)"
    assert f"recognises {100 * real['given_judge'].item():.1f} % of real val digits" in README
    limits = r"in ink \((\d+) %.*?(\d+) %\).*?shapes \((\d+) %; (\d+) %\).*?cover (\d+) %.*?cover (\d+) %"
    shapes = [rows[name].mean() for name in ("ink", "spread", "stroke_coverage") for rows in (guided, real)]
    assert guided["slant"].mean() > real["slant"].item() - 0.01  # "as much as real ones"
    textures = r"FID-768 is ([\d.]+) guided\..*? has ([\d.]+) \(one seed\), second-order steps have ([\d.]+)\."
    sweep = pd.read_csv(DOCS / "p1_sweep.csv")
    [plain] = sweep.query("sampler == 'mixed' and guidance_scale == 1 and autoguidance == 1")["fid768"]
    distances = (guided["fid768"].mean(), plain, unguided["fid768"].mean())
    assert [*re.search(textures, README).groups()] == [f"{distance:.2f}" for distance in distances]
    assert [int(text) for text in re.search(limits, README, re.S).groups()] == [round(100 * x) for x in shapes]
    assert cells("| 2 faces | mean squared error")[0][-1] == demo.set_index("problem")["reached"]["2 faces"]
    homework = steps[(steps["steps"] == 50) & (steps["precision"] == "bf16")]
    assert cells("| 2 faces | FID-768")[0][-1] == f"{homework['fid768'].iloc[-1]:.3f}"
    rows = ("| 1 digits | accuracy of", "| 2 faces | mean squared error", "| 3 MNIST-M → SVHN", "| 3 MNIST-M → USPS")
    assert [cells(row)[0][2] for row in rows] == demo["required"].tolist()
    table = pd.read_csv(DOCS / "p3_table.csv", index_col=0)
    reached = [row[-1] for row in cells("| 3 MNIST-M → ")]
    assert reached[::2] == table.loc["DANN with self-training (released)"].tolist()
    assert reached[1::2] == table.loc["adaptation (DANN)"].tolist()
    runs = pd.read_csv(DOCS / "p3_runs.csv").set_index("weights")["val_accuracy"]
    for name, problem in (("p3_svhn.pt", "3 MNIST-M to SVHN"), ("p3_usps.pt", "3 MNIST-M to USPS")):
        released = runs[weights_id(CHECKPOINTS / name)]  # the demo judges these
        assert demo.set_index("problem")["reached"][problem] == f"{100 * released:.1f} %"
    found = re.search(r"DANN alone reaches ([\d.]+) % on SVHN where source alone has ([\d.]+) %", README).groups()
    rows = table["MNIST-M → SVHN"][["adaptation (DANN)", "trained on source"]]
    assert [text.split()[0] for text in rows] == [*found]
    ablation = pd.read_csv(DOCS / "p3_ablation.csv", index_col=0)["val accuracy, %"]
    reversal = re.search(r"no gain: ([\d.]+) % without it, ([\d.]+) % with it \(1,200 steps", README).groups()
    assert [ablation[name].split()[0] for name in ("no_reversal", "whole")] == [*reversal]
    assert f"of each domain\n  alone give {ablation['statistics']} % (one seed)" in README
    plain = pd.read_csv(DOCS / "p3_runs.csv").query("target == 'usps' and changes == '--no-strong-views'")
    dann, source = (100 * plain.set_index("preset").loc[name, "val_accuracy"] for name in ("dann_alone", "source"))
    assert f"it harms: {dann:.1f} %, source alone {source:.1f} % (one seed each)" in README


def test_the_sweeps_figure_has_the_lines_that_its_caption_compares():
    lines = [setting for setting, _ in sweep_lines(pd.read_csv(DOCS / "p1_sweep.csv"))]
    assert {(line["sampler"], line["autoguidance"]) for line in lines} == {("dpm", 1.0), ("mixed", 1.0)}


def test_trainings_expect_what_docs_have():
    expected = dict(re.findall(r"presets/(\w+)\.txt .* \| \d+ \| (.*) \|$", README, re.M))
    names = ("p3_runs", "p2_steps", "p1_mnist_sweep")
    runs, steps, sweep = (pd.read_csv(DOCS / f"{name}.csv") for name in names)
    for target, length in (("svhn", 3600), ("usps", 400)):
        whole = runs[(runs["preset"] == "whole") & (runs["target"] == target) & (runs["steps"] == length)]
        reached = 100 * whole["val_accuracy"]
        assert expected.pop(target) == f"{reached.min():.1f} to {reached.max():.1f} % (three seeds)" and len(whole) == 3
    experiments = (DOCS / "experiments.md").read_text(encoding="utf-8")
    first = dict(re.findall(r"^\| (guided|unguided), released now.*? \| ([\d.]+ %) \(", experiments, re.M))
    homework = steps[(steps["steps"] == 50) & (steps["precision"] == "bf16")]["fid768"].iloc[-1]
    digits = sweep.query("weights == @BEFORE and sampler == 'ddpm' and contrast == 1.03 and images == 1000")["fid768"]
    assert expected == {
        "mnistm": f"{first['unguided']} without guidance, {first['guided']} with a guide (one training)",
        "celeba32": f"FID-768 {homework:.2f} (one training)",
        "mnist": f"FID-768 {digits.min():.2f} to {digits.max():.2f} (one training)",
    }


def test_minutes_and_parameters_are_those_of_docs():
    networks = pd.read_csv(DOCS / "networks.csv").set_index("preset")
    trainings = re.findall(r"presets/(\w+)\.txt .*? \| (\d+) \| ", README)
    assert {name: int(minutes) for name, minutes in trainings} == networks["minutes"].round().astype(int).to_dict()
    cards = (DOCS.parent / "checkpoints" / "README.md").read_text(encoding="utf-8")
    counts = (networks["parameters"] / 1e6)[["mnistm", "mnist", "celeba32"]]
    assert re.findall(r"([\d.]+) M parameters", cards) == [f"{count:.2f}" for count in counts]


def test_real_images_and_faults_are_counted_in_docs():
    steps, faults = pd.read_csv(DOCS / "p2_steps.csv"), (DOCS / "reliability.md").read_text(encoding="utf-8")
    [real] = steps[steps["weights"] == "real"].to_dict("records")
    assert f"A thousand other real faces have {real['fid768']:.3f}." in README and real["faces"] == 1000
    tried, lost = (
        sum(map(int, column)) for column in zip(*re.findall(r"^\| [^|]+ \| (\d+) \|.*\| (\d+) \|$", faults, re.M))
    )
    assert f"{tried:,} tried, none lost" in README and f"{tried:,} faults, none lost" in faults and lost == 0


def test_the_guides_tables_are_those_of_docs():
    demo = [" | ".join(map(str, row)) for row in pd.read_csv(DOCS / "demo.csv").to_numpy()]
    assert [f"| {row} |" in README for row in demo] == [True] * len(demo)
    training = (DOCS / "training.md").read_text(encoding="utf-8")
    for name in ("p3_table.csv", "p3_ablation.csv"):
        for row in csv.reader((DOCS / name).read_text(encoding="utf-8").splitlines()):
            assert f"| {' | '.join(row)} |" in training
    ablation = pd.read_csv(DOCS / "p1_ablation.csv").set_index("weights")
    columns = ["own_judge", "stroke_coverage", "spread", "slant", "ink", "fid768"]
    shown = re.findall(r"^\| [^|]+ \| (real|\w{8}) \| (.*) \|$", training, re.M)
    assert {weights for weights, _ in shown} == {*ablation.index}
    for weights, row in shown:
        judged, *others = ablation.loc[weights, columns]
        scores = [f"{100 * judged:.1f}", *(f"{score:.3f}" for score in others)]
        assert row == " | ".join(scores).replace("nan", "–")
    sweep = read_measurements(DOCS / "p1_mnist_sweep.csv")
    samplers = {"DDPM": "ddpm", "DDIM": "ddim", "DPM-Solver++(2M)": "dpm", "SDE-DPM-Solver++": "sde"}
    released = weights_id(CHECKPOINTS / "p1_mnist.pt")
    table = re.findall(
        r"^\| (released|before) \| (.*?)(, given labels)? \| (?:(\d) \+ )?(\d+) \| (.*?) \| (.*?) \| (.*) \|$",
        MNIST,
        re.M,
    )
    assert len(table) >= 6
    for network, sampler, labelled, early, steps, spacing, contrast, found in table:
        wanted = {"sampler": samplers[sampler], "early_steps": int(early or 0), "num_steps": int(steps), "images": 1000}
        wanted |= {"weights": released if network == "released" else BEFORE, "spacing": float(spacing)}
        wanted |= {"contrast": float(contrast), "labels": "0123456789" if labelled else "none"}
        [row] = [row for row in sweep.to_dict("records") if wanted.items() <= row.items()]
        assert found.split(" | ") == rounded(row)
    [many] = sweep[(sweep["images"] == 10_000) & (sweep["weights"] == released)].to_dict("records")
    assert "FID-768 {}, density {} and coverage {}.".format(*rounded(many)) in MNIST
    [real] = sweep[sweep["weights"] == "real"].to_dict("records")
    assert f"| – | a thousand other real images | – | – | – | {' | '.join(rounded(real))} |" in MNIST
    minutes = pd.read_csv(DOCS / "networks.csv").set_index("preset")["minutes"]["mnist"]
    assert f"it takes {minutes:.0f} minutes on two cores" in MNIST


def rounded(row):
    """A row's quality as tables have it."""
    return [f"{row['fid768']:.3f}", f"{row['density']:.2f}", f"{row['coverage']:.2f}"]
