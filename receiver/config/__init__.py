"""Settings, generated secrets, and warnings about variables that have no effect."""
