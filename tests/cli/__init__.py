"""The command line as users have it: real processes, real files, beside a real service."""
