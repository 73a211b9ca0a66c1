import io
import json

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from common import figures
from common.checkpoint import sha256
from common.cli import UserError
from homework import report
from homework.rules import page_count

pytest.importorskip("typst", reason="no typst; install requirements-report.txt")
SOURCE = """#set document(date: none)
#set page(width: 9cm, height: 9cm)
#let found = csv("table.csv", row-type: dictionary)
#image("figures/f.svg", width: 2cm)
b is #found.first().b
"""


@pytest.fixture
def written(tmp_path, monkeypatch):
    """A source with a table, and a figure of the one released checkpoint and this table: its folder."""
    (tmp_path / "weights.pt").write_bytes(b"weights")
    manifest = {"files": {"weights.pt": {"sha256": sha256(tmp_path / "weights.pt"), "size": 7}}}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    monkeypatch.setattr(report, "CHECKPOINTS", tmp_path)
    pd.DataFrame({"a": [1], "b": ["x"]}).to_csv(tmp_path / "table.csv", index=False)
    sources = [tmp_path / "weights.pt", tmp_path / "table.csv"]
    figures.save_figure(Figure(figsize=(1, 1)), tmp_path / "figures" / "f.svg", sources)
    (tmp_path / "r.typ").write_text(SOURCE)
    return tmp_path


def test_a_report_is_the_same_pdf_every_time_and_its_pages_are_shown(written, capsys):
    command = [str(written / "r.typ"), "--pages", str(written / "pages")]
    assert report.main(command) == 0
    pdf = (written / "r.pdf").read_bytes()
    assert pdf.startswith(b"%PDF") and [path.name for path in (written / "pages").iterdir()] == ["r_1.png"]
    assert f"wrote {written / 'r.pdf'}" in capsys.readouterr().err
    assert report.main(command) == 0 and (written / "r.pdf").read_bytes() == pdf


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda folder: (folder / "manifest.json").write_text('{"files": {"weights.pt": {"sha256": "0"}}}'), "weights"),
        (lambda folder: (folder / "table.csv").write_text("a,b\n2,x\n"), "f.svg: drawn from an older table.csv"),
        (lambda folder: (folder / "table.csv").write_text("a\n1\n"), "older table.csv"),
        (lambda folder: Image.new("RGB", (3, 3)).save(folder / "figures" / "g.png"), "says what it was drawn from"),
        (lambda folder: (folder / "figures" / "f.svg").unlink(), "file not found"),
        (lambda folder: (folder / "r.typ").write_text("#lorem(9000)\n" + SOURCE), "pages, but a report may have 6"),
        (lambda folder: (folder / "r.typ").unlink(), "r.typ: no such file"),
    ],
)
def test_what_is_stale_missing_or_too_long_is_said_on_one_line(written, capsys, change, words):
    change(written)
    assert report.main([str(written / "r.typ")]) == 2
    err = capsys.readouterr().err
    assert words in err and err.count("\n") == 1 and not (written / "r.pdf").exists()


@pytest.mark.parametrize("source", [*report.SOURCES], ids=lambda path: path.stem)
def test_the_reports_are_fresh_and_no_page_is_half_empty(source):
    report.check_figures(report.DOCS)
    pages = report.compiled(source, format="png", ppi=20)
    assert len(pages) <= report.SOURCES[source]
    for page in pages:
        with Image.open(io.BytesIO(page)) as picture:
            ink = np.asarray(picture.convert("L"))[: picture.height * 9 // 10] < 200  # without the page's number
            assert np.flatnonzero(ink.any(axis=1)).max() > picture.height / 2


@pytest.mark.parametrize("source", [*report.SOURCES], ids=lambda path: path.stem)
def test_the_reports_hold_no_time_of_day(source):
    assert b"CreationDate" not in report.compiled(source, format="pdf")[0]


def test_a_report_may_have_as_many_pages_as_its_homework_asks_for(written, capsys, monkeypatch):
    monkeypatch.setitem(report.SOURCES, written / "r.typ", 2)
    monkeypatch.chdir(written)
    (written / "r.typ").write_text("#pagebreak()" * 2 + SOURCE)
    assert report.main(["r.typ"]) == 2 and "3 pages, but a report may have 2" in capsys.readouterr().err
    assert page_count((report.DOCS / "hku_report.pdf").read_bytes()) == 2
    assert 3 <= page_count((report.DOCS / "mnist_report.pdf").read_bytes()) <= 5


@pytest.mark.parametrize("name", ["f.png", "f.svg", "picture.png"])
def test_a_figure_names_its_sources_and_has_the_same_bytes_every_time(tmp_path, name):
    (tmp_path / "w.pt").write_bytes(b"w")
    (tmp_path / "t.csv").write_text("a\n")
    sources, contents = [tmp_path / "w.pt", tmp_path / "t.csv"], []
    for _ in range(2):
        if name == "picture.png":
            figures.save_picture(torch.zeros(3, 2, 2, dtype=torch.uint8), tmp_path / name, sources)
        else:
            figures.save_figure(Figure(figsize=(1, 1)), tmp_path / name, sources)
        contents.append((tmp_path / name).read_bytes())
    assert contents[0] == contents[1]
    assert figures.sources_of(tmp_path / name) == {path.name: sha256(path) for path in sources}
    figures.check_fresh(tmp_path / name, {"w.pt": sha256(tmp_path / "w.pt"), "other.pt": "0"})
    with pytest.raises(UserError, match="older t.csv"):
        figures.check_fresh(tmp_path / name, {"t.csv": "0"})
