"""Processes of one shard, one after the other, each with everything imported already.

Importing the kernel takes seconds; forking a process that has done so takes hundredths. Ray has nothing for
that: a worker that is ready is not given to a named, detached actor that is restarted. So each shard actor
has a nursery, which does nothing but fork.

    python -m actors.cluster.nursery

Each line of its standard input is a `ShardPlan`: it is hosted in a new process, of which `HostStatus` says on
standard output how it is. When that process has ended, however that came about, a line says so. It ends with
whoever started it, and the shard with it.
"""

import ctypes
import gc
import os
import signal
import sys
from typing import IO, Final, NoReturn

import msgspec

from actors.cluster.shard_host import ShardHost
from actors.cluster.supervision import Ended, HostStatus, ShardPlan, encode, take_stdout, to_path
from actors.process_memory import give_memory_back

PR_SET_PDEATHSIG: Final = 1
FAILED: Final = 1


def main() -> None:
    """Host shards until the input ends."""
    end_with_parent()
    give_memory_back()
    output = take_stdout()
    gc.collect()
    gc.freeze()  # what is here now stays shared with every process that is forked
    for line in sys.stdin.buffer:
        child = os.fork()
        if child == 0:
            _live(line, output)
        _, status = os.waitpid(child, 0)
        output.write(encode(Ended(child, os.waitstatus_to_exitcode(status))) + b"\n")


def end_with_parent() -> None:
    """Let the kernel kill this process when whoever started it is gone."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _live(line: bytes, output: IO[bytes]) -> NoReturn:
    code = FAILED
    try:
        end_with_parent()
        gc.unfreeze()

        def tell(status: HostStatus) -> None:
            output.write(encode(status) + b"\n")

        plan = msgspec.json.decode(line, type=ShardPlan, dec_hook=to_path)
        code = ShardHost(plan, tell).run()
    finally:  # whatever it was has been logged; nothing of the nursery's may be cleaned up here
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
