"""GETs of what prompts are to be told: only from hosts of the settings, only at public addresses unless the host is our own.

A name is looked up once for each connection, and the connection goes to the address that was looked at: a name that says something else
a moment later (DNS rebinding) leads nowhere else. Redirects are not followed.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Mapping
from urllib.parse import urlsplit

from farthing.errors import NotAllowed, UpstreamUnavailable
from farthing.providers.http1 import Http1Client
from farthing.settings import HostSettings

_OK = 200
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_V4_BITS = 0xFFFF_FFFF
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Pages:
    """`get` fetches from `hosts`, by name and port as they stand in a URL."""

    def __init__(self, hosts: Mapping[str, HostSettings]) -> None:
        self._hosts = hosts
        self._clients: dict[tuple[str, str], Http1Client] = {}

    async def get(self, url: str) -> bytes:
        """The body of the answer to a GET. Raises `NotAllowed` for other hosts, and an `UpstreamError` for what is no answer."""
        parts = urlsplit(url)
        host = self._hosts.get(parts.netloc)
        if host is None or not (parts.scheme == "https" or (parts.scheme == "http" and host.private)):
            raise NotAllowed(f"{parts.scheme}://{parts.netloc[:128]} is not one of foresight.hosts")
        client = self._client(parts.scheme, parts.netloc, host)
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        exchange = await client.send(b"GET", target, b"", head_timeout_s=host.timeout_s, total_timeout_s=host.timeout_s)
        try:
            if exchange.status != _OK:
                raise UpstreamUnavailable(f"{parts.netloc} answered {exchange.status}")
            return await exchange.body(host.max_bytes, host.timeout_s)
        finally:
            exchange.close()

    def _client(self, scheme: str, netloc: str, host: HostSettings) -> Http1Client:
        client = self._clients.get((scheme, netloc))
        if client is None:
            headers = {name.lower(): value.get_secret_value() for name, value in host.headers.items()}
            client = self._clients[scheme, netloc] = Http1Client(
                netloc,
                f"{scheme}://{netloc}",
                headers={"accept": "application/json, text/plain;q=0.9, */*;q=0.1", **headers},
                connect_timeout_s=host.timeout_s,
                max_connections=host.max_connections,
                address_of=None if host.private else public_address,
            )
        return client

    async def aclose(self) -> None:
        """Close the connections."""
        for client in self._clients.values():
            await client.aclose()


async def public_address(host: str, port: int) -> str:
    """One of the addresses of a host. Raises `UpstreamUnavailable` for a host that has none, or one that is not public."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise UpstreamUnavailable(f"{host} has no address: {error}") from None
    addresses = [str(where[0]) for *_, where in found]
    for address in addresses:
        if not is_public(address):
            raise UpstreamUnavailable(f"{host} is at an address that is not public; set foresight.hosts.{host}.private if it is your own")
    if not addresses:
        raise UpstreamUnavailable(f"{host} has no address")
    return addresses[0]


def is_public(address: str) -> bool:
    """Whether an address is one of the whole Internet's, also when it is wrapped in another one."""
    try:
        inner = _unwrapped(ipaddress.ip_address(address.partition("%")[0]))
    except ValueError:
        return False
    return inner.is_global and not inner.is_multicast and not inner.is_reserved


def _unwrapped(address: Address) -> Address:
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & _V4_BITS)
    return address
