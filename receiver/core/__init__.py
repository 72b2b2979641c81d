"""Values and rules that everything shares: states, messages, the JSON reader, links, redaction.

No I/O, no SQL, no settings.
"""
