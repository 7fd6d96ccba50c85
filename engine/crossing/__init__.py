"""Crossings: chains of legs over several shards, all or none, by two phases with presumed abort.

A crossing is named by its home shard, the home's epoch and a counter, a name that is never used again. It
holds the chains that one turn of its home has for the same set of other shards, and each chain is decided by
itself.

    home                                                      peer
      judge own legs, set aside what they need, `begun`
      ──────────────────── Prepare ──────────────────────────▶ judge, set aside, `prepared`
                                                               (durable)
      ◀──────────────────── Vote ─────────────────────────────
      all votes are in: `decided`; the legs of the chains that are kept happen now
      (durable)
      ──────────────────── Decide ───────────────────────────▶ the legs happen, or come to nothing: `applied`
                                                               (durable)
      ◀──────────────────── Applied ──────────────────────────
      all have applied: the client is answered, `ended`

- A chain is judged on each shard once, when it is reserved; what was voted for can't be refused later.
- The home's `decided` is the decision. A crossing of an earlier epoch of its home that is not decided is
  aborted for ever, and so is one that its home knows nothing of: nothing needs to be remembered of it.
- In doubt a peer asks (`Ask`); its home answers with the decision, or, as long as there is none, not at all.
- Messages may be lost, come late, twice or in any order. Whoever waits for one sends again what it follows.
- What a hold over several shards comes to is decided where it is at home, without asking anybody: its other
  side learns of it by a Decide that nobody voted for.

Each shard's books balance by themselves: for an account on another shard stands a pair account `C:{shard}`,
and the leg says whose it is. Of a pair of shards, what the two pair accounts have together is what was
decided and is not applied yet.

`Crossings` is a state machine: messages in; facts for the log and messages out. It knows no clock and no I/O.
"""
