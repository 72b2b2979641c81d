"""Runs the application under uvicorn: the socket, its connections, the log, and a stop within ten seconds."""
