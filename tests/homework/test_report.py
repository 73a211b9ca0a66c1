import json

import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from common import figures
from common.checkpoint import sha256
from homework import report

TEMPLATE = """# A report

Words with `code`, **weight** and a [link](https://example.org), {words}

![What is shown](picture.png "50 %")

{{table.csv: b, a}}
"""


@pytest.fixture
def written(tmp_path, monkeypatch):
    """A template with a table and a picture of the one released checkpoint: its folder."""
    (tmp_path / "weights.pt").write_bytes(b"weights")
    manifest = {"files": {"weights.pt": {"sha256": sha256(tmp_path / "weights.pt"), "size": 7}}}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    monkeypatch.setattr(report, "CHECKPOINTS", tmp_path)
    figures.save_picture(
        torch.zeros(3, 20, 30, dtype=torch.uint8), tmp_path / "picture.png", [tmp_path / "weights.pt"], enlarged=2
    )
    pd.DataFrame({"a": [1.50, 2.0], "b": ["x", "y"]}).to_csv(tmp_path / "table.csv", index=False)
    (tmp_path / "report_template.md").write_text(TEMPLATE.replace("{words}", "many " * 40))
    return tmp_path


def test_a_report_is_markdown_and_pdf(written):
    command = ["--template", str(written / "report_template.md")]
    assert report.main(command) == 0
    text, pdf = (written / "report.md").read_text(), (written / "report.pdf").read_bytes()
    assert "| b | a |\n| --- | --- |\n| x | 1.5 |" in text and "{{" not in text
    assert pdf.startswith(b"%PDF") and pdf.count(b"/Type /Page ") == 1
    assert report.main(command) == 0 and (written / "report.pdf").read_bytes() == pdf


def test_a_picture_of_a_replaced_checkpoint_is_refused(written, capsys):
    manifest = {"files": {"weights.pt": {"sha256": "0" * 64, "size": 7}}}
    (written / "manifest.json").write_text(json.dumps(manifest))
    assert report.main(["--template", str(written / "report_template.md")]) == 2
    assert "picture.png: drawn from an older checkpoints/weights.pt" in capsys.readouterr().err
    assert not (written / "report.md").exists()


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda folder: (folder / "table.csv").write_text("a\n1\n"), "no column b"),
        (lambda folder: (folder / "table.csv").unlink(), "table.csv: no such file"),
        (lambda folder: Image.new("RGB", (3, 3)).save(folder / "picture.png"), "says which checkpoints"),
        (lambda folder: (folder / "report_template.md").write_text("word " * 9000), "shorten it"),
    ],
)
def test_what_is_missing_is_said_on_one_line(written, capsys, change, words):
    change(written)
    assert report.main(["--template", str(written / "report_template.md")]) == 2
    assert words in capsys.readouterr().err and not (written / "report.pdf").exists()


def test_lines_fit_the_page():
    lines = list(report.wrapped("some words of a paragraph " * 50, report.TEXT))
    limit = report.WIDTH - 2 * report.MARGIN
    assert all(report.width_of(line, report.TEXT, "sans-serif") <= limit for line in lines)
    assert all(report.width_of(line + " paragraph", report.TEXT, "sans-serif") > limit for line in lines[:-1])


def test_a_figure_is_stamped_like_a_picture(tmp_path):
    (tmp_path / "w.pt").write_bytes(b"w")
    figures.save_figure(Figure(figsize=(1, 1)), tmp_path / "f.png", [tmp_path / "w.pt"])
    figures.check_fresh(tmp_path / "f.png", {"w.pt": sha256(tmp_path / "w.pt"), "other.pt": "0"})
