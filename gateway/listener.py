"""The port a gateway listens on: taken before anything else is started, so that a busy one costs nothing."""

import errno
import ipaddress
import socket
from typing import Final

from gateway.options import CommandFailed, ExitCode

DEFAULT_HOST: Final = "127.0.0.1"
DEFAULT_PORT: Final = 8330


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def bind(host: str, port: int) -> socket.socket:
    """Take the port. Raises CommandFailed if it is taken, or the address is not ours."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError as exc:
        listener.close()
        if exc.errno == errno.EADDRINUSE:
            raise CommandFailed(
                ExitCode.PORT_IN_USE, f"Port {port} on {host} is in use.", "Choose another with --port."
            ) from exc
        raise CommandFailed(ExitCode.USAGE, f"Can't listen on {host}:{port}: {exc.strerror or exc}.") from exc
    listener.setblocking(False)
    return listener
