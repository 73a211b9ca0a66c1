import json

import pandas as pd
import pytest

from common.config import PresetParser, parse_options, to_json
from p3_dann import table
from p3_dann.runs import PRESETS, recipe
from p3_dann.train import OPTIONS

SECTIONS = ("train", "objective", "network", "fit")


@pytest.fixture
def make_run(tmp_path):
    def make(name, accuracy, agreement=0.5, *, target="svhn", presets=(), typed=(), data="one", precision="bf16"):
        files = [f"@{PRESETS / preset}.txt" for preset in (target, *presets)]
        _, *configs = parse_options(PresetParser(), [*files, f"--seed={len(name)}", "--steps=20", *typed], *OPTIONS)
        settings = dict(zip(SECTIONS, map(to_json, configs)))
        settings |= {"data": {"fingerprint": data}, "machine": {"world_size": 1, "computed_in": precision}}
        (tmp_path / name).mkdir()
        (tmp_path / name / "weights.pt").write_bytes(name.encode())
        (tmp_path / name / "options.json").write_text(json.dumps(settings))
        (tmp_path / name / "metrics.jsonl").write_text('{"step": 10, "seconds": 5.0}\n{"step": 20, "seconds": 7.0}\n')
        (tmp_path / name / "result.json").write_text(
            json.dumps({"settings": settings, "val_accuracy": accuracy, "agreement": agreement})
        )
        return str(tmp_path / name)

    return make


def rows(capsys):
    return capsys.readouterr().out.splitlines()[2:]


def test_table_averages_over_seeds_alone(make_run, capsys):
    runs = [
        make_run("source", 0.3, presets=["source"]),
        make_run("source_usps", 0.8, presets=["source"], target="usps"),
        make_run("full", 0.6),
        make_run("full_1", 0.8),
        make_run("longer", 0.9, typed=["--steps=60"]),
        make_run("alone", 0.5, presets=["dann_alone"]),
        make_run("shorter", 0.4, presets=["dann_alone"], typed=["--steps=10"]),
        make_run("off", 0.1, presets=["dann_alone"], typed=["--lambda-max=0"]),
        make_run("part", 0.1, presets=["no_pseudo"]),
    ]
    for order in (runs, runs[::-1]):
        assert table.main(order) == 0
        assert rows(capsys) == [
            "| trained on source | 30.0 | 80.0 |",
            "| adaptation (DANN) | 50.0 | – |",
            "| DANN with self-training (released) | 70.0 ± 14.1 (2 seeds) | – |",
            "| trained on target | – | – |",
        ]


def test_an_ablation_has_a_row_for_each_recipe_of_one_target_and_length(make_run, tmp_path, capsys):
    runs = [make_run("full", 0.9, 0.8), make_run("full_1", 0.8, 0.7)]
    runs += [make_run("off", 0.7, 0.65, presets=["no_reversal"])]
    runs += [make_run("alone", 0.5, 0.6, presets=["dann_alone"], typed=["--dropout=0.5", "--no-strong-views"])]
    others = [make_run("usps", 0.9, target="usps"), make_run("long", 0.9, typed=["--steps=60"])]
    out = ["--out", str(tmp_path / "table.csv")]
    assert table.main([*runs, *others, "--ablation", "svhn", "--steps", "20", *out]) == 0
    written = pd.read_csv(tmp_path / "table.csv", index_col="recipe", dtype=str)
    assert written["val accuracy, %"].to_dict()["no_reversal"] == "70.0" and len(written) == 3
    assert rows(capsys) == [
        "| whole | 85.0 ± 7.1 (2 seeds) | 75.0 ± 7.1 (2 seeds) | 2.0 |",
        "| no_reversal | 70.0 | 65.0 | 2.0 |",
        "| dann_alone, --no-strong-views --dropout 0.5 | 50.0 | 60.0 | 2.0 |",
        "",
        "rank correlation of agreement and accuracy over 4 runs (oracle): 1.00",
    ]


def test_a_csv_keeps_runs_once_and_makes_the_same_table_without_their_folders(make_run, tmp_path, capsys):
    results = ["--results", str(tmp_path / "runs.csv")]
    runs = [make_run("full", 0.6), make_run("full_1", 0.8), make_run("alone", 0.5, presets=["dann_alone"])]
    assert table.main(runs) == 0
    wanted = capsys.readouterr().out
    for given in (runs[:2], runs[1:]):
        assert table.main([*given, *results]) == 0
    capsys.readouterr()
    assert table.main(results) == 0
    assert capsys.readouterr().out == wanted
    kept = pd.read_csv(tmp_path / "runs.csv")
    assert kept[["run", "preset", "seed", "minutes"]].values.tolist() == [
        ["alone", "dann_alone", 5, 2.0],
        ["full", "whole", 4, 2.0],
        ["full_1", "whole", 6, 2.0],
    ]
    kept.assign(agreement=None).to_csv(tmp_path / "runs.csv", index=False)
    assert table.main([*results, "--ablation", "svhn"]) == 0
    assert rows(capsys) == ["| dann_alone | 50.0 | – | 2.0 |", "| whole | 70.0 ± 14.1 (2 seeds) | – | 2.0 |"]
    (tmp_path / "runs.csv").write_text((tmp_path / "runs.csv").read_text().replace("20,", "twenty,"))
    assert table.main(results) == 2
    assert "not the CSV of runs" in capsys.readouterr().err


@pytest.mark.parametrize("target", ["svhn", "usps"])
def test_every_preset_is_known_again_by_its_options(make_run, tmp_path, target):
    for preset in {path.stem for path in PRESETS.glob("*.txt")} - {"svhn", "usps"}:
        path = make_run(f"{target}_{preset}", 0.5, target=target, presets=[preset])
        settings = json.loads((tmp_path / path / "options.json").read_text())
        options = {name: value for section in SECTIONS for name, value in settings[section].items()}
        assert recipe(options, target) == (preset, "")


def test_lengths_are_named_where_they_differ_and_a_seed_counts_once(make_run, capsys):
    runs = [make_run("full", 0.9), make_run("long", 0.8, typed=["--steps=60", "--seed=1"])]
    assert table.main([*runs, "--ablation", "svhn"]) == 0
    assert [line.split(" | ")[0] for line in rows(capsys)] == ["| whole, --steps 20", "| whole, --steps 60"]
    assert table.main([*runs, make_run("fall", 0.7)]) == 2
    assert "fall and full: the same training twice" in capsys.readouterr().err


def test_no_runs_are_one_line(make_run, tmp_path, capsys):
    assert table.main([]) == 2
    assert table.main([make_run("full", 0.9), "--ablation", "usps"]) == 2
    assert capsys.readouterr().err.count("error: no such runs") == 2
    assert table.main([str(tmp_path)]) == 2
    assert "no result.json" in capsys.readouterr().err


def test_a_result_from_before_the_options_changed_is_refused(make_run, tmp_path, capsys):
    run = make_run("grown", 0.9)
    options = json.loads((tmp_path / "grown" / "options.json").read_text())
    options["fit"]["steps"] = 1000
    (tmp_path / "grown" / "options.json").write_text(json.dumps(options))
    assert table.main([run]) == 2
    assert "from before its options changed" in capsys.readouterr().err


def test_other_data_is_another_group_and_short_runs_have_no_minutes(make_run, tmp_path, capsys):
    runs = [make_run("first", 0.9), make_run("second", 0.8, data="two")]
    (tmp_path / "second" / "metrics.jsonl").write_text("")
    assert table.main(["--ablation", "svhn", *runs]) == 0
    assert rows(capsys) == [
        "| whole, data one | 90.0 | 50.0 | 2.0 |",
        "| whole, data two | 80.0 | 50.0 | – |",
    ]


def test_seeds_on_machines_of_other_precision_are_one_group_with_the_minutes_of_each(make_run, tmp_path, capsys):
    runs = [make_run("first", 0.9), make_run("second", 0.8, precision="float32")]
    metrics = tmp_path / "second" / "metrics.jsonl"
    metrics.write_text('{"step": 20, "seconds": 30.0}\n')
    assert table.main(["--ablation", "svhn", *runs]) == 0
    assert rows(capsys) == ["| whole | 85.0 ± 7.1 (2 seeds) | 50.0 ± 0.0 (2 seeds) | 2.0 in bf16, 10.0 in float32 |"]
    metrics.write_text("")
    again = make_run("third", 0.7, 0.6, precision="float32")  # of the seed of "first"
    assert table.main(["--ablation", "svhn", *runs, again]) == 0
    assert rows(capsys)[0] == "| whole | 80.0 ± 10.0 (3 trainings) | 53.3 ± 5.8 (3 trainings) | – |"


@pytest.mark.parametrize(
    "name, words",
    [
        ("metrics.jsonl", "not the metrics"),
        ("result.json", "a damaged one"),
        ("weights.pt", "No such file"),
    ],
)
def test_a_damaged_run_is_one_line(make_run, tmp_path, capsys, name, words):
    run = make_run("first", 0.9)
    (tmp_path / "first" / name).unlink()
    if name != "weights.pt":
        (tmp_path / "first" / name).write_bytes(b"caf\xe9\n")
    assert table.main([run]) == 2
    assert f"error: {tmp_path / 'first'}" in (said := capsys.readouterr().err) and words in said


def test_a_run_of_another_problem_is_refused(make_run, tmp_path, capsys):
    run = make_run("first", 0.9)
    for name in ("options.json", "result.json"):
        path = tmp_path / "first" / name
        path.write_text(path.read_text().replace('"target": "svhn"', '"target": "faces"'))
    assert table.main([run]) == 2
    assert "not a run of problem 3" in capsys.readouterr().err
