"""Measurements, run by `scripts/bench`; not collected by pytest."""
