"""Fraud, as an analyst meets it: a made world of card payments, a protocol that judges models on payments,
and laundering cycles in transfers. Features come from the engine's own feature store.

`payments` says what a payment is and reads and writes files of them; `world` makes some; `card_features` are
their features; `protocol` says what is trained on and what is judged; `evaluation` does it.
"""
