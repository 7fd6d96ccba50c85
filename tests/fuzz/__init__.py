"""Schemathesis against the gateway: requests from its own OpenAPI document, answers held against it."""
