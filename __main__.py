"""python3 REPOSITORY MODULE ARGUMENTS: what the shell scripts run. The folder as it is becomes Python's first path."""

import os
import runpy
import sys

for stream in range(3):  # a closed one would give its number to the next file that is opened
    try:
        os.fstat(stream)
    except OSError:
        os.open(os.devnull, os.O_RDONLY)  # so that a result for it is an error

try:
    os.getcwd()
except FileNotFoundError:  # deleted meanwhile; MKL aborts without one
    os.chdir("/proc")  # where relative paths lead to nothing and nothing can be made


def check_memory(module: str) -> None:
    """Raise MemoryError where the memory is limited and the packages don't load within it, as a trial shows: some of
    them end the process then, or say much.
    """
    import resource
    import subprocess

    if resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY:
        here = os.path.dirname(os.path.abspath(__file__))
        trial = subprocess.run([sys.executable, "-c", f"import {module}"], cwd=here, capture_output=True)
        if trial.returncode and b"ModuleNotFoundError" not in trial.stderr:
            raise MemoryError("a trial within ulimit -v failed")


try:
    check_memory(sys.argv[1])
    runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
except ModuleNotFoundError as error:
    print(f"error: no package {error.name} for {sys.executable}; install requirements.txt", file=sys.stderr)
    raise SystemExit(2) from None
except (ImportError, MemoryError, OSError) as error:  # of packages that are loaded, which commands don't see
    print(f"error: {sys.executable} can't load the packages ({error}); is the memory limited?", file=sys.stderr)
    raise SystemExit(2) from None
except KeyboardInterrupt:  # while they are loaded
    print("stopped: interrupted before the start", file=sys.stderr)
    raise SystemExit(130) from None
