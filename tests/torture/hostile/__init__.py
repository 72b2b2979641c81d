"""Hostile input on a live service: bodies, sizes, fields, tokens, signatures, and senders who take their time."""
