"""Messages and answers come out of a frame as they went in; hostile ones are refused by themselves."""

from typing import Any, Final, get_args

import msgspec
import numpy as np
import pytest

from actors import errors
from actors.answers import AccountState, Claimed, LegAnswers
from actors.cluster import wire
from actors.cluster.frames import PREFIX, Buffers, FrameRefused, frame, padded
from actors.cluster.wire import (
    ANSWERS,
    Answered,
    Answers,
    Arrived,
    AskHealth,
    Garbled,
    Left,
    Parcel,
    Requests,
    Sendable,
    Tell,
    Verify,
    WaitDurable,
    WaitProjected,
    decode_from_client,
    decode_from_server,
    encode_answer,
    encode_head,
    encode_parcel,
)
from actors.doors import Health
from actors.errors import ActorError, InvalidRequest, NotFound, Overloaded, ShardStopped
from actors.messages import (
    Capture,
    Claim,
    CreateAccounts,
    Fence,
    Message,
    PostBatches,
    PostLegs,
    Preview,
    ReadAccounts,
    ReadHolds,
    ReadSteps,
    SetGuards,
    SubmitMoves,
    SubmitParties,
    SubmitThings,
)
from engine.commands import (
    CreateParty,
    CreateThing,
    DirectoryAnswer,
    JournalEntries,
    JournalLegs,
    Lines,
    MoveAnswer,
    MoveCommand,
    MovePreview,
    NextSteps,
    UpdateParty,
)
from engine.crossing.messages import Applied, Ask, AskThings, Decide, Frame, Name, Prepare, Things, Vote
from engine.directory import ThingRow
from engine.entities import Entry, Side
from engine.layout import account_columns, ids_column, leg_columns, open_columns
from engine.open_holds import HoldFilter, HoldPage
from persistence.pair_audit import PairLine
from persistence.verify import Report

BIG: Final = 2**128 - 1
LEGS: Final = leg_columns(3, id=ids_column([1, BIG, 2**64]), amount=[0, 5, 2**63 - 1], code=[7, 7, 7])
LINES: Final = Lines(things=["MUG"], quantities=[3], amounts=[300], orders=[BIG], order_lines=[1])
COMMAND: Final = MoveCommand(
    id=BIG,
    kind="order",
    payer=BIG - 1,
    lines=LINES,
    legs=JournalLegs(["A:x"], ["L:y"], [2**63 - 1], ["GBP"]),
    entries=JournalEntries(["A:x"], [Side.CREDIT], [1], ["GBP"]),
    metadata={"a": [1, 1.5, None, {"b": "ü\U0001f600"}], "big": 2**200},
    inputs={"x": -1, "y": "z"},
)
ACCOUNT: Final = AccountState(
    id=BIG,
    asset=1,
    code=2,
    party=BIG - 1,
    debits_pending=0,
    debits_posted=2**63 - 1,
    credits_pending=3,
    credits_posted=4,
    floor=None,
    ceiling=-5,
    version=6,
    closed=False,
    rollup=True,
    timestamp=7,
    lsn=8,
)
HEALTH: Final = Health(
    status="serving",
    reason="",
    shard=0,
    epoch=1,
    lsn=2,
    projected_lsn=3,
    projection_lag_legs=4,
    mailbox_weight=5,
    accounts=6,
    open_moves=7,
)
MOVE: Final = MoveAnswer(
    request=BIG, move=BIG - 1, kind="order", state="placed", seq=0, version=1, timestamp=2, lsn=3
)
OF_LEGS: Final = LegAnswers(
    status=np.array([0, 1, 255], np.uint8), timestamp=np.array([0, -1, 2**63 - 1]), lsn=9
)
OF_PARTY: Final = DirectoryAnswer(id=BIG, version=1, asset=2**32 - 1)
ENTRY: Final = Entry(account=BIG, key="L:x", side=Side.DEBIT, amount=1, asset=1, move=BIG)
STATE: Final = (5, {"a": np.arange(5), "big": BIG, "c": {"empty": np.zeros(0, np.uint8), "t": "x"}})

NAME: Final = Name(home=3, epoch=2**40, counter=1)
OPENS: Final = open_columns(1, before=[2], id=ids_column([BIG]), code=[2000])
THING: Final = ThingRow(b"\xff" * 16, "asset", "GBP", 2, "", True, b"\x00", 2**62)
FRAME: Final = Frame(
    sender=3,
    prepares=[Prepare(NAME, LEGS, np.array([0, 1, 3]), OPENS, ["L:ü"], [BIG], [1], ["till", ""])],
    votes=[Vote(NAME, np.array([0, 255, 1], np.uint8), [0])],
    decisions=[Decide(NAME, np.array([1, 0], np.uint8), True, ids_column([BIG, 1]), LEGS, (1, 2))],
    confirmations=[Applied(NAME, 2**62)],
    questions=[Ask(NAME)],
    asked_things=[AskThings(1, 2)],
    things=[Things(1, 2, [THING])],
)

EXAMPLES: Final[list[tuple[Sendable, Any]]] = [
    (PostLegs(LEGS), OF_LEGS),
    (PostBatches(LEGS, np.array([0, 1, 3])), OF_LEGS),
    (PostBatches(LEGS, np.array([0, 1, 3]), ("till", "ü")), OF_LEGS),
    (CreateAccounts(account_columns(2, id=ids_column([1, BIG])), ["", "L:ü"]), OF_LEGS),
    (SetGuards(BIG, -(2**63), 2**63 - 1, 3, BIG - 1), ACCOUNT),
    (Claim(BIG, b"\x00\xff", BIG - 1), Claimed(request=BIG - 1, digest=b"\xff", replayed=True)),
    (SubmitMoves([COMMAND, MoveCommand(id=1)]), [MOVE, MOVE]),
    (
        SubmitParties([CreateParty(id=BIG, kind="org", profile={"x": 1}), UpdateParty(id=BIG, name="y")]),
        [OF_PARTY],
    ),
    (SubmitThings([CreateThing(id=BIG, kind="asset", code="GBP", exponent=2)]), [OF_PARTY]),
    (ReadAccounts(ids_column([BIG, 0])), [ACCOUNT, None]),
    (Preview(COMMAND), MovePreview(state="placed", entries=[ENTRY])),
    (ReadSteps(BIG, BIG - 1), NextSteps(move=BIG, kind="order")),
    (ReadHolds(HoldFilter(ids=[BIG], after=(1, BIG))), HoldPage(items=[], more=True)),
    (Fence(), 2**63 - 1),
    (Capture(), STATE),
    (AskHealth(), HEALTH),
    (WaitProjected(None), 7),
    (WaitDurable(5), 8),
    (
        Verify(),
        Report(
            ok=False,
            lsn=1,
            checked={"legs": 2},
            problems=["x"],
            pairs=[PairLine(0, 1, 2, 3, 4, -5, 2**63 - 1)],
        ),
    ),
    (Tell(FRAME), None),
]


def opened(pieces: list[bytes | memoryview]) -> tuple[memoryview, Buffers]:
    """Head and buffers of a frame, as its reader has them."""
    body = np.frombuffer(b"".join(pieces)[PREFIX.size :], np.uint8).copy()
    _, head_bytes, _ = PREFIX.unpack_from(b"".join(pieces))
    return body.data[:head_bytes], Buffers(body[padded(head_bytes) :])


def sent(*parcels: wire.Encoded) -> list[Left | Garbled]:
    """Parcels as the server gets them."""
    head = encode_head(Requests([parcel.json for parcel in parcels]))
    said = decode_from_client(*opened(frame(head, [b for parcel in parcels for b in parcel.buffers])))
    assert isinstance(said, list)
    return said


def answered(*answers: wire.Encoded) -> list[Answered]:
    """Answers as the client gets them."""
    head = encode_head(Answers([answer.json for answer in answers], ["GBP"], 5))
    said = decode_from_server(*opened(frame(head, [b for answer in answers for b in answer.buffers])))
    assert isinstance(said, Arrived)
    assert (said.things, said.lsn) == (["GBP"], 5)
    return said.answers


def assert_same(one: Any, other: Any) -> None:
    if isinstance(one, np.ndarray):
        assert one.dtype == other.dtype
        assert np.array_equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, list | tuple):
        assert type(one) is type(other)
        for part, counterpart in zip(one, other, strict=True):
            assert_same(part, counterpart)
    elif isinstance(one, LegAnswers):
        assert_same(msgspec.structs.astuple(one), msgspec.structs.astuple(other))
    else:
        assert one == other


def test_every_message_has_an_answer_and_an_example() -> None:
    assert set(ANSWERS) == {*get_args(Message), *get_args(wire.Question)}
    assert {type(message) for message, _ in EXAMPLES} == set(ANSWERS)


def test_messages_come_out_as_they_went_in() -> None:
    messages = [message for message, _ in EXAMPLES]
    parcels = [encode_parcel(1, messages), *(encode_parcel(9, [message]) for message in messages)]
    first, *others = sent(*parcels)
    assert_same(first, Left(1, messages))
    for message, parcel in zip(messages, others, strict=True):
        assert_same(parcel, Left(9, [message]))


def test_answers_come_out_as_they_went_in() -> None:
    encoded = [encode_answer(n, message, answer) for n, (message, answer) in enumerate(EXAMPLES)]
    for number, (found, (_, answer)) in enumerate(zip(answered(*encoded), EXAMPLES, strict=True)):
        assert found.number == number
        assert_same(found.answer, answer)


@pytest.mark.parametrize(
    "error",
    [
        Overloaded("full", 3),
        ShardStopped(0, "it is closing"),
        InvalidRequest("amount", "too much", "less"),
        NotFound("account", "L:x"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_come_out_as_they_went_in(error: ActorError) -> None:
    (found,) = answered(encode_answer(3, Fence(), error))
    assert type(found.answer) is type(error)
    assert found.answer.args == error.args


def test_every_error_of_the_actors_can_be_sent() -> None:
    kinds = {
        kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, ActorError)
    }
    assert kinds <= set(wire._ERRORS.values())


def test_columns_of_zeros_are_not_sent() -> None:
    assert [buffer.dtype for buffer in encode_parcel(1, [PostLegs(leg_columns(5))]).buffers] == []
    sent_columns = encode_parcel(1, [PostLegs(leg_columns(2, amount=[0, 1]))]).buffers
    assert [buffer.tolist() for buffer in sent_columns] == [[0, 1]]


@pytest.mark.parametrize(
    ("message", "where"),
    [
        (SubmitMoves([MoveCommand(id=1, metadata={"a": [float("nan")]})]), "metadata"),
        (SubmitParties([CreateParty(id=1, kind="org", profile={"a": {"b": float("-inf")}})]), "profile"),
        (SubmitThings([CreateThing(id=1, kind="asset", code="\ud800")]), "request"),
        (PostLegs(LEGS._replace(amount=LEGS.amount.astype(np.float64))), "amount"),
        (PostLegs(LEGS._replace(debit=LEGS.debit[:2])), "debit"),
        (PostBatches(LEGS, np.array([0, 3], np.int32)), "array"),
    ],
)
def test_what_would_become_something_else_is_refused_before_it_is_sent(message: Message, where: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        encode_parcel(1, [message])
    assert refused.value.where == where


def test_a_parcel_of_wrong_types_harms_no_other() -> None:
    good = encode_parcel(7, [PostLegs(LEGS)])
    wrong = encode_parcel(3, [SubmitMoves([MoveCommand(id="x")]), Fence()])  # type: ignore[arg-type]
    before, garbled, after = sent(good, wrong, good)
    assert isinstance(garbled, Garbled)
    assert (garbled.first, garbled.message_count) == (3, 2)
    assert "Expected `int`, got `str`" in garbled.problem
    assert_same(before, Left(7, [PostLegs(LEGS)]))
    assert_same(after, before)


def test_buffers_of_a_garbled_parcel_are_passed_over() -> None:
    garbled = encode_parcel(3, [PostLegs(LEGS)])
    form = msgspec.json.decode(garbled.json)
    form[2].append(["SubmitMoves", "x"])
    broken = wire.Encoded(msgspec.Raw(msgspec.json.encode(form)), garbled.buffers)
    first, second = sent(broken, encode_parcel(9, [PostLegs(LEGS)]))
    assert isinstance(first, Garbled)
    assert_same(second, Left(9, [PostLegs(LEGS)]))


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"{}",
        b'{"type":"answers","answers":[]}',
        b'{"type":"requests","parcels":[5]}',
        b'{"type":"requests","parcels":[[1,0,[["PostLegs",[[9,["id"]],""]]]]]}',
        b'{"type":"requests","parcels":[[1,0,[["PostLegs",[[1,["nothing"]],""]]]]]}',
        b'{"type":"requests","parcels":[[1,0,[["PostLegs",[[-1,["id"]],""]]]]]}',
        encode_head(Requests([msgspec.Raw(msgspec.json.encode(Parcel(1, 1 << 40, [["Fence", 5]])))])) + b"x",
    ],
)
def test_heads_that_make_no_sense_are_refused(head: bytes) -> None:
    with pytest.raises(FrameRefused):
        decode_from_client(memoryview(head), Buffers(np.zeros(8, np.uint8)))


def test_a_callers_own_integers_are_integers() -> None:
    class Amount(int):
        pass

    (left,) = sent(encode_parcel(1, [SetGuards(BIG, Amount(-7), Amount(2**62), 0)]))
    assert left == Left(1, [SetGuards(BIG, -7, 2**62, 0)])
