"""environment.sh on empty requirements, so that making an environment takes seconds and no network."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from common.files import REPOSITORY


@pytest.fixture
def clone(tmp_path):
    root = tmp_path / "a clone"
    root.mkdir()
    shutil.copy(REPOSITORY / "environment.sh", root)
    for name in ("requirements.txt", "requirements-dev.txt", "requirements-current.txt"):
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
