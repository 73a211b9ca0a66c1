from homework import demo


def test_a_folder_of_other_files_is_not_emptied(tmp_path, capsys):
    (tmp_path / "precious").write_text("")
    assert demo.main(["--out", str(tmp_path)]) == 2
    assert "holds files" in capsys.readouterr().err and (tmp_path / "precious").exists()
