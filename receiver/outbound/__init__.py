"""All HTTP that leaves the service: connections, limits, deadlines, and reading the answers."""
