import errno
import os
import stat
import tempfile
import time
from pathlib import Path

import pytest

from common.files import STALE, TEMPORARY, atomic_write, make_folder


def test_an_error_leaves_nothing_and_keeps_the_old_file(tmp_path):
    path = tmp_path / "new folder" / "a.txt"
    with atomic_write(path) as temporary:
        temporary.write_text("old")
    with pytest.raises(KeyError), atomic_write(path) as temporary:
        temporary.write_text("half")
        raise KeyError
    assert path.read_text() == "old" and os.listdir(path.parent) == ["a.txt"]


def test_devices_are_written_to_and_stay_what_they_are():
    with atomic_write(Path(os.devnull)) as path:
        path.write_text("nothing")
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)


def test_an_error_names_the_file_that_was_to_be_written(tmp_path, monkeypatch):
    def denied(**arguments):
        raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path / f"{TEMPORARY}x7f3"))

    monkeypatch.setattr(tempfile, "mkstemp", denied)
    with pytest.raises(PermissionError) as raised, atomic_write(tmp_path / "a.csv"):
        pass
    assert raised.value.filename == str(tmp_path / "a.csv")


def test_the_file_is_as_readable_as_any_other(tmp_path):
    with atomic_write(tmp_path / "a") as temporary:
        temporary.write_text("")
    (tmp_path / "b").write_text("")
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == stat.S_IMODE((tmp_path / "b").stat().st_mode)


def test_a_link_stays_and_its_file_is_replaced(tmp_path):
    (tmp_path / "target.csv").write_text("old")
    (tmp_path / "link.csv").symlink_to("target.csv")
    (tmp_path / "dangling.csv").symlink_to("new.csv")
    for name in ("link.csv", "dangling.csv"):
        with atomic_write(tmp_path / name) as temporary:
            temporary.write_text("new")
        assert (tmp_path / name).is_symlink()
    assert (tmp_path / "target.csv").read_text() == (tmp_path / "new.csv").read_text() == "new"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["dangling.csv", "link.csv", "new.csv", "target.csv"]


@pytest.mark.parametrize("number", [errno.EBUSY, errno.EXDEV])
def test_a_mounted_file_is_written_into(tmp_path, monkeypatch, number):
    path = tmp_path / "mounted.csv"
    path.write_text("a longer old content")
    before = path.stat().st_ino

    def busy(*_):
        raise OSError(number, "busy")

    monkeypatch.setattr(os, "replace", busy)
    with atomic_write(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new" and path.stat().st_ino == before and len(list(tmp_path.iterdir())) == 1


def test_a_name_of_any_legal_length(tmp_path):
    path = tmp_path / ("a" * 255)
    with atomic_write(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"


def test_a_link_to_nowhere_becomes_a_folder(tmp_path):
    (tmp_path / "out").symlink_to("far/away")
    make_folder(tmp_path / "out")
    assert (tmp_path / "far" / "away").is_dir() and (tmp_path / "out").is_symlink()


def test_what_is_flushed_is_on_the_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    done, replace = [], os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: done.append(os.fstat(handle).st_size))
    monkeypatch.setattr(os, "replace", lambda *names: done.append("named") or replace(*names))
    with atomic_write(tmp_path / "a", flush=True) as temporary:
        temporary.write_text("new")
    assert done == [3, "named"]


def test_old_temporary_files_of_ours_alone_are_swept(tmp_path):
    for name in (f"{TEMPORARY}old", f"{TEMPORARY}new", ".others.old", "old"):
        (tmp_path / name).write_text("half")
        if "old" in name:
            os.utime(tmp_path / name, (time.time() - STALE - 1,) * 2)
    with atomic_write(tmp_path / "a") as temporary:
        temporary.write_text("")
    assert sorted(os.listdir(tmp_path)) == [f"{TEMPORARY}new", ".others.old", "a", "old"]
