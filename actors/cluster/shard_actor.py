"""A shard as a Ray actor.

The actor is where Ray places, names and restarts; the shard runs in a process beside it that the actor's
nursery forks, and forks again when it has ended, so that a restart does not wait for Ray or for imports. The
two processes end together. The constructor starts a thread and never raises, because Ray gives up an actor
whose constructor has raised, and frees its name. Its few methods are for the supervisor.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import Final

import msgspec
import ray
import structlog

from actors.cluster.supervision import LOST, VERSION, Ended, HostStatus, Place, ShardPlan, encode, to_path
from actors.settings import Settings
from persistence.database import Database
from persistence.errors import PersistenceError

STOP_LIMIT_S: Final = 120.0
STEADY_S: Final = 5.0
"""A process that lived this long is replaced at once; others after a pause."""
PAUSE_MIN_S: Final = 0.1
PAUSE_MAX_S: Final = 2.0
LOST_PAUSE_S: Final = 10.0
"""A shard that ended by itself was probably replaced: this node stood still, and Ray has given it up. Then
this process is about to end too, and must not take the shard back meanwhile."""

_decoder = msgspec.json.Decoder(HostStatus | Ended)
_log = structlog.get_logger(__name__)


class _Versioned(msgspec.Struct, frozen=True):
    """What of a plan every version can read."""

    version: str
    shard: int


class ShardActor:
    """Hosts one shard beside this process."""

    def __init__(self, plan: bytes) -> None:
        self._stopping = threading.Event()
        self._stopped = threading.Event()  # set while no process hosts the shard, and none will
        self._said = msgspec.json.decode(plan, type=_Versioned)
        self._status = self._without_process("opening", "its nursery is being started")
        if self._said.version != VERSION:
            self._status = self._without_process(
                "refused", f"this node has Tessera {VERSION}, and the cluster is run by {self._said.version}"
            )
            self._stopped.set()
            return
        decoded = msgspec.json.decode(plan, type=ShardPlan, dec_hook=to_path)
        place = Place(host=_address(), node=socket.gethostname(), port=decoded.place.port)
        self._plan = encode(msgspec.structs.replace(decoded, place=place))
        threading.Thread(target=self._keep, name="keeper", daemon=True).start()

    def status(self) -> bytes:
        """How the shard's process is: a `HostStatus` as JSON, so that another version can read it."""
        return encode(self._status)

    def stop(self) -> bool:
        """Let the shard answer what waits, leave a snapshot, and give up the log; this process stays, for Ray
        to end. Whether that was done in time."""
        self._stopping.set()
        with suppress(ProcessLookupError):
            if self._status.state in ("opening", "serving") and self._status.pid != os.getpid():
                os.kill(self._status.pid, signal.SIGTERM)
        return self._stopped.wait(STOP_LIMIT_S)

    def _without_process(self, state: str, reason: str) -> HostStatus:
        return HostStatus(
            shard=self._said.shard,
            state=state,
            reason=reason,
            pid=os.getpid(),
            node=socket.gethostname(),
            version=VERSION,
        )

    # In the thread

    def _keep(self) -> None:
        """Keep a nursery, for as long as this process lives: the nursery ends with this very thread."""
        pause_s = PAUSE_MIN_S
        while not self._stopping.is_set():
            with subprocess.Popen(
                (sys.executable, "-m", "actors.cluster.nursery"),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            ) as nursery:
                self._raise_children(nursery)
                nursery.kill()
            if not self._stopping.is_set():
                _log.warning("a nursery has ended", shard=self._said.shard)
                self._stopping.wait(pause_s)
                pause_s = min(2 * pause_s, PAUSE_MAX_S)
        self._stopped.set()

    def _raise_children(self, nursery: subprocess.Popen[bytes]) -> None:
        """Have one process after the other host the shard, until the nursery ends or `stop`."""
        assert nursery.stdin is not None
        assert nursery.stdout is not None
        pause_s = PAUSE_MIN_S
        while not self._stopping.is_set():
            started = time.monotonic()
            with suppress(BrokenPipeError):
                nursery.stdin.write(self._plan + b"\n")
                nursery.stdin.flush()
            ended = self._listen(nursery)
            if ended is None:
                return
            _log.warning("the process of a shard has ended", shard=self._said.shard, code=ended.code)
            if ended.code == LOST:
                self._stopping.wait(LOST_PAUSE_S)
            pause_s = PAUSE_MIN_S if time.monotonic() - started > STEADY_S else min(2 * pause_s, PAUSE_MAX_S)
            if pause_s > PAUSE_MIN_S:
                self._stopping.wait(pause_s)

    def _listen(self, nursery: subprocess.Popen[bytes]) -> Ended | None:
        """Take note of what is said, until a process has ended; None if the nursery itself has."""
        assert nursery.stdout is not None
        for line in nursery.stdout:
            said = _decoder.decode(line)
            if isinstance(said, Ended):
                if self._status.state != "ended":
                    reason = f"process {said.pid} was ended: {said.code}"
                    self._status = msgspec.structs.replace(self._status, state="ended", reason=reason)
                return said
            self._status = said
            if self._stopping.is_set() and said.state == "opening":
                os.kill(said.pid, signal.SIGTERM)
        return None


class NodeProbe(msgspec.Struct, frozen=True, kw_only=True):
    """What a node says of itself."""

    node: str
    version: str
    trouble: str = ""  # why PostgreSQL can't be used from there


def installed() -> str:
    """The node's version of Tessera."""
    return VERSION


def probe(settings: bytes) -> bytes:
    """Whether a shard could be opened on this node: a `NodeProbe` as JSON."""
    node = socket.gethostname()
    try:
        decoded = msgspec.json.decode(settings, type=Settings, dec_hook=to_path)
        with Database(decoded.database) as database, database.session_sync("tessera probe"):
            trouble = ""
    except (msgspec.ValidationError, PersistenceError) as exc:
        trouble = str(exc)
    return msgspec.json.encode(NodeProbe(node=node, version=VERSION, trouble=trouble))


def _address() -> str:
    address: str = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]  # as Ray has it
    return address
