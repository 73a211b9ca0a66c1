import json

import pandas as pd
import pytest

from p3_dann import table

RECIPE = {
    "mode": "dann",
    "target": "svhn",
    "lambda_max": 0.3,
    "entropy": 0.1,
    "balance": 0.1,
    "pseudo": 1.0,
    "steps": 20,
}
ALONE = {"lambda_max": 1.0, "entropy": 0.0, "balance": 0.0, "pseudo": 0.0}


@pytest.fixture
def make_run(tmp_path):
    def make(name, accuracy, agreement=0.5, **options):
        (tmp_path / name).mkdir()
        options = {**RECIPE, **options}
        fit = {"steps": options.pop("steps"), "seed": len(name), "save_every": len(name)}
        options = {"train": options, "fit": fit, "data": {"fingerprint": "one"}}
        (tmp_path / name / "options.json").write_text(json.dumps(options))
        (tmp_path / name / "metrics.jsonl").write_text('{"step": 10, "seconds": 5.0}\n{"step": 20, "seconds": 7.0}\n')
        (tmp_path / name / "result.json").write_text(
            json.dumps({"settings": options, "val_accuracy": accuracy, "agreement": agreement})
        )
        return str(tmp_path / name)

    return make


def test_table_averages_over_seeds_alone(make_run, capsys):
    runs = [
        make_run("source", 0.3, mode="source"),
        make_run("source_usps", 0.8, mode="source", target="usps"),
        make_run("full", 0.6),
        make_run("full_1", 0.8),
        make_run("longer", 0.9, steps=60),
        make_run("alone", 0.5, **ALONE),
    ]
    assert table.main(runs) == 0
    assert capsys.readouterr().out.splitlines()[2:] == [
        "| trained on source | 30.0 | 80.0 |",
        "| adaptation (DANN) | 50.0 | – |",
        "| DANN with self-training (released) | 70.0 ± 14.1 (2 seeds) | – |",
        "| DANN with self-training (released), --steps 60 | 90.0 | – |",
        "| trained on target | – | – |",
    ]


def test_what_has_no_adversary_is_not_called_dann(make_run, capsys):
    without = [make_run(f"off{n}", 0.4, **{**ALONE, "lambda_max": 0.0}) for n in "ab"]
    assert table.main([*without, make_run("alone", 0.5, **ALONE)]) == 0
    assert capsys.readouterr().out.splitlines()[3:5] == [
        "| adaptation (DANN) | 50.0 | – |",
        "| adaptation (DANN), --lambda-max 0.0 | 40.0 ± 0.0 (2 seeds) | – |",
    ]


def test_unfinished_runs_are_named(tmp_path, capsys):
    assert table.main([str(tmp_path)]) == 2
    assert "no result.json" in capsys.readouterr().err


def test_ablation_names_what_differs_from_the_first_group(make_run, tmp_path, capsys):
    runs = [make_run("full", 0.9, 0.8), make_run("full_1", 0.8, 0.7)]
    runs += [make_run("off", 0.7, 0.65, lambda_max=0.0), make_run("alone", 0.5, 0.6, **ALONE)]
    assert table.main(["--ablation", *runs, "--out", str(tmp_path / "table.csv")]) == 0
    written = pd.read_csv(tmp_path / "table.csv", index_col="options", dtype=str)
    assert written["val accuracy, %"].to_dict()["--lambda-max 0.0"] == "70.0" and len(written) == 3
    assert capsys.readouterr().out.splitlines()[2:] == [
        "| reference | 85.0 ± 7.1 (2 seeds) | 75.0 ± 7.1 (2 seeds) | 2.0 |",
        "| --lambda-max 0.0 | 70.0 | 65.0 | 2.0 |",
        "| --lambda-max 1.0, --entropy 0.0, --balance 0.0, --pseudo 0.0 | 50.0 | 60.0 | 2.0 |",
        "",
        "rank correlation of agreement and accuracy over 4 runs (oracle): 1.00",
    ]


def test_an_ablation_has_one_target(make_run, capsys):
    assert table.main(["--ablation", make_run("full", 0.9), make_run("other", 0.9, target="usps")]) == 2
    assert "give runs of one target" in capsys.readouterr().err


def test_rows_do_not_depend_on_the_order_of_runs_and_lose_no_cell(make_run, capsys):
    runs = [make_run(f"{target}{n}", 0.9, target=target) for target in ("svhn", "usps") for n in range(2)]
    runs += [make_run("a", 0.5, pseudo=0.0), make_run("b", 0.4, pseudo=0.0, target="usps")]
    tables = []
    for order in (runs, runs[::-1]):
        assert table.main(order) == 0
        tables.append(capsys.readouterr().out)
    assert tables[0] == tables[1]
    assert "| DANN with self-training (released) | 90.0 ± 0.0 (2 seeds) | 90.0 ± 0.0 (2 seeds) |" in tables[0]
    assert "| DANN with self-training (released), --pseudo 0.0 | 50.0 | 40.0 |" in tables[0]


def test_a_result_from_before_the_options_changed_is_refused(make_run, tmp_path, capsys):
    run = make_run("grown", 0.9)
    options = json.loads((tmp_path / "grown" / "options.json").read_text())
    options["fit"]["steps"] = 1000
    (tmp_path / "grown" / "options.json").write_text(json.dumps(options))
    assert table.main([run]) == 2
    assert "from before its options changed" in capsys.readouterr().err


def test_other_data_is_another_group_and_short_runs_have_no_minutes(make_run, tmp_path, capsys):
    runs = [make_run("first", 0.9), make_run("second", 0.8)]
    for name in ("options.json", "result.json"):
        path = tmp_path / "second" / name
        path.write_text(path.read_text().replace("one", "two"))
    (tmp_path / "second" / "metrics.jsonl").write_text("")
    assert table.main(["--ablation", *runs]) == 0
    assert capsys.readouterr().out.splitlines()[2:] == [
        "| reference | 90.0 | 50.0 | 2.0 |",
        "| data two | 80.0 | 50.0 | – |",
    ]


@pytest.mark.parametrize("name, words", [("metrics.jsonl", "not the metrics"), ("result.json", "a damaged one")])
def test_a_damaged_run_is_one_line(make_run, tmp_path, capsys, name, words):
    run = make_run("first", 0.9)
    (tmp_path / "first" / name).write_bytes(b"caf\xe9\n")
    assert table.main(["--ablation", run]) == 2
    assert f"error: {tmp_path / 'first'}" in (said := capsys.readouterr().err) and words in said
