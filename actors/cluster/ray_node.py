"""A node of a Ray cluster, tuned for shards, started and kept alive.

Ray's own defaults are for jobs that may take their time: a dead node is noticed after 15 s and a frozen one
after 65 s, a stop waits 30 s for actors to leave, and a monitor kills processes when the *host* is short of
memory, whoever uses it. Nothing restarts a node or a head that died. Here that is different.

Run as a program it keeps one node alive until it is told to stop or its standard input ends:

    python -m actors.cluster.ray_node '{"head": true, "port": 6379, "shards_max": 4}'
"""

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

RESOURCE: Final = "tessera"
"""The custom resource of nodes that may host shards: how many, at most."""
PORT: Final = 6379
OBJECT_STORE_BYTES: Final = 100 << 20
"""Shards keep nothing in Ray's object store."""
PAUSE_MIN_S: Final = 0.5
PAUSE_MAX_S: Final = 10.0
STEADY_S: Final = 30.0
"""A node that ran this long before it died is started again at once."""
STOP_LIMIT_S: Final = 15.0
POLL_S: Final = 0.1
PR_SET_PDEATHSIG: Final = 1
_libc: Final = ctypes.CDLL(None)

ENVIRONMENT: Final = {
    # The control plane asks each node for a sign of life; three misses are a death.
    "RAY_health_check_initial_delay_ms": "500",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "500",
    "RAY_health_check_failure_threshold": "3",
    # Nodes do not leave when the head is away: their shards serve without it.
    "RAY_gcs_rpc_server_reconnect_timeout_s": "86400",
    # How soon a process hears that an actor it calls has died.
    "RAY_timeout_ms_task_wait_for_death_info": "50",
    "RAY_core_worker_internal_heartbeat_ms": "50",
    # A node that is told to stop does so.
    "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
    # Memory is sized by the operator; the kernel's own guard is enough.
    "RAY_memory_monitor_refresh_ms": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}
"""What every process of a cluster of shards should have in its environment, where it has no value yet."""
DRIVERS_OWN: Final = {
    # So often, a second apart, a head that is there is asked to let us in; one that wants a token never will.
    "RAY_NUM_REDIS_GET_RETRIES": "3",
}


class RayNodeOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What kind of node. A node is the head, or joins the one at `address`."""

    head: bool = False
    address: str = ""
    port: int = PORT  # of a head
    node_ip: str = ""  # where others reach it; found out if empty
    shards_max: int = 8  # how many shards it may host; 0 = none
    cpus: int | None = None  # for Ray's other work
    storage: str | None = None  # where a head keeps its tables, so that it survives its death
    temp_dir: str | None = None  # a short path; a folder of its own if not given

    def __post_init__(self) -> None:
        if self.head == bool(self.address):
            raise ValueError("a node is either the head, or joins the head at an address")
        if self.storage is not None and not self.head:
            raise ValueError("only a head has storage")


def environment(options: RayNodeOptions | None = None) -> dict[str, str]:
    """The environment of a node, or of any other process that speaks to Ray."""
    more = dict(ENVIRONMENT)
    if "RAY_AUTH_MODE" not in os.environ and "RAY_AUTH_TOKEN_PATH" not in os.environ:
        more["RAY_AUTH_MODE"] = "token" if "RAY_AUTH_TOKEN" in os.environ else "disabled"
    if options is None:
        more |= DRIVERS_OWN
    elif options.storage is not None:
        more |= {"RAY_gcs_storage": "rocksdb", "RAY_gcs_storage_path": options.storage}
    return more | dict(os.environ)


def command(options: RayNodeOptions, temp_dir: Path) -> list[str]:
    """What starts the node."""
    where = ["--head", f"--port={options.port}"] if options.head else [f"--address={options.address}"]
    if options.head:
        where += [f"--temp-dir={temp_dir}", "--include-dashboard=false"]
    if options.node_ip:
        where.append(f"--node-ip-address={options.node_ip}")
    if options.cpus is not None:
        where.append(f"--num-cpus={options.cpus}")
    if options.shards_max:
        where.append(f"--resources={json.dumps({RESOURCE: options.shards_max})}")
    return [
        *(sys.executable, "-c", "from ray.scripts.scripts import main; main()", "start", "--block"),
        *where,
        *(f"--object-store-memory={OBJECT_STORE_BYTES}", "--include-log-monitor=false"),
        "--disable-usage-stats",
    ]


class RayNode:
    """Keeps a node alive. `run` returns after `stop`."""

    def __init__(self, options: RayNodeOptions) -> None:
        self._options = options
        self._stopping = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None

    def stop(self) -> None:
        """Let it end. May be called from a signal handler or another thread."""
        self._stopping.set()

    def run(self) -> None:
        """Start the node, again whenever it has died, until `stop`."""
        own = None if self._options.temp_dir is not None else Path(tempfile.mkdtemp(prefix="tessera-ray-"))
        temp_dir = own or Path(self._options.temp_dir or "")
        pause_s = PAUSE_MIN_S
        try:
            while not self._stopping.is_set():
                # A head that was killed leaves this behind, and the next one would say that it runs already.
                (temp_dir / "ray_current_cluster").unlink(missing_ok=True)
                ran_s = self._run_once(temp_dir)
                pause_s = PAUSE_MIN_S if ran_s >= STEADY_S else min(2 * pause_s, PAUSE_MAX_S)
                self._stopping.wait(pause_s)
        finally:
            if own is not None:
                shutil.rmtree(own, ignore_errors=True)

    def _run_once(self, temp_dir: Path) -> float:
        """One life of the node; how long it was, in seconds."""
        started = time.monotonic()
        process = subprocess.Popen(  # noqa: S603  # a command of our own making
            command(self._options, temp_dir),
            env=environment(self._options),
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,
            start_new_session=True,
            preexec_fn=_end_with_parent,  # noqa: PLW1509  # one call of the kernel, no lock
        )
        try:
            while process.poll() is None and not self._stopping.wait(POLL_S):
                continue
        finally:
            _end(process)
        return time.monotonic() - started


def _end_with_parent() -> None:
    """Lets the kernel tell this process to end when its parent is killed."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a node and everything that it started; processes that outlive it would hold its ports."""
    process.terminate()
    try:
        process.wait(STOP_LIMIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def stop_with_parent(stop: Callable[[], None]) -> None:
    """Call `stop` at a signal to end, or when whoever started this process is gone: our standard input ends
    then."""

    def wait_for_end() -> None:
        while sys.stdin.buffer.read(1 << 12):
            continue
        stop()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda _number, _frame: stop())
    threading.Thread(target=wait_for_end, name="parent", daemon=True).start()


def main() -> None:
    """Keep one node alive, as the argument says."""
    node = RayNode(msgspec.json.decode(sys.argv[1], type=RayNodeOptions))
    stop_with_parent(node.stop)
    node.run()


if __name__ == "__main__":
    main()
