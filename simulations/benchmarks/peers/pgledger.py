"""pgledger, a ledger of SQL functions, from its one SQL file.

The file expects a function `uuid_to_ulid` from elsewhere. If it is not in the file, a stand-in is given that
costs less than a real one: the same id in hexadecimal.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Final

from gateway.options import CommandFailed, ExitCode
from simulations.benchmarks.measurement import Options, PeerFigure
from simulations.benchmarks.peers import postgres
from simulations.benchmarks.peers.postgres import Ledger, Session

NAME: Final = "pgledger"
FUNCTIONS: Final = ("pgledger_create_account", "pgledger_create_transfer")
STAND_IN: Final = """
create schema stand_in;
create function stand_in.uuid_to_ulid(id uuid) returns text language sql immutable
return replace(id::text, '-', '');
alter role current_user set search_path = public, stand_in;
set search_path = public, stand_in;
"""


def check(options: Options) -> None:
    """Raises CommandFailed if what is given is not pgledger's SQL file."""
    path = options.pgledger
    if path is None:
        return
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise CommandFailed(ExitCode.BAD_INPUT, f"{path} can't be read: {exc}.") from exc
    for function in FUNCTIONS:
        if function not in text:
            raise CommandFailed(
                ExitCode.BAD_INPUT,
                f"{path} is not pgledger: it has no function {function}.",
                "Give its file pgledger.sql with --pgledger.",
            )


def one_by_one(options: Options) -> Iterator[PeerFigure]:
    """Transfers one by one, if it is there."""
    if options.pgledger is not None:
        yield from postgres.one_by_one(_ledger(options.pgledger), options)


def _ledger(path: Path) -> Ledger:
    return Ledger(
        name=NAME,
        install=partial(_install, path.read_bytes()),
        open_accounts=_open_accounts,
        statement="select id from pgledger_create_transfer($1, $2, $3::numeric)",
        fields=("debit", "credit", "amount"),
        created="",
        books="""
            select
                (select count(*) from pgledger_transfers_view),
                (select sum(balance)::bigint from pgledger_accounts_view)
        """,
    )


def _install(text: bytes, session: Session) -> None:
    session.execute(STAND_IN)
    session.execute(text)


def _open_accounts(session: Session, count: int) -> list[str]:
    query = """
        select account.id
        from generate_series(1, %s) as number, pgledger_create_account('account ' || number, 'GBP') as account
    """
    return [str(id) for (id,) in session.execute(query, (count,))]
