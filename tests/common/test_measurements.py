import pandas as pd
import pytest

from common.cli import UserError
from common.measurements import Measurements, read_measurements


def test_rows_are_kept_in_order_and_known_again(tmp_path, capsys):
    path, setting = tmp_path / "new" / "m.csv", {"weights": "01234567", "steps": 20, "labels": "0123"}
    Measurements(path, order=["steps"]).add({**setting, "fid768": 0.123456})
    Measurements(path, order=["steps"]).add({**setting, "steps": 5, "fid768": 1.0})
    assert pd.read_csv(path)["steps"].tolist() == [5, 20] and "0.1235" in capsys.readouterr().out
    again = Measurements(path)
    assert again.has(setting) and not again.has({**setting, "labels": "none"})


@pytest.mark.parametrize(
    "content, words", [("", "not a CSV"), ("a\n1\n", "no column weights"), ("weights\nx\n", "no column steps")]
)
def test_other_files_are_a_users_error(tmp_path, content, words):
    (tmp_path / "m.csv").write_text(content)
    with pytest.raises(UserError, match=words):
        read_measurements(tmp_path / "m.csv", ["steps"])
