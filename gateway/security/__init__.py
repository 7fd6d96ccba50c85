"""Who may come in, and what they may do there.

    credentials     API keys as text, and how they are told apart without telling how
    scopes          what a key or token may do
    principals      on whose word a request comes
    callers         a principal at the door: until when it is good, and how fast it may knock
    keyring         the API keys of a database, in memory, up to date within a second
    tokens          bearer tokens of an OpenID Connect provider
    gate            the door itself: from the head of a request to its caller, or 401, 429
    authorization   from the caller and the route to yes, or 403
    confined        an engine that gives a caller only what is theirs
    auditing        what was refused and what was administered, on its way to the audit log

`docs/security.md` says what holds and how it is set up.
"""
