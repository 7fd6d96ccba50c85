"""The Python client. A million durable transfers in ten lines:

    import numpy as np
    from gateway.client import Client, new_account_ids

    with Client("http://127.0.0.1:8330") as client:
        client.create_thing("GBP", exponent=2)
        accounts = new_account_ids(10_000)
        client.create_accounts(id=accounts, asset="GBP", code=1).check()
        payer = np.random.default_rng().integers(0, 10_000, 1_000_000)
        payee = (payer + 1) % 10_000
        answers = client.post_legs(
            debit=accounts[payer], credit=accounts[payee], amount=1, asset="GBP", code=1
        )
        print(answers.counts())

Rows are columns: NumPy arrays, lists, one value for all rows; or an Arrow table, or a list of dictionaries.
Their names are those of the HTTP interface. Everything that an answer says was accepted is on disk. Legs get
ids before they are sent, and are sent again, with the same ids, until there is an answer; so each happens
once.
"""

from engine.layout import AMOUNT_MAX, AccountFlag, LegFlag
from engine.results import Result
from gateway.client.answers import Answers
from gateway.client.asynchronous import AsyncClient
from gateway.client.errors import ClientError, InvalidColumns, RequestRefused, RowsRefused, Unavailable
from gateway.client.events import AsyncEvents, Event, Events
from gateway.client.ids import new_account_ids, new_ids, to_ids, to_uuids
from gateway.client.sync import Client
from gateway.client.transport import Retry, Transport

__all__ = [
    "AMOUNT_MAX",
    "AccountFlag",
    "Answers",
    "AsyncClient",
    "AsyncEvents",
    "Client",
    "ClientError",
    "Event",
    "Events",
    "InvalidColumns",
    "LegFlag",
    "RequestRefused",
    "Result",
    "Retry",
    "RowsRefused",
    "Transport",
    "Unavailable",
    "new_account_ids",
    "new_ids",
    "to_ids",
    "to_uuids",
]
