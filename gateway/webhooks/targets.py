"""Where events may be sent to.

Whoever may add an endpoint could have us send requests into our own network. So an endpoint must be https,
and what its name stands for must be addresses of the public internet. That is looked at for every connection,
on the very address that is then connected to: a name that means something else the next time gains nothing.

On a machine of one's own (a server that listens on loopback), or where an operator says so, every target will
do, http included.
"""

import asyncio
import socket
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Any, Final
from urllib.parse import urlsplit

import httpcore

URL_LENGTH_MAX: Final = 2_048
ADDRESSES_MAX: Final = 4
"""So many addresses of a name are tried."""
_EMBEDDING: Final = tuple(map(IPv6Network, ("64:ff9b::/96", "2002::/16", "2001::/32", "::/96")))
"""Networks whose addresses stand for IPv4 addresses, which may be anybody's."""
_VISIBLE: Final = range(0x21, 0x7F)


class TargetRefused(Exception):  # noqa: N818  # says what happened
    """Nothing is sent there, and why."""


def check_url(url: str, *, private: bool) -> None:
    """Raises TargetRefused for a URL that can't be an endpoint's; `private` allows every network."""
    if len(url) > URL_LENGTH_MAX or any(ord(character) not in _VISIBLE for character in url):
        raise TargetRefused(f"it is ASCII without blanks, up to {URL_LENGTH_MAX} characters")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as exc:
        raise TargetRefused("it is no URL") from exc
    if parts.scheme not in ({"http", "https"} if private else {"https"}):
        raise TargetRefused("it must begin with https://")
    if not parts.hostname or port == 0:
        raise TargetRefused("it names no server")
    if "@" in parts.netloc or parts.fragment:
        raise TargetRefused("it may have neither a user nor a fragment")
    if not private and (literal := _address(parts.hostname)) is not None:
        check_address(literal)


def check_address(address: IPv4Address | IPv6Address) -> None:
    """Raises TargetRefused for an address that is not of the public internet."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            check_address(address.ipv4_mapped)
            return
        if any(address in network for network in _EMBEDDING):
            raise TargetRefused("its address stands for another one")
    if not address.is_global or address.is_multicast:
        raise TargetRefused("its address is not of the public internet")


class PublicNetwork(httpcore.AsyncNetworkBackend):
    """Connects to addresses of the public internet only; with `private`, to all."""

    def __init__(self, *, private: bool) -> None:
        self._private = private
        self._network = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  # httpcore calls it so
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """A connection to one of the addresses of a name. Raises TargetRefused if one of them is none of the
        public internet, and httpcore.ConnectError."""
        addresses = await _addresses_of(host, port)
        if not self._private:
            for address in addresses:
                check_address(address)
        failure: httpcore.ConnectError | httpcore.ConnectTimeout | None = None
        for address in addresses[:ADDRESSES_MAX]:
            try:
                return await self._network.connect_tcp(
                    str(address), port, timeout, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as exc:
                failure = exc
        raise failure or httpcore.ConnectError("the name has no address")


async def _addresses_of(host: str, port: int) -> list[IPv4Address | IPv6Address]:
    if (literal := _address(host)) is not None:
        return [literal]
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as exc:
        raise httpcore.ConnectError("the name is not known") from exc
    return list(dict.fromkeys(ip_address(str(item[4][0]).partition("%")[0]) for item in found))


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None
