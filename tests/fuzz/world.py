"""Something to ask for: what there is in a ledger before requests are made up, and how they come to name it.

Made-up ids name nothing. So of the ids, codes and keys in data that fits the document, most are replaced by
those of things that are there. Which ones depends on the data alone, so a case can be repeated.
"""

import json
import re
from pathlib import Path
from typing import Any, Final

import httpx
import xxhash

FILE: Final = "TESSERA_FUZZ_WORLD"
"""The variable that names the file with what is there."""
MOVES: Final = ("/v1/moves", "/v1/moves/preview")
CLASSES: Final = "AXLREMI"
_ID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_SPARED: Final = 8
"""One of so many stays as it was made up."""


def make(http: httpx.Client) -> dict[str, list[str]]:
    """Fill an empty ledger; what is there, by the names that fields and parameters have."""
    for code in ("GBP", "PTS"):
        _made(http, "/v1/things", {"kind": "asset", "code": code, "exponent": 2})
    parties = [_made(http, "/v1/parties", {"kind": "person", "name": name})["id"] for name in "ABC"]
    for party in parties:
        legs = [{"debit": "A:bank", "credit": f"L:wallet/{party}", "amount": 1_000_000, "asset": "GBP"}]
        _made(http, "/v1/moves", {"kind": "journal", "legs": legs})
    usual = {"kind": "transfer", "payer": parties[0], "payee": parties[1], "asset": "GBP", "amount": 5}
    moves = [_made(http, "/v1/moves", {**usual, "reference": f"R{n}"})["id"] for n in range(3)]
    moves += [_made(http, "/v1/moves", {**usual, "transition": "hold"})["id"] for _ in range(6)]
    keys = [f"L:wallet/{party}" for party in parties]
    opened = [_made(http, "/v1/accounts", {"key": key, "asset": "GBP"})["id"] for key in (*keys, "A:bank")]
    holds = [hold["id"] for hold in http.get("/v1/holds").json()["items"]]
    codes = ["GBP", "PTS"]
    legs = [entry["leg"] for entry in http.get("/v1/entries").json()["items"]]
    kinds = http.get("/v1/kinds").json()["items"]
    transitions = {one["name"]: None for kind in kinds for one in kind["transitions"]}
    ids = [*parties, *opened, *moves, *legs]
    return {
        **dict.fromkeys(("party", "party_id", "payer", "payee"), parties),
        **dict.fromkeys(("account", "account_id", "debit", "credit"), opened),
        **dict.fromkeys(("move", "move_id", "reverses", "order"), moves),
        **dict.fromkeys(("hold_id", "pending_id"), holds),
        "leg_id": legs,
        "ids": ids,
        **dict.fromkeys(("asset", "code", "thing"), codes),
        "key": [*keys, "A:bank", "R:sales", "X:fees"],
        "kind": [kind["name"] for kind in kinds],
        "transition": list(transitions),
        "class": list(CLASSES),
    }


class Known:
    """What is there, as the hooks of schemathesis put it into cases."""

    def __init__(self, file: Path) -> None:
        self._values: dict[str, list[str]] = json.loads(file.read_text())
        self._there: set[str] = set()

    def named(self, given: Any, name: str = "") -> Any:
        """Data, with most of what could name something naming something."""
        if isinstance(given, dict):
            return {key: self.named(value, key) for key, value in given.items()}
        if isinstance(given, list):
            return [self.named(value, name) for value in given]
        values = self._values.get(name)
        if not isinstance(given, str) or not values or given in self._there:
            return given
        number = _number(f"{name} {given}")
        return given if number % _SPARED == 0 else values[number // _SPARED % len(values)]

    def sensible(self, path: str, body: Any) -> Any:
        """A body; of those that ask for a Move, every other asks for one that may well happen."""
        if path not in MOVES or not isinstance(body, dict) or _number(json.dumps(body, default=str)) % 2:
            return body
        payer, payee = (self._values["party"][place] for place in (0, 1))
        return {
            **{name: body[name] for name in ("id", "reference", "metadata") if name in body},
            **{"kind": "transfer", "payer": payer, "payee": payee, "asset": "GBP", "amount": 7},
            "transition": "hold" if "timeout" in body else "post",
        }

    def learn(self, answer: str) -> None:
        """Take an answer's ids for what is there; a case that leads on from it keeps them."""
        self._there.update(_ID.findall(answer))


def _number(text: str) -> int:
    return xxhash.xxh3_64_intdigest(text.encode("utf-8", "surrogatepass"))


def _made(http: httpx.Client, path: str, body: dict[str, Any]) -> dict[str, Any]:
    answer = http.post(path, json=body)
    assert answer.is_success, answer.text
    made: dict[str, Any] = answer.json()
    return made
