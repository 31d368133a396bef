"""Asking the daemon: HTTP over the home's control socket, with the standard library alone (it starts at once)."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from replicad.config.home import CONTROL_SOCKET
from replicad.errors import NoDaemonError, OperatorError, TimeOutError, UsageError
from replicad.ops.home import socket_path

CONNECT_S = 5.0
ANSWER_S = 60.0
"""For an answer that waits for nothing outside the daemon."""
_ERRORS = {1: OperatorError, 2: UsageError, 3: NoDaemonError, 4: TimeOutError}


class DaemonConnection(http.client.HTTPConnection):
    """To the daemon of a home; NoDaemonError from `connect` where none listens."""

    def __init__(self, home: Path, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._home = home
        self._timeout_s = timeout_s

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self.sock.settimeout(CONNECT_S)
            with socket_path(self._home) as path:
                self.sock.connect(path)
            self.sock.settimeout(self._timeout_s)
        except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError) as error:
            self.sock.close()
            where = self._home / CONTROL_SOCKET
            raise NoDaemonError(f"no daemon answers at {where}: start it with `replicad run`") from error
        except OSError as error:
            self.sock.close()
            raise NoDaemonError(f"cannot reach the daemon at {self._home / CONTROL_SOCKET}: {error}") from error


def request(home: Path, method: str, path: str, body: object = None, *, timeout_s: float = ANSWER_S) -> Any:
    """The answer's JSON. The daemon's refusal is raised as it would be without a daemon between."""
    with _connected(home, timeout_s) as connection:
        payload = None if body is None else json.dumps(body)
        headers = {"Content-Type": "application/json"} if payload is not None else {}
        connection.request(method, path, payload, headers)
        response = connection.getresponse()
        content = _json(response.read())
        if response.status >= 400:
            raise refusal(response.status, content)
        return content


def follow(home: Path, path: str, method: str = "GET", body: object = None) -> Iterator[dict[str, Any]]:
    """The data of server-sent events, until the daemon ends."""
    with _connected(home, ANSWER_S) as connection:
        payload = None if body is None else json.dumps(body)
        headers = {"Accept": "text/event-stream", **({"Content-Type": "application/json"} if payload else {})}
        connection.request(method, path, payload, headers)
        response = connection.getresponse()
        if response.status >= 400:
            raise refusal(response.status, _json(response.read()))
        for line in response:
            if line.startswith(b"data:"):
                yield _json(line[5:])


@contextmanager
def _connected(home: Path, timeout_s: float) -> Iterator[DaemonConnection]:
    connection = DaemonConnection(home, timeout_s)
    try:
        connection.connect()
        yield connection
    except TimeoutError as error:
        raise NoDaemonError(f"the daemon at {home} does not answer within {timeout_s:g} s") from error
    except (http.client.HTTPException, ConnectionError) as error:
        raise NoDaemonError(f"the daemon at {home} ended before it had answered ({error!r})") from error
    finally:
        connection.close()


def _json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError as error:
        raise NoDaemonError("what answers at the control socket is no daemon of replicad") from error


def refusal(status: int, content: Any) -> OperatorError:
    """What the daemon refused with, as it would be raised without a daemon between."""
    text = content.get("error") if isinstance(content, dict) else None
    exit_status = content.get("exit_status") if isinstance(content, dict) else None
    return _ERRORS.get(exit_status or 1, OperatorError)(text or f"the daemon answered with HTTP status {status}")
