"""What a rule set would have done with payments of the past, whose frauds are known by now."""

import time
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from engine.features.store import FeatureStore
from engine.scoring.rule_scorer import RuleScorer, Verdicts
from engine.scoring.rules import Outcome, RuleError, RuleSet, decode_rules
from simulations.errors import PaymentsFileError
from simulations.fraud.card_features import card_features, features_of
from simulations.fraud.payments import Payments
from simulations.fraud.protocol import Mask, ProtocolError, as_date

OUTCOMES: Final = tuple(outcome.name.lower() for outcome in Outcome)


class OutcomeCount(msgspec.Struct, frozen=True):
    """What got one outcome."""

    payments: int
    frauds: int
    amount_minor: int
    fraud_amount_minor: int


class RuleCount(msgspec.Struct, frozen=True):
    """How one rule did."""

    name: str
    reason: str
    held: int
    frauds: int
    precision: float


class Backtest(msgspec.Struct, frozen=True):
    """How a rule set did. Precision and recall are of payments that were reviewed or denied."""

    rule_set: str
    version: int
    outcomes: dict[str, OutcomeCount]
    precision: float
    recall: float
    rules: list[RuleCount]
    judged_per_s: float


class BacktestReport(msgspec.Struct, frozen=True):
    """How rule sets did on the same payments."""

    first_day: str
    last_day: str
    payments: int
    frauds: int
    rule_sets: list[Backtest]


def read_rules(path: Path) -> RuleSet:
    """A rule set from a file. Raises PaymentsFileError."""
    try:
        return decode_rules(path.read_bytes())
    except OSError as exc:
        raise PaymentsFileError(str(path), f"it can't be read ({exc.strerror or exc})") from exc
    except RuleError as exc:
        raise PaymentsFileError(str(path), str(exc)) from exc


def backtest(payments: Payments, rule_sets: list[RuleSet], first_day: int, last_day: int) -> BacktestReport:
    """Judges the payments of some days, with features from all that came before them."""
    within = (payments.day >= first_day) & (payments.day <= last_day)
    if not within.any():
        raise ProtocolError(f"there are no payments from {as_date(first_day)} to {as_date(last_day)}")
    wanted = card_features()
    scorers = [RuleScorer(rule_set, wanted.names) for rule_set in rule_sets]
    matrix = features_of(payments, FeatureStore(wanted))[within]
    judged = payments.chosen(within)
    results = []
    for scorer in scorers:
        started = time.perf_counter()
        verdicts = scorer.judge(matrix)
        seconds = time.perf_counter() - started
        results.append(_result(scorer.rule_set, judged, verdicts, len(matrix) / seconds))
    return BacktestReport(
        first_day=as_date(int(judged.day[0])),
        last_day=as_date(int(judged.day[-1])),
        payments=len(judged.time_ns),
        frauds=int(judged.fraud.sum()),
        rule_sets=results,
    )


def _result(rule_set: RuleSet, judged: Payments, verdicts: Verdicts, judged_per_s: float) -> Backtest:
    fraud = judged.fraud == 1
    flagged = verdicts.outcome > Outcome.ALLOW
    return Backtest(
        rule_set=rule_set.name,
        version=rule_set.version,
        outcomes={
            name: _count(judged, fraud, verdicts.outcome == outcome)
            for name, outcome in zip(OUTCOMES, Outcome, strict=True)
        },
        precision=_share(fraud[flagged]),
        recall=_share(flagged[fraud]),
        rules=[
            RuleCount(
                name=rule.name,
                reason=rule.reason,
                held=int(held.sum()),
                frauds=int((held & fraud).sum()),
                precision=_share(fraud[held]),
            )
            for rule, held in zip(
                rule_set.rules, map(verdicts.holds, range(len(rule_set.rules))), strict=True
            )
        ],
        judged_per_s=judged_per_s,
    )


def _count(judged: Payments, fraud: Mask, which: Mask) -> OutcomeCount:
    return OutcomeCount(
        payments=int(which.sum()),
        frauds=int((which & fraud).sum()),
        amount_minor=int(judged.amount_minor[which].sum()),
        fraud_amount_minor=int(judged.amount_minor[which & fraud].sum()),
    )


def _share(which: Mask) -> float:
    return float(np.mean(which)) if len(which) else 0.0
