"""environment.sh on empty requirements, so that making an environment takes seconds and no network."""

import os
import shutil
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from common.files import REPOSITORY


@pytest.fixture
def clone(tmp_path):
    root = tmp_path / "a clone"
    root.mkdir()
    shutil.copy(REPOSITORY / "environment.sh", root)
    for name in ("requirements.txt", "requirements-dev.txt", "requirements-current.txt", "requirements-report.txt"):
        (root / name).write_text("")
    return root


def python_of(root: Path, **environment: str) -> subprocess.CompletedProcess:
    kept = {key: value for key, value in os.environ.items() if key != "HW2_VENV"}
    code = "set -euo pipefail; . ./environment.sh; use_environment graded; echo $PYTHON"
    env = {**kept, "XDG_CACHE_HOME": str(root.parent / "cache"), **environment}
    return subprocess.run(["bash", "-c", code], cwd=root, env=env, capture_output=True, text=True)


def test_made_once_shared_by_clones_and_remade_when_interrupted_or_changed(clone):
    first = python_of(clone)
    assert first.returncode == 0 and "making" in first.stderr, first.stderr
    python = Path(first.stdout.strip())
    assert subprocess.run([python, "-c", ""]).returncode == 0
    shutil.copytree(clone, clone.parent / "b")
    second = python_of(clone.parent / "b")
    assert second.stdout == first.stdout and "making" not in second.stderr
    (python.parent.parent / "complete").unlink()  # as if the making had been interrupted
    (python.parent.parent / "rubble").write_text("")
    third = python_of(clone)
    assert third.stdout == first.stdout and "making" in third.stderr and not (python.parent.parent / "rubble").exists()
    (clone / "requirements.txt").write_text("# changed\n")
    assert python_of(clone).stdout != first.stdout


def test_an_environment_of_ones_own_is_taken_or_refused(clone):
    (clone.parent / "own" / "bin").mkdir(parents=True)
    python = clone.parent / "own" / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    assert python_of(clone, HW2_VENV=str(python.parent.parent)).stdout.strip() == str(python)
    (clone.parent / "empty" / "bin").mkdir(parents=True)
    refused = python_of(clone, HW2_VENV=str(clone.parent / "empty"))
    assert refused.returncode != 0 and "HW2_VENV" in refused.stderr


@pytest.fixture
def bare(tmp_path):
    """A PATH with few tools and a python3.10 whose pip fails or works; (run, folder of the environments)."""
    (tmp_path / "bin").mkdir()
    cache = tmp_path / "cache" / "dlcv-hw2"

    def run(root, *, pip, tools="bash cat mkdir rm touch dirname readlink", errexit=True, code="", **environment):
        shutil.rmtree(tmp_path / "bin")
        (tmp_path / "bin").mkdir()
        for tool in tools.split():
            (tmp_path / "bin" / tool).symlink_to(shutil.which(tool))
        python = tmp_path / "bin" / "python3.10"
        python.write_text(
            "#!/usr/bin/env bash\n"
            'if [ "$1 $2 $3" = "-I -m venv" ]; then\n'
            f'    mkdir -p "$4/bin"; printf "#!/usr/bin/env bash\\n{FAKE[pip]}" > "$4/bin/python"\n'
            '    chmod +x "$4/bin/python"; exit 0\n'
            f'fi\nexec "{sys.executable}" "$@"\n'
        )
        python.chmod(0o755)
        (tmp_path / "bin" / "chmod").symlink_to(shutil.which("chmod"))
        mode = "set -euo pipefail; . ./environment.sh; use_environment graded; echo made"
        code = code or (mode if errexit else ". ./environment.sh && use_environment graded && echo made")
        env = {"PATH": str(tmp_path / "bin"), "XDG_CACHE_HOME": str(cache.parent), **environment}
        env = {name: value for name, value in env.items() if value}
        return subprocess.run(["bash", "-c", code], cwd=root, env=env, capture_output=True, text=True)

    return run, cache


FAKE = {"works": "", "fails": 'case "$*" in *pip*) exit 1;; esac\\n'}


@pytest.mark.parametrize("errexit", [True, False])
def test_a_failed_install_is_no_environment_and_is_made_anew(clone, bare, errexit):
    run, cache = bare
    failed = run(clone, pip="fails", errexit=errexit)
    assert failed.returncode != 0 and "made" not in failed.stdout and "could not be made" in failed.stderr
    assert not list(cache.rglob("complete"))
    again = run(clone, pip="works", errexit=errexit)
    assert again.returncode == 0 and "made" in again.stdout and len(list(cache.rglob("complete"))) == 1


@pytest.mark.parametrize(
    "tools", ["bash cat mkdir rm touch dirname readlink", "bash cat mkdir rm touch dirname readlink sha256sum"]
)
def test_nothing_but_bash_and_python_is_needed_and_no_others_environment_is_touched(clone, bare, tools):
    run, cache = bare
    (cache / "another").mkdir(parents=True)
    (cache / "another" / "complete").touch()
    result = run(clone, pip="works", tools=tools)
    assert result.returncode == 0, result.stderr
    assert (cache / "another" / "complete").exists() and len(list(cache.rglob("complete"))) == 2


def test_the_callers_open_file_stays_and_a_link_to_the_file_may_be_sourced(clone, bare):
    run, _ = bare
    (clone.parent / "link").symlink_to(clone / "environment.sh")
    code = 'exec 9>"$OUT"; . ../link; use_environment graded && echo mine >&9'
    result = run(clone, pip="works", code=code, OUT=str(clone / "out"))
    assert result.returncode == 0 and (clone / "out").read_text() == "mine\n", result.stderr


def test_a_cache_that_cannot_be_written_serves_what_is_complete(clone, bare):
    run, cache = bare
    assert run(clone, pip="works").returncode == 0
    (lock,) = cache.glob("*.lock")
    lock.unlink()
    lock.mkdir()
    assert run(clone, pip="works").returncode == 0
    (complete,) = cache.rglob("complete")
    complete.unlink()
    refused = run(clone, pip="works")
    assert refused.returncode == 2 and "can't be written to; set XDG_CACHE_HOME" in refused.stderr


def test_the_users_folder_may_hold_any_files_and_the_cache_may_be_relative(clone, bare):
    run, _ = bare
    for name in ("random.py", "logging.py", "venv.py"):
        (clone / name).write_text("raise RuntimeError")
    code = (
        'cd "$HOME"; . "$OLDPWD/environment.sh"; use_environment graded; cd /; [ -e "${PYTHON%/bin/python}/complete" ]'
    )
    result = run(clone, pip="works", code=code, HOME=str(clone), XDG_CACHE_HOME="relative")
    assert result.returncode == 0, result.stderr


@pytest.fixture
def wheels(clone):
    """A folder with the package `tiny`, which the clone requires."""
    folder = clone.parent / "wheels"
    folder.mkdir()
    with zipfile.ZipFile(folder / "tiny-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tiny.py", "")
        wheel.writestr("tiny-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        wheel.writestr("tiny-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("tiny-1.0.dist-info/RECORD", "")
    (clone / "requirements.txt").write_text('tiny==1.0  # small\nabsent==1.0; python_version < "3"\n')
    return folder


def test_of_pips_settings_only_those_of_the_source_count(clone, wheels):
    elsewhere = clone.parent / "elsewhere"
    with zipfile.ZipFile(wheels / "tiny-1.0-py3-none-any.whl") as wheel:
        wheel.extractall(elsewhere)  # where an install would find it, too
    source = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels)}
    target = {"PIP_TARGET": str(elsewhere), "PIP_PREFIX": "", "PIP_USER": "1", "PIP_REQUIRE_VIRTUALENV": "1"}
    made = python_of(clone, **source, **target, PYTHONPATH=str(elsewhere), PYTHONHOME=str(elsewhere))
    assert made.returncode == 0, made.stderr
    python = Path(made.stdout.strip())
    assert subprocess.run([python, "-I", "-c", "import tiny"]).returncode == 0


def test_an_environment_that_lacks_packages_is_not_complete(clone, wheels):
    config = clone.parent / "pip.conf"
    config.write_text(f"[install]\ntarget = {clone.parent / 'elsewhere'}\n")
    failed = python_of(clone, PIP_CONFIG_FILE=str(config), PIP_NO_INDEX="1", PIP_FIND_LINKS=str(wheels))
    assert failed.returncode == 2 and "tiny is not there" in failed.stderr and "pip config list" in failed.stderr
    assert not list((clone.parent / "cache").rglob("complete"))


def test_without_a_home_one_line_says_what_to_set(clone, bare):
    run, _ = bare
    refused = run(clone, pip="works", XDG_CACHE_HOME="")
    assert refused.returncode == 2 and refused.stderr.startswith("error: set HOME or XDG_CACHE_HOME")


def test_two_that_start_at_once_make_one_environment(clone):
    with ThreadPoolExecutor() as pool:
        results = [future.result() for future in [pool.submit(python_of, clone) for _ in range(2)]]
    assert [result.returncode for result in results] == [0, 0] and results[0].stdout == results[1].stdout
    assert sum("making" in result.stderr for result in results) == 1
