"""How you reach it: HTTP, streams, webhooks, authentication, metrics, the client and the command line.

Input is checked here and refused with a reason; nothing here decides whether a Move may happen.
"""
