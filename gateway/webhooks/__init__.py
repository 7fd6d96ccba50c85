"""Events sent to other people's servers, and theirs taken in.

signatures     Standard Webhooks: what is signed, and how
targets        where events may be sent to, and where not
sending        one attempt: a request, its limits, and what became of it
queue          which event is next: order by account, pauses, what waits behind what
courier        delivers to one endpoint: from the log to its receiver
dispatcher     has a courier for every endpoint, if no other gateway has
inbound        other people's webhooks, as transitions of Moves
"""
