"""Where a Move can go from where it stands: every transition of its kind, and why it would be refused now."""

from engine.commands import MoveCommand, NextStep, NextSteps, Refusal
from engine.kinds import CompiledKind, Transition
from engine.moves import LoadedRequests, MoveBook
from engine.posting import Refused


def next_steps(
    book: MoveBook, move: int, request: int, now: int, loaded: LoadedRequests | None = None
) -> NextSteps:
    """The transitions of a Move's kind as they stand. `request` is a fresh id, which is not used up.

    A transition that needs fields is tried without them, so that nothing but their absence counts as allowed.
    """
    try:
        name, state, seq = book.standing(move, loaded)
    except Refused as refusal:
        return NextSteps(move=move, code=refusal.code, message=refusal.message)
    kind = book.kinds.get(name)
    steps: list[NextStep] = []
    if kind is not None:  # a kind that was there once, and is not any more, leads nowhere
        for transition in _each_name(kind):
            command = MoveCommand(id=request, move=move, transition=transition.name)
            steps.append(_step(book, kind, state, transition, command, now, loaded))
    return NextSteps(move=move, kind=name, state=state, version=seq + 1, steps=steps)


def _each_name(kind: CompiledKind) -> list[Transition]:
    """The transitions that clients may take, each name once, in the order in which the kind has them."""
    found: dict[str, Transition] = {}
    for transition in kind.kind.transitions:
        if not transition.by_engine:
            found.setdefault(transition.name, transition)
    return list(found.values())


def _step(
    book: MoveBook,
    kind: CompiledKind,
    state: str,
    transition: Transition,
    command: MoveCommand,
    now: int,
    loaded: LoadedRequests | None,
) -> NextStep:
    preview = book.preview(command, now, loaded)
    leads = kind.steps.get((state, transition.name))
    if leads is None:
        return NextStep(name=transition.name, target="", code=preview.code, message=preview.message)
    wanted = leads.transition
    missing = bool(wanted.needs) and preview.code in {Refusal.FIELD_MISSING, Refusal.AMOUNT_NOT_POSITIVE}
    return NextStep(
        name=wanted.name,
        target=wanted.target,
        needs=wanted.needs,
        takes=wanted.takes,
        code="" if missing else preview.code,
        message="" if missing else preview.message,
    )
