"""What a command's options mean together, and how its failures become exit codes."""

import json
from pathlib import Path

import pytest
import typer

from actors.errors import ShardStopped
from gateway.listener import bind, is_loopback
from gateway.options import (
    CommandFailed,
    ExitCode,
    engine_settings,
    failure_of,
    print_json,
    progress,
    reporting_failures,
    run,
)
from persistence.errors import (
    DatabaseRefused,
    DatabaseUnreachable,
    EmbeddedServerFailed,
    LockHeld,
    SchemaNewer,
)


@pytest.mark.parametrize(
    ("failure", "code", "words"),
    [
        (
            DatabaseUnreachable("no answer", attempts=3, seconds=1.0),
            ExitCode.DATABASE_UNREACHABLE,
            "no answer",
        ),
        (SchemaNewer("it is newer", found=9, known=3), ExitCode.SCHEMA_NEWER, "newer one"),
        (LockHeld("held by 17", 0, 17, "tessera", "now"), ExitCode.LOCK_HELD, "--takeover"),
        (EmbeddedServerFailed("initdb failed", data_dir="d"), ExitCode.DATA_DIR, "initdb"),
        (DatabaseRefused("fsync is off", reason="fsync"), ExitCode.DATABASE, "fsync"),
        (ShardStopped(0, "deposed"), ExitCode.STOPPED, "deposed"),
        (CommandFailed(ExitCode.PORT_IN_USE, "taken"), ExitCode.PORT_IN_USE, "taken"),
    ],
)
def test_failure_ends_with_its_code_and_says_what_to_do(
    failure: CommandFailed, code: ExitCode, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert failure_of(failure).code == code
    with pytest.raises(typer.Exit) as ended, reporting_failures(as_json=True):
        raise failure
    assert ended.value.exit_code == code
    captured = capsys.readouterr()
    assert words in captured.err.replace("\n", " ")
    assert json.loads(captured.out) == {
        "ok": False,
        "error": str(failure_of(failure)),
        "exit_code": int(code),
    }


def test_failure_nobody_foresaw_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError), reporting_failures():
        _ = 1 // 0


def test_interrupt_has_a_code_of_its_own() -> None:
    with pytest.raises(typer.Exit) as ended, reporting_failures():
        raise KeyboardInterrupt
    assert ended.value.exit_code == ExitCode.INTERRUPTED


def test_data_directory_is_made_and_must_exist_where_it_should(tmp_path: Path) -> None:
    made = engine_settings(tmp_path / "a" / "b", None)
    assert made.data_dir == tmp_path / "a" / "b"
    assert made.data_dir.is_dir()
    with pytest.raises(CommandFailed) as caught:
        engine_settings(tmp_path / "c", None, existing=True)
    assert caught.value.code == ExitCode.DATA_DIR
    assert not (tmp_path / "c").exists()


def test_database_url_needs_no_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = engine_settings(None, "postgresql://x", takeover=True)
    assert (settings.data_dir, settings.database_url, settings.takeover) == (None, "postgresql://x", True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("localhost", True),
        ("192.0.2.1", False),
        ("::", False),
        ("example.org", False),
        ("", False),
    ],
)
def test_what_only_this_machine_can_reach(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


def test_port_is_taken_at_once() -> None:
    with bind("127.0.0.1", 0) as mine:
        mine.listen()
        with pytest.raises(CommandFailed) as caught:
            bind("127.0.0.1", mine.getsockname()[1])
    assert caught.value.code == ExitCode.PORT_IN_USE
    with pytest.raises(CommandFailed) as caught:
        bind("192.0.2.1", 0)
    assert caught.value.code == ExitCode.USAGE


def test_work_runs_in_a_loop_and_progress_is_silent_without_a_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def work() -> int:
        with progress("counting") as report:
            report(1, 2)
            report(2, 2, "counted")
        return 2

    assert run(work()) == 2
    print_json({"amount": 2**60})
    captured = capsys.readouterr()
    assert captured.err == ""
    assert json.loads(captured.out) == {"amount": 2**60}
