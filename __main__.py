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

try:
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
