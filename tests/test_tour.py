"""The notebook of examples/ runs, and is its .py."""

import json
import re
import runpy
import sys

import pytest

from common.files import REPOSITORY

TOUR = REPOSITORY / "examples" / "tour.py"


def test_the_tour_runs(tmp_path, monkeypatch, capsys):
    source = TOUR.read_text()
    assert source.count("STEPS = 10") == 1 and source.count("100") == 7
    (tmp_path / "tour.py").write_text(source.replace("STEPS = 10", "STEPS = 2").replace("100", "40"))
    monkeypatch.chdir(REPOSITORY / "examples")
    names = runpy.run_path(str(tmp_path / "tour.py"))
    drawn, scanned = (int(share) for share in re.findall(r"(\d+)%", capsys.readouterr().out))
    assert drawn > 80 and scanned > 60 and names["points"].shape == (80, 2)
    assert names["blended"].shape == (10, 3, 32, 32)


def test_a_clone_is_found_beside_the_notebook_or_asked_for(tmp_path, monkeypatch):
    start = TOUR.read_text().split("# %%\n")[1].split("import matplotlib")[0]
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="git clone"):
        exec(start)
    (tmp_path / "clone").symlink_to(REPOSITORY)
    (tmp_path / "a").mkdir()
    exec(start)
    assert sys.path[0] == str(tmp_path / "clone")


def test_the_notebook_has_the_cells_of_the_script_and_no_outputs():
    cells = json.loads(TOUR.with_suffix(".ipynb").read_text())["cells"]
    parts = re.split(r"(?m)^# %%(.*)\n", TOUR.read_text())[1:]
    kinds, texts = parts[::2], [part.strip() for part in parts[1::2]]
    wanted = [re.sub(r"(?m)^# ?", "", text) if "markdown" in kind else text for kind, text in zip(kinds, texts)]
    assert ["".join(cell["source"]) for cell in cells] == wanted and len(cells) == 10
    assert not any(cell.get("outputs") for cell in cells)
