"""The Python client: against a service of few words that does as it is told, and against a real one."""
