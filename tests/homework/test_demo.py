import pandas as pd
import pytest
from PIL import Image

from homework import demo, problems
from homework.runner import Run


def test_a_folder_of_other_files_is_not_emptied(tmp_path, capsys):
    (tmp_path / "precious").write_text("")
    assert demo.main(["--out", str(tmp_path)]) == 2
    assert "holds files" in capsys.readouterr().err and (tmp_path / "precious").exists()


def paint(path, colour, side):
    path.parent.mkdir(exist_ok=True)
    Image.new("RGB", (side, side), colour).save(path)


def digits(folder):
    """One of 20 zeros is wrong."""
    for number in range(200):
        digit = number // 20
        paint(folder / f"{digit}_{number % 20 + 1:03d}.png", (25 * (digit or number == 0),) * 3, 28)


def faces(noises, folder, network):
    """One colour is two levels off."""
    for noise in noises.iterdir():
        paint(folder / f"{noise.stem}.png", (100, 99, 100), 32)


def labels(images, predictions):
    """The brightest digits are wrong in svhn."""
    rows = []
    for path in images.iterdir():
        digit = Image.open(path).convert("L").getpixel((0, 0)) // 25
        rows.append((path.name, 0 if digit == 9 and predictions.name == "svhn.csv" else digit))
    pd.DataFrame(rows, columns=["image_name", "label"]).to_csv(predictions, index=False)


@pytest.fixture
def calls(data, monkeypatch):
    """The demo runs these functions instead of the scripts; their names and limits."""
    scripts = {"hw2_download.sh": lambda: None, "hw2_1.sh": digits, "hw2_2.sh": faces, "hw2_3.sh": labels}
    called = []

    def run(words, folder, *, limit):
        _, script, *arguments = words
        scripts[script.name](*arguments)
        called.append((script.name, limit))
        return Run(0, 10.6 + len(called), 0)

    monkeypatch.setattr(demo, "run", run)
    monkeypatch.setattr(demo, "find_data", lambda work: data)
    monkeypatch.setattr(problems.judge, "find_weights", lambda: problems.judge.OWN)
    return called


def cells(printed):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in printed.splitlines()]


def test_the_table_has_what_each_script_reached_and_how_long_it_took(calls, tmp_path, capsys):
    csv = tmp_path / "table.csv"
    for _ in range(2):  # what the demo made is replaced
        calls.clear()
        assert demo.main(["--out", str(tmp_path / "out"), "--table", str(csv)]) == 0
        header, _, *rows = cells(capsys.readouterr().out)
    assert header == ["problem", "metric", "required", "reached", "seconds"]
    assert rows == [
        ["1 digits", "accuracy, own judge", "95 %", "99.5 %", "13"],
        ["2 faces", "MSE, course's pictures", "< 20", "1.3333", "14"],
        ["3 MNIST-M to SVHN", "accuracy, 10 val images", "40 %", "90.0 %", "15"],
        ["3 MNIST-M to USPS", "accuracy, 10 val images", "76 %", "100.0 %", "16"],
    ]
    assert pd.read_csv(csv, dtype=str).to_numpy().tolist() == rows
    limits = [("hw2_download.sh", 1800), ("hw2_1.sh", 900), ("hw2_2.sh", 300), ("hw2_3.sh", 600), ("hw2_3.sh", 600)]
    assert calls == limits


def test_the_table_says_where_stand_ins_serve(calls, tmp_path, monkeypatch, capsys):
    def reference(network, noises, pictures):
        noises.mkdir()
        (noises / "00.pt").touch()
        paint(pictures / "00.png", (100, 99, 100), 32)

    monkeypatch.setattr(demo, "find_data", lambda work: None)
    monkeypatch.setattr(problems, "make_reference_faces", reference)
    assert demo.main(["--out", str(tmp_path / "out")]) == 0
    _, _, _, faces, digits = cells(capsys.readouterr().out)
    assert faces[:4] == ["2 faces", "MSE to diffusers, stand-in: our own network, 32×32", "< 20", "0.0000"]
    assert digits[:3] == ["3 MNIST-M to USPS", "accuracy, stand-in: 1797 bundled digits", "76 %"]


def test_a_missing_target_domain_is_said_before_anything_runs(calls, data, tmp_path, capsys):
    (data / "digits" / "usps" / "val.csv").unlink()
    assert demo.main(["--out", str(tmp_path / "out")]) == 2
    assert "usps/val.csv: not found; give both" in capsys.readouterr().err and len(calls) == 1  # hw2_download.sh
    (data / "digits" / "svhn" / "val.csv").unlink()
    assert demo.main(["--out", str(tmp_path / "out")]) == 0
    assert "stand-in: 1797 bundled digits" in capsys.readouterr().out


@pytest.mark.parametrize("status, words", [(1, "hw2_1.sh: failed"), (None, "hw2_1.sh: stopped after 900 s")])
def test_a_script_that_fails_or_is_too_slow_leaves_no_table(calls, tmp_path, monkeypatch, capsys, status, words):
    fine = demo.run

    def run(words, folder, *, limit):
        done = fine(words, folder, limit=limit)
        return done._replace(status=status) if words[1].name == "hw2_1.sh" else done

    monkeypatch.setattr(demo, "run", run)
    assert demo.main(["--out", str(tmp_path / "out"), "--table", str(tmp_path / "table.csv")]) == 2
    printed = capsys.readouterr()
    assert words in printed.err and not printed.out and not (tmp_path / "table.csv").exists()
