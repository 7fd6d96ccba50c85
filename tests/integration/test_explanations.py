"""A Move explained over HTTP and on the command line: every amount of an order, and who took back what."""

from typing import Any

from typer.testing import CliRunner

from gateway.cli import app
from tests.fixtures_gateway import Client, RunningGateway


def done(http: Client, path: str, **body: Any) -> dict[str, Any]:
    answer = http.post(path, json=body)
    assert answer.status_code in {200, 201}, answer.text
    found: dict[str, Any] = answer.json()
    return found


def mug(http: Client) -> str:
    """The code of a new Thing."""
    code = f"MUG-{http.party()}"
    done(http, "/v1/things", kind="product", code=code)
    return code


def refunded_order(http: Client, code: str) -> tuple[str, str]:
    """An order for a seller of 100.00 with tax, shipping and commission, of which a quarter came back."""
    buyer, seller = http.party(), http.party()
    inputs = {"commission": 1_200, "shipping": 500, "tax": 2_205, "jurisdiction": "pt"}
    line = {"thing": code, "quantity": 4, "amount": 10_000, "inputs": inputs}
    who = {"payer": buyer, "payee": seller, "asset": "GBP"}
    order = done(
        http, "/v1/moves", kind="marketplace_order", transition="place+capture", lines=[line], **who
    )["id"]
    back = {"commission": 300, "shipping": 100, "tax": 525, "jurisdiction": "pt"}
    returned = {"amount": 2_500, "order": order, "order_line": 1, "inputs": back}
    refund = done(
        http,
        "/v1/moves",
        kind="marketplace_refund",
        transition="grant_pre+succeed",
        lines=[returned],
        inputs={"order": order},
        **who,
    )
    assert refund["state"] == "succeeded"
    return order, refund["id"]


def test_order_and_refund_are_explained(gateway: RunningGateway, http: Client) -> None:
    code = mug(http)
    order, refund = refunded_order(http, code)
    read = http.get(f"/v1/moves/{order}").json()
    assert read["lines"][0]["inputs"]["tax"] == 2_205
    explained = http.get(f"/v1/moves/{order}/explanation").json()
    assert explained["state"] == "paid"
    opening, line, *_ = explained["sentences"]
    assert opening == "This is a Move of the kind marketplace_order, now paid."
    assert line.startswith(f"Line 1: 4 of {code} for 100.00 GBP; ")
    assert {"commission 1200", "shipping 500", "tax 2205", "jurisdiction pt"} == set(
        line.removesuffix(".").split("; ")[1].split(", ")
    )
    said = explained["sentences"]
    assert f"127.05 GBP: debit A:psp, credit L:order/{order}." in said
    assert f"marketplace_refund {refund} took from L:order/{order}: 31.25 GBP." in said
    assert f"marketplace_refund {refund} took 31.25 GBP of it back (M:reversible/{order}#1/psp)." in said
    assert f"95.80 GBP may still be taken back of it (M:reversible/{order}#1/psp)." in said
    [other] = explained["related"]
    assert (other["move"], other["kind"], other["state"]) == (refund, "marketplace_refund", "succeeded")
    back = http.get(f"/v1/moves/{refund}/explanation").json()
    assert [related["move"] for related in back["related"]] == [order]
    assert (
        f"31.25 GBP less may be taken back of what was paid (M:reversible/{order}#1/psp)."
        in back["sentences"]
    )
    asked = CliRunner().invoke(
        app, ["moves", "explain", order, "--server", gateway.url], env={"COLUMNS": "250", "NO_COLOR": "1"}
    )
    assert asked.stdout.splitlines() == said


def test_what_is_not_there_is_not_explained(http: Client) -> None:
    missing = http.get(f"/v1/moves/{http.party()}/explanation")
    assert (missing.status_code, missing.json()["code"]) == (404, "not_found")


def test_steps_that_a_limit_refuses_say_so_before_they_are_tried(http: Client) -> None:
    who = {"payer": http.party(), "payee": http.party(), "asset": "GBP"}
    line = {"thing": mug(http), "quantity": 1, "amount": 700}
    order = done(http, "/v1/moves", kind="marketplace_order", transition="place", lines=[line], **who)["id"]
    paying = {"kind": "payment", "payer": who["payer"], "asset": "GBP", "inputs": {"order": order}}
    done(http, "/v1/moves", transition="charge", amount=800, **paying)
    steps = http.get(f"/v1/moves/{order}/transitions").json()["transitions"]
    by_name = {step["transition"]: step for step in steps}
    assert by_name["fulfil"]["code"] == "limit_exceeded"
    assert by_name["fulfil"]["reason"] == ("fulfil: more than it comes to was paid; refund the rest first")
    assert by_name["cancel"]["reason"] == "cancel: it was paid for; refund that first"
    refused = http.post(f"/v1/moves/{order}/fulfil", json={})
    assert (refused.status_code, refused.json()["code"]) == (409, "limit_exceeded")
