"""A process that asks /healthz again and again while a row is under way, and tells how long each answer took.

It is run with the port, ends when its input does, and prints its latencies in seconds.
"""

import json
import select
import socket
import sys
import time

REQUEST = b"GET /healthz HTTP/1.1\r\nHost: probe\r\n\r\n"
PAUSE = 0.01
PATIENCE = 120.0


def ask(connection: socket.socket) -> float:
    """Ask once; returns the seconds until the answer, or raises `OSError`."""
    began = time.perf_counter()
    connection.sendall(REQUEST)
    answer = b""
    while not answer.endswith(b"}"):  # the body is a JSON object
        part = connection.recv(4096)
        answer += part
        if not part or not answer.startswith(b"HTTP/1.1 200"):
            raise ConnectionError(answer[:60])
    return time.perf_counter() - began


def main(port: int) -> None:
    """Ask until the input ends."""
    latencies: list[float] = []
    failures = 0
    connection: socket.socket | None = None
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    over = False
    while not over:
        over = bool(select.select([sys.stdin], [], [], PAUSE)[0])
        began = time.perf_counter()
        try:
            connection = connection or socket.create_connection(("127.0.0.1", port), PATIENCE)
            latencies.append(ask(connection))
        except OSError:
            # Cut off while it was idle, or not let in: what the next try waits counts in full.
            failures += 1
            latencies.append(time.perf_counter() - began)
            connection = None
    json.dump({"latencies": latencies, "failures": failures}, sys.stdout)


if __name__ == "__main__":
    main(int(sys.argv[1]))
