"""What the auditor knows of Parties, Things and claimed keys: each change was sent by somebody, versions
count up one by one, numbers of Things are given in order and are the same on all shards, and what is answered
is on disk and stays so.
"""

from collections.abc import Iterable
from typing import NamedTuple

from actors.answers import Claimed
from engine.commands import CreateParty, CreateThing, DirectoryAnswer, Refusal, UpdateParty
from engine.facts import Event, KnownThingFact, PartyFact, RequestFact, ThingFact
from engine.ids import bucket_of_id, bucket_of_party, id_from_bytes
from engine.placement import Placement
from engine.shard_state import ShardState
from simulations.simulator.books import Wrong

TENANT = "default"


class PartyVersion(NamedTuple):
    """A Party as it was."""

    name: str
    timestamp: int


class DirectoryAuditor:
    """The Parties, Things and keys of one run."""

    def __init__(self, placement: Placement) -> None:
        self.parties: dict[int, list[PartyVersion]] = {}
        self._placement = placement
        self._party_commands: dict[int, list[CreateParty | UpdateParty]] = {}
        self._things: list[list[tuple[int, str, int]]] = [[] for _ in range(placement.shards)]  # by shard
        self._claims: dict[int, int] = {}  # by key: the request that it stands for
        self._answers: dict[int, DirectoryAnswer] = {}  # by request of a change: what was told

    def sent(self, command: CreateParty | UpdateParty) -> None:
        """Somebody wants a Party to be so."""
        self._party_commands.setdefault(command.id, []).append(command)

    def version_of(self, party: int) -> int:
        """The version that a Party has, as far as it is on disk."""
        return len(self.parties.get(party, ()))

    # What is durable

    def take(self, shard: int, events: Iterable[Event]) -> None:
        """What a record says."""
        for event in events:
            match event:
                case PartyFact():
                    self._party(shard, event)
                case ThingFact() | KnownThingFact():
                    self._thing(shard, event)
                case RequestFact(digest=digest) if len(digest) == 1:  # of a claim, as traders make them
                    key = id_from_bytes(event.request)
                    if key in self._claims or self._placement.shard(bucket_of_id(key)) != shard:
                        raise Wrong("once", f"key {key:032x} is claimed again, on shard {shard}")
                    self._claims[key] = id_from_bytes(event.answer)

    def _party(self, shard: int, fact: PartyFact) -> None:
        id = id_from_bytes(fact.id)
        history = self.parties.setdefault(id, [])
        if fact.version != len(history) + 1:
            raise Wrong("once", f"Party {id:032x} goes from version {len(history)} to {fact.version}")
        if self._placement.shard(bucket_of_party(TENANT, id)) != shard:
            raise Wrong("as sent", f"Party {id:032x} is written down by shard {shard}")
        before = history[-1] if history else None
        for command in self._party_commands.get(id, ()):
            creating = isinstance(command, CreateParty)
            if creating == (before is None) and command.name == fact.name:
                break
        else:
            raise Wrong("as sent", f"nobody has sent Party {id:032x} as {fact.name!r}")
        if before is not None and (fact.timestamp < before.timestamp or fact.name == before.name):
            raise Wrong("serial history", f"Party {id:032x} changes to {fact.name!r} at {fact.timestamp}")
        history.append(PartyVersion(fact.name, fact.timestamp))

    def _thing(self, shard: int, fact: ThingFact | KnownThingFact) -> None:
        things = self._things[shard]
        row = id_from_bytes(fact.id), fact.code, fact.exponent
        if fact.asset != len(things) + 1 or isinstance(fact, ThingFact) != (shard == 0):
            raise Wrong("once", f"Thing {fact.code} has number {fact.asset} after {len(things)} on {shard}")
        if any(row[1] == code for _, code, _ in things):
            raise Wrong("once", f"two Things have the code {fact.code}")
        if shard and self._things[0][len(things) : len(things) + 1] != [row]:
            raise Wrong("durable before told", f"shard {shard} knows another Thing {fact.asset} than shard 0")
        things.append(row)

    # What is answered

    def claimed(self, key: int, answer: Claimed) -> None:
        """A key was claimed."""
        if self._claims.get(key) != answer.request:
            raise Wrong("answered the same", f"key {key:032x} stands for {answer.request:032x}")

    def thing(self, command: CreateThing, answer: DirectoryAnswer) -> None:
        """A Thing was asked for."""
        found = self._things[0][answer.asset - 1 : answer.asset] if answer.asset else []
        if not answer.accepted or found != [(command.id, command.code, command.exponent)]:
            raise Wrong("durable before told", f"Thing {command.code}: {answer.code or 'it is not on disk'}")

    def party(
        self, command: CreateParty | UpdateParty, request: int, known: int, answer: DirectoryAnswer
    ) -> None:
        """A Party was asked for; its version was `known` when it was sent."""
        history = self.parties.get(command.id, [])
        if answer.code == Refusal.PARTY_VERSION_DIFFERS and isinstance(command, UpdateParty):
            if all(version == command.if_version for version in range(max(known, 1), len(history) + 1)):
                raise Wrong("predicted answers", f"Party {command.id:032x}: {answer.message}")
            return
        if not answer.accepted or not 0 < answer.version <= len(history):
            raise Wrong("durable before told", f"Party {command.id:032x}: {answer.code} {answer.version}")
        if isinstance(command, UpdateParty):
            if history[answer.version - 1].name != command.name:
                raise Wrong("as sent", f"Party {command.id:032x} is not {command.name!r} at {answer.version}")
            told = self._answers.setdefault(request, answer)
            if (told.version, told.timestamp) != (answer.version, answer.timestamp):
                raise Wrong("answered the same", f"request {request:032x} on Party {command.id:032x}")
        if answer.version < known and not answer.replayed:
            raise Wrong("nothing stale", f"Party {command.id:032x} is at {known}, not {answer.version}")

    # At the end

    def finish(self, states: list[ShardState]) -> None:
        """What is live is what the log says."""
        for shard, live in enumerate(states):
            things = [
                (id_from_bytes(thing.id), thing.code, thing.exponent)
                for thing in live.directory.things_after(0)
            ]
            if things != self._things[shard]:
                raise Wrong("log and memory agree", f"shard {shard} knows {len(things)} Things")
        for id, history in self.parties.items():
            live = states[self._placement.shard(bucket_of_party(TENANT, id))]
            if live.directory.party_version(id) != len(history):
                raise Wrong("log and memory agree", f"Party {id:032x} is not at version {len(history)}")
