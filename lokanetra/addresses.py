"""Where a request comes from. One client is one address, however the proxies in front write it."""

import re
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

from django.conf import settings
from rest_framework.settings import api_settings

Address = IPv4Address | IPv6Address

# Some proxies add the client's port, which can be separated only from these forms of an address.
WITH_PORT = re.compile(r"(?:\[([^\]]*)\]|([0-9.]+))(?::[0-9]{1,5})?", re.ASCII)
# IPv4 clients, as networks with only IPv6 inside show them: all of them would be one /64.
TRANSLATED = IPv6Network("64:ff9b::/96")


def address_of(request: Any) -> Address | None:
    """The client's address, as `NUM_PROXIES` trusted proxies report it; the nearest proxy's own where they report none.

    None where the server does not know it either, as on a Unix socket.
    """
    direct = request.META.get("REMOTE_ADDR") or ""
    return parse(_forwarded(request)) or parse(direct)


def client_of(request: Any) -> str:
    """What limits count by: an IPv4 address, or an IPv6 network, because a client has all addresses of its network."""
    address = address_of(request)
    if isinstance(address, IPv6Address):
        return str(ip_network((address, settings.CLIENT_IPV6_PREFIX), strict=False))
    return str(address or "")


@lru_cache(4096)
def parse(text: str) -> Address | None:
    """The address in the text, without port and zone. An IPv4 address inside an IPv6 one is returned as IPv4."""
    bare = text.strip(' \t"')
    found = WITH_PORT.fullmatch(bare)
    host = (found[1] or found[2] or "") if found else bare
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return _ipv4_in(address) if isinstance(address, IPv6Address) else address


def _ipv4_in(address: IPv6Address) -> Address:
    if address in TRANSLATED:
        return IPv4Address(address.packed[-4:])
    return address.ipv4_mapped or address.sixtofour or address


def _forwarded(request: Any) -> str:
    """The address from the outermost trusted proxy: each appends the address that it sees."""
    proxies = api_settings.NUM_PROXIES
    entries = [entry for entry in request.META.get("HTTP_X_FORWARDED_FOR", "").split(",") if entry.strip()]
    return entries[-min(proxies, len(entries))] if proxies and entries else ""
