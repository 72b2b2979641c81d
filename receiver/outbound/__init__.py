"""All outgoing HTTP: connections, limits, timeouts, and reading the answers."""
