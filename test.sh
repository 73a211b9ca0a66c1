#!/usr/bin/env bash
# bash test.sh [--current] [PYTEST ARGUMENTS]      make the environment once, then lint, check imports and types, run the tests
#   --current   on a current torch instead of the graded versions
#   -m slow     the released checkpoints on real data (minutes), instead of the quick tests
#   -m faults   injected faults, and what they did (minutes)
# HW2_VENV=FOLDER runs them in an environment of your own.
# Real data (course/ and data/) is found through HW2_REAL_DATA, by default ../shared; tests that need it skip without.
set -euo pipefail
here=$(readlink -f -- "${BASH_SOURCE[0]}")
here=${here%/*}
. "$here/environment.sh"
kind=graded
if [ "${1:-}" = --current ]; then
    kind=current
    shift
fi
use_environment "$kind"
export HW2_REAL_DATA=${HW2_REAL_DATA:-$(cd "$here/.." && pwd)/shared}
cd "$here/"
"$PYTHON" -m ruff check .
"$PYTHON" -m ruff format --check .
"$PYTHON" -c "from importlinter.cli import lint_imports_command; lint_imports_command()"
"$PYTHON" -m mypy
exec "$PYTHON" -m pytest -rs -m "not slow and not faults" "$@"  # -rs: why tests were skipped
