"""Runs `tessera` commands in processes that start at once, because everything is imported already.

    python -m tests.faults.nursery

Each line of the input is a JSON list of arguments. It is run as `tessera` would run it, in a process of its
own forked from this one, and its output is this one's. When it has ended, however that came about, a line of
JSON says so: {"ended": pid, "status": how}. One at a time.
"""

import json
import os
import sys
import traceback
from typing import NoReturn

import actors.runtime  # noqa: F401  # what a command would import later
import gateway.cli
import gateway.server  # as above


def main() -> None:
    """Run commands until the input ends."""
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            _run(json.loads(line))
        _, status = os.waitpid(child, 0)
        sys.stdout.write(json.dumps({"ended": child, "status": os.waitstatus_to_exitcode(status)}) + "\n")
        sys.stdout.flush()


def _run(arguments: list[str]) -> NoReturn:
    sys.argv = ["tessera", *arguments]
    code = 1
    try:
        gateway.cli.main()
    except SystemExit as ending:
        code = ending.code if isinstance(ending.code, int) else int(bool(ending.code))
    finally:  # a traceback would be lost, so it is printed first
        if code == 1:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
