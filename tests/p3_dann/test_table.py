import json

from p3_dann import table


def test_table_averages_over_seeds(tmp_path, capsys):
    results = [("source", {"svhn": 0.3, "usps": 0.8}), ("dann", {"svhn": 0.6}), ("dann", {"svhn": 0.8})]
    for number, (mode, accuracy) in enumerate(results):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "result.json").write_text(json.dumps({"mode": mode, "seed": number, "val_accuracy": accuracy}))
    assert table.main([str(tmp_path / str(number)) for number in range(3)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2:] == [
        "| trained on source | 30.0 | 80.0 |",
        "| adapted (DANN) | 70.0 ± 14.1 (2 seeds) | – |",
        "| trained on target | – | – |",
    ]


def test_unfinished_runs_are_named(tmp_path, capsys):
    assert table.main([str(tmp_path)]) == 2
    assert "no result.json" in capsys.readouterr().err


def test_ablation_names_what_differs_from_the_first_run(tmp_path, capsys):
    scores = {"full": (0.9, 0.8), "no_reversal": (0.8, 0.7), "plain": (0.5, 0.6)}
    options = {"full": {}, "no_reversal": {"lambda_max": 0.0}, "plain": {"lambda_max": 1.0, "pseudo": 0.0}}
    for name, (accuracy, agreement) in scores.items():
        (tmp_path / name).mkdir()
        train = {"target": "svhn", "lambda_max": 0.3, "pseudo": 1.0, **options[name]}
        (tmp_path / name / "options.json").write_text(json.dumps({"train": train, "fit": {"steps": 20}}))
        (tmp_path / name / "metrics.jsonl").write_text('{"step": 10, "seconds": 5.0}\n{"step": 20, "seconds": 7.0}\n')
        result = {"mode": "dann", "seed": 0, "val_accuracy": {"svhn": accuracy}, "agreement": {"svhn": agreement}}
        (tmp_path / name / "result.json").write_text(json.dumps(result))
    assert table.main(["--ablation", *(str(tmp_path / name) for name in scores)]) == 0
    assert capsys.readouterr().out.splitlines()[2:] == [
        "| all parts | 90.0 | 80.0 | 2.0 |",
        "| lambda_max 0.0 | 80.0 | 70.0 | 2.0 |",
        "| lambda_max 1.0, pseudo 0.0 | 50.0 | 60.0 | 2.0 |",
        "",
        "rank correlation of agreement and accuracy (oracle): 1.00",
    ]
