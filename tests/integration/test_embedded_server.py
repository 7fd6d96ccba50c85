"""The embedded server: made once, shared by processes, started again when killed, and private."""

import multiprocessing
import os
import pwd
import select
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import psycopg
import pytest

from persistence import installation
from persistence.embedded import EmbeddedServer
from persistence.errors import EmbeddedServerFailed

AS_ROOT = os.geteuid() == 0
PRIVATE_PARENTS = ("data", "binaries", "both") if AS_ROOT else ("data",)
"""What an unprivileged server can't reach; without root there is one user only, who reaches everything."""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that any user can enter, for data directories."""
    made = Path(tempfile.mkdtemp(prefix="tessera-embedded-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture
def server(folder: Path) -> Iterator[EmbeddedServer]:
    made = EmbeddedServer(folder / "data")
    made.start()
    yield made
    made.start()
    made.destroy()


def ask(server: EmbeddedServer, query: str) -> str:
    with psycopg.connect(server.dsn) as connection:
        row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return str(row[0])


def kill(pid: int | None) -> None:
    """Kills a process and waits until it is dead, though its parent may not have noticed yet."""
    assert pid is not None
    handle = os.pidfd_open(pid)
    os.kill(pid, signal.SIGKILL)
    select.select([handle], [], [])
    os.close(handle)


def running(pid: int | None) -> bool:
    assert pid is not None
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_a_new_cluster_is_durable_utf8_and_checksummed(server: EmbeddedServer) -> None:
    wanted = {
        "fsync": "on",
        "full_page_writes": "on",
        "synchronous_commit": "on",
        "data_checksums": "on",
        "server_encoding": "UTF8",
        "listen_addresses": "",
        "max_connections": "50",
        "shared_buffers": "256MB",
        "max_wal_size": "4GB",
    }
    assert {name: ask(server, f"show {name}") for name in wanted} == wanted
    assert ask(server, "select current_user || ' ' || current_database()") == "tessera tessera"
    assert ask(server, "select upper('é')") == "É"


def test_it_runs_unprivileged_in_a_private_folder(server: EmbeddedServer) -> None:
    assert server.pid is not None
    owner = Path(f"/proc/{server.pid}").stat().st_uid
    assert owner != 0
    assert owner == (server.cluster.stat().st_uid if AS_ROOT else os.geteuid())
    assert stat.S_IMODE(server.cluster.stat().st_mode) == 0o700
    assert (server.cluster / ".s.PGSQL.5432").is_socket()


def test_data_survive_a_stop_and_a_start(server: EmbeddedServer) -> None:
    with psycopg.connect(server.dsn) as connection:
        connection.execute("create table kept as select 42 as answer")
    pid = server.pid
    server.stop()
    assert not running(pid)
    assert server.pid is None
    server.start()
    assert ask(server, "select answer from kept") == "42"
    assert "not properly shut down" not in server.log_path.read_text()


def test_starting_twice_and_stopping_twice_is_harmless(server: EmbeddedServer) -> None:
    pid = server.pid
    server.start()
    server.ensure_running()
    assert server.pid == pid
    server.stop()
    server.stop()


def test_the_last_user_stops_it(server: EmbeddedServer) -> None:
    second = EmbeddedServer(server.data_dir)
    second.start()
    pid = server.pid
    assert second.pid == pid
    server.stop()
    assert ask(second, "select 1") == "1"
    second.stop()
    assert not running(pid)


def test_users_that_start_at_once_share_one_server(folder: Path) -> None:
    servers = [EmbeddedServer(folder / "data") for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(EmbeddedServer.start, servers))
        assert len({server.pid for server in servers}) == 1
        list(pool.map(EmbeddedServer.stop, servers))
    assert servers[0].pid is None


def test_a_killed_user_does_not_keep_it_running(server: EmbeddedServer) -> None:
    program = (
        "import sys, time; from persistence.embedded import EmbeddedServer\n"
        "EmbeddedServer(sys.argv[1]).start(); print('started', flush=True); time.sleep(600)"
    )
    command = [sys.executable, "-c", program, str(server.data_dir)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as user:
        assert user.stdout is not None
        assert user.stdout.readline() == "started\n"
        user.kill()
    assert ask(server, "select 1") == "1"
    pid = server.pid
    server.stop()
    assert not running(pid)


def test_a_server_left_by_a_killed_user_is_used_by_the_next(folder: Path) -> None:
    program = (
        "import os, signal, sys; from persistence.embedded import EmbeddedServer\n"
        "EmbeddedServer(sys.argv[1]).start(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    user = subprocess.run([sys.executable, "-c", program, str(folder / "data")], check=False)
    assert user.returncode == -signal.SIGKILL
    server = EmbeddedServer(folder / "data")
    pid = int((folder / "data" / "postgres" / "postmaster.pid").read_text().splitlines()[0])
    server.start()
    assert server.pid == pid
    server.stop()
    assert not running(pid)


def test_a_killed_server_is_started_again(server: EmbeddedServer) -> None:
    with psycopg.connect(server.dsn) as connection:
        connection.execute("create table kept as select 42 as answer")
    killed = server.pid
    kill(killed)
    server.ensure_running()
    assert server.pid != killed
    assert ask(server, "select answer from kept") == "42"


def test_a_killed_server_is_started_again_once_its_orphans_are_gone(server: EmbeddedServer) -> None:
    with psycopg.connect(server.dsn) as connection:
        orphan = connection.info.backend_pid
        os.kill(orphan, signal.SIGSTOP)
        kill(server.pid)
        with ThreadPoolExecutor(1) as pool:
            restarted = pool.submit(server.ensure_running)
            while "pre-existing shared memory block" not in server.log_path.read_text():
                assert not restarted.done()
            os.kill(orphan, signal.SIGCONT)
            restarted.result()
        with pytest.raises(psycopg.OperationalError):
            connection.execute("select 1")
    assert ask(server, "select 1") == "1"


def test_a_stale_pid_file_is_no_obstacle(server: EmbeddedServer) -> None:
    pid_file = server.cluster / "postmaster.pid"
    content = pid_file.read_text().splitlines()
    server.stop()
    process = multiprocessing.get_context("spawn").Process(target=int)
    process.start()
    process.join()
    pid_file.write_text("\n".join([str(process.pid), *content[1:]]))
    server.start()
    assert ask(server, "select 1") == "1"


def test_settings_of_the_users_own_win(server: EmbeddedServer) -> None:
    server.stop()
    (server.cluster / "custom.conf").write_text("work_mem = '7MB'\n")
    server.start()
    assert ask(server, "show work_mem") == "7MB"


def test_a_path_too_long_for_a_socket_gets_a_short_folder_of_its_own(folder: Path) -> None:
    server = EmbeddedServer(folder / ("long-" * 20) / "data")
    server.start()
    assert ask(server, "select 1") == "1"
    socket_folder = Path((server.cluster / "postmaster.pid").read_text().splitlines()[4])
    assert stat.S_IMODE(socket_folder.stat().st_mode) == 0o700
    kill(server.pid)
    server.ensure_running()
    assert ask(server, "select 1") == "1"
    assert not socket_folder.exists()
    second_folder = Path((server.cluster / "postmaster.pid").read_text().splitlines()[4])
    server.destroy()
    assert not second_folder.exists()


def test_a_start_that_was_killed_in_the_middle_leaves_nothing_in_the_way(folder: Path) -> None:
    making = folder / "data" / "postgres.making"
    making.mkdir(parents=True)
    (making / "PG_VERSION").write_text("18\n")
    with EmbeddedServer(folder / "data") as server:
        assert ask(server, "select 1") == "1"


def test_a_broken_configuration_is_told_with_the_end_of_the_log(server: EmbeddedServer) -> None:
    server.stop()
    (server.cluster / "custom.conf").write_text("no_such_setting = 1\n")
    with pytest.raises(EmbeddedServerFailed, match="no_such_setting") as failed:
        server.start()
    assert failed.value.data_dir == str(server.data_dir)
    (server.cluster / "custom.conf").write_text("")


def test_a_cluster_of_another_version_is_refused(folder: Path) -> None:
    cluster = folder / "data" / "postgres"
    cluster.mkdir(parents=True)
    (cluster / "PG_VERSION").write_text("12\n")
    if AS_ROOT:
        os.chown(cluster, pwd.getpwnam("nobody").pw_uid, -1)
    with pytest.raises(EmbeddedServerFailed, match="of PostgreSQL 12, but"):
        EmbeddedServer(folder / "data").start()


def test_a_data_directory_that_cannot_be_made_is_told(folder: Path) -> None:
    (folder / "file").touch()
    with pytest.raises(EmbeddedServerFailed, match="cannot make the data directory"):
        EmbeddedServer(folder / "file" / "data").start()


def test_a_missing_wheel_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(installation, "distribution", missing)
    with pytest.raises(EmbeddedServerFailed, match="install it, or give a database URL"):
        EmbeddedServer(folder / "data").start()


def _wheel(data_dir: Path) -> Path:
    """Where the installed binaries are; the checkout that they belong to may be private too."""
    return installation.wheel_installation(data_dir)


def _reachable_by_others(path: Path) -> bool:
    return all(parent.stat().st_mode & stat.S_IXOTH for parent in path.parents)


@pytest.mark.parametrize("private", PRIVATE_PARENTS)
def test_what_the_servers_user_cannot_reach_is_kept_where_it_can(folder: Path, private: str) -> None:
    hidden = folder / "hidden"
    hidden.mkdir(mode=0o700)
    programs: Path | None = None
    data_dir = (hidden if private in ("data", "both") else folder) / "data"
    if private in ("binaries", "both"):
        wheel = _wheel(data_dir)
        shutil.copytree(wheel, hidden / "site" / wheel.parent.name / wheel.name, symlinks=True)
        libraries = wheel.parent.with_name(f"{wheel.parent.name}.libs")
        shutil.copytree(libraries, hidden / "site" / libraries.name)
        programs = hidden / "site" / wheel.parent.name / wheel.name
    server = EmbeddedServer(data_dir, programs, folder / "system")
    server.start()
    assert ask(server, "select 1") == "1"
    server.stop()

    again = EmbeddedServer(data_dir, programs, folder / "system")
    again.start()
    assert ask(again, "select 1") == "1"
    assert again.cluster == server.cluster
    assert stat.S_IMODE(hidden.stat().st_mode) == 0o700
    if AS_ROOT:
        assert (again.cluster.parent == folder / "system") == (private in ("data", "both"))
        copies = list((folder / "system").glob("binaries-*"))
        assert len(copies) == (private in ("binaries", "both") or not _reachable_by_others(_wheel(data_dir)))
    again.destroy()
    assert not again._pointer.exists()


def test_without_a_user_to_run_as_root_is_told_which_would_do(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(installation, "USERS", ("no-such-user",))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(EmbeddedServerFailed, match="an unprivileged user: one of no-such-user"):
        EmbeddedServer(folder / "data").start()


def test_a_location_that_is_gone_is_told(folder: Path) -> None:
    (folder / "data").mkdir()
    (folder / "data" / "postgres.location").write_text(f"{folder}/gone\n")
    with pytest.raises(EmbeddedServerFailed, match="which is not there"):
        EmbeddedServer(folder / "data").start()
