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
