"""The files of `deploy/`, checked as far as one machine can."""
