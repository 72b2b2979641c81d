"""Settings, the secrets that the service makes for itself, and variables that are set and do nothing."""
