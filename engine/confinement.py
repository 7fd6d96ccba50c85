"""Commands of somebody who may move one Party's money only.

Who gives in a leg? Debiting a credit-normal account takes from it, and so does crediting a debit-normal one.
A leg is the Party's to write if every account that gives is its own, and at least one does: a leg that debits
the platform's bank and credits a wallet takes from nobody, and makes money.

Whose an account is follows from its key alone: the Party that it names, or for a Move's own accounts, the
Move that is being written, whose payer the Party is. What is held, posted and voided by a Move's holds was
decided when they were made.
"""

from engine import ids
from engine.chart import Chart, Owner, credit_normal, parse_key
from engine.drafts import INHERITED, Draft


def not_given_by(party: int, draft: Draft, chart: Chart) -> str:
    """What is wrong with a draft for somebody who may move this Party's money only; "" if nothing is."""
    known: dict[int, tuple[bool, bool]] = {}  # by account: whether debits take from it, whether it is theirs
    for debit, credit in zip(draft.debits, draft.credits, strict=True):
        if INHERITED in {debit, credit}:
            continue
        for account in (debit, credit):
            if account not in known:
                known[account] = _about(draft.account_key(account), party, draft.move, chart)
        givers = [debit] if known[debit][0] else []
        givers += [] if known[credit][0] else [credit]
        for account in givers:
            if not known[account][1]:
                return f"{draft.account_key(account)} is not the Party's, and would give"
        if not givers:
            return f"nothing would give in {draft.account_key(debit)} > {draft.account_key(credit)}"
    return ""


def _about(key: str, party: int, move: int, chart: Chart) -> tuple[bool, bool]:
    spec = chart.account(key)
    parsed = parse_key(key)
    if chart.rule(parsed).owner is Owner.MOVE:
        is_theirs = ids.parse_id(parsed.parts[1][0]) == move
    else:
        is_theirs = spec.party == party
    return credit_normal(spec.code), is_theirs
