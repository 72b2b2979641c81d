"""Real processes over real HTTP: the service, the simulated provider, and signals that mean it."""
