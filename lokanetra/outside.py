"""Calls to other servers, which are untrusted: their URLs, names, addresses and answers are all treated as hostile.

The central rule: the address that is connected to is the one that was checked. Only a URL that the operator has set
may lead anywhere.
"""

import re
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from functools import cache
from http.client import HTTPException
from ipaddress import IPv4Address, IPv6Network, ip_address, ip_network
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, NamedTuple

from django.conf import settings
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError
from urllib3.response import HTTPResponse

from lokanetra import deadlines
from lokanetra.addresses import Address
from lokanetra.errors import Problem

MAX_URL = 2000
# Bytes of an answer that are read: enough for an error message. The rest is not received.
MAX_ANSWER = 1024

# The host parsed here is the one that is connected to: no second parser could find another one.
URL = re.compile(
    r"(?P<scheme>https?)://"
    r"(?:\[(?P<ipv6>[0-9A-Fa-f:.]+)\]|(?P<name>[\w-]{1,63}(?:\.[\w-]{1,63})*))"
    r"(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<target>(?:/[^?]*)?(?:\?.*)?)",
    re.ASCII,
)
# The last label of a host that resolvers treat as an IPv4 address: 127.1, 0x7f.1, 2130706433.
NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*", re.ASCII)

# The only global unicast block of IPv6: it has no loopback, private or link-local addresses, and none with IPv4 inside.
GLOBAL_IPV6 = IPv6Network("2000::/3")
# The rest of IANA's special-purpose registries.
SPECIAL = [
    ip_network(network)
    for network in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
        *("192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24"),
        *("203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
        "168.63.129.16/32",  # a public address, but inside Azure the host of each machine
        *("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"),
    )
]
# What can go wrong in a call.
FAULTS = (OSError, HTTPException, HTTPError, ValueError)


class UrlNotAllowed(Problem):
    """Raised when a URL leads, or could lead, to an address that is not allowed."""

    status_code = 400
    default_code = "url_not_allowed"
    default_detail = "This URL is not allowed."


class Answer(NamedTuple):
    """Without an answer, `status` is None and `fault` says why. `text` is the beginning of the body."""

    status: int | None
    text: str
    fault: str
    seconds: float


class Target(NamedTuple):
    scheme: str
    host: str
    port: int
    path: str
    anywhere: bool


class Endpoint(NamedTuple):
    """Where a socket connects to, as returned by `getaddrinfo`."""

    family: int
    address: tuple[Any, ...]


def check_url(url: str) -> None:
    """Refuse what can be refused without a DNS query; the addresses of a name are checked when it is called.

    Raises UrlNotAllowed.
    """
    _parse(url)


def post(url: str, body: bytes, headers: Mapping[str, str], *, timeout: float = 15.0, anywhere: bool = False) -> Answer:
    """POST once, and return within `timeout` seconds whatever the other side does. Never raises for its faults.

    Follows no redirects, uses no proxy, and decompresses nothing. Safe in any number of threads. `anywhere` is for the
    operator's own URLs: private addresses and http are allowed.
    """
    started = time.monotonic()
    status, text, fault = None, "", ""
    try:
        status, text = _exchange(_parse(url, anywhere), body, headers, started + timeout)
    except UrlNotAllowed as refused:
        fault = str(refused.detail)
    except FAULTS as error:
        fault = _describe(error)
    seconds = time.monotonic() - started
    if seconds >= timeout:  # a connection that was shut midway can look like a short answer
        status, text, fault = None, "", f"There was no whole answer within {timeout:g} seconds."
    return Answer(status, text, fault, seconds)


# --- What is allowed -------------------------------------------------------------------------------------


def _parse(url: str, anywhere: bool = False) -> Target:
    if len(url) > MAX_URL:
        raise UrlNotAllowed(f"The URL is longer than {MAX_URL} characters.")
    if not re.fullmatch(r"[!-~]*", url) or re.search(r'[\\<>"^`{|}]', url):
        raise UrlNotAllowed("Write the URL in printable ASCII without spaces and backslashes, other names as xn--...")
    if "#" in url:
        raise UrlNotAllowed("The URL has a fragment (#), which is never sent to a server.")
    if "@" in re.split("[/?]", url.partition("://")[2])[0]:
        raise UrlNotAllowed("The URL has a user name or a password in it.")
    if not (found := URL.fullmatch(url)):
        raise UrlNotAllowed("The URL is not of the form https://host:port/path.")
    return _checked(**found.groupdict(), anywhere=anywhere or settings.DEBUG)


def _checked(scheme: str, ipv6: str | None, name: str | None, port: str | None, target: str, anywhere: bool) -> Target:
    if scheme != "https" and not anywhere:
        raise UrlNotAllowed("The URL does not begin with https.")
    number = int(port or (443 if scheme == "https" else 80))
    if not 1 <= number <= 65535:
        raise UrlNotAllowed("The port is not from 1 to 65535.")
    host = (ipv6 or name or "").lower()
    address = _literal(host)
    if address and not anywhere and not _is_allowed(address):
        raise UrlNotAllowed("The URL leads to an address that is not public.")
    return Target(scheme, host, number, target if target.startswith("/") else f"/{target}", anywhere)


def _literal(host: str) -> Address | None:
    """The address if the host is one; None for a name, which has to be resolved."""
    if host.rpartition(".")[2] == "localhost":
        return IPv4Address("127.0.0.1")
    if not _is_number(host):
        return None
    try:
        return ip_address(host)
    except ValueError as error:
        raise UrlNotAllowed("The host is an address that is not written in the usual way.") from error


def _is_number(host: str) -> bool:
    """Whether it is an address and not a name."""
    return ":" in host or bool(NUMBER.fullmatch(host.rpartition(".")[2]))


def _is_allowed(address: Address) -> bool:
    if any(address in network for network in settings.WEBHOOK_ALLOWED_NETWORKS):
        return True
    unicast = address.version == 4 or address in GLOBAL_IPV6
    return unicast and not any(address in network for network in SPECIAL)


# --- One exchange with one deadline ----------------------------------------------------------------------


def _exchange(target: Target, body: bytes, headers: Mapping[str, str], deadline: float) -> tuple[int, str]:
    own = {"User-Agent": "Lokanetra", "Accept-Encoding": "identity"}
    with (
        closing(_connect(_resolve(target, deadline), deadline)) as plain,
        _shut_at(deadline, plain),
        closing(_http_over(plain, target)) as connection,
    ):
        connection.request("POST", target.path, body, own | dict(headers), preload_content=False, decode_content=False)
        return _read(connection.getresponse())


def _read(response: HTTPResponse) -> tuple[int, str]:
    with closing(response):
        begin = response.read(MAX_ANSWER, decode_content=False)
    return response.status, begin.decode(errors="replace").replace("\0", "")


def _resolve(target: Target, deadline: float) -> list[Endpoint]:
    """The allowed addresses of the host. It is resolved once: a second answer could differ."""
    found = [Endpoint(family, address) for family, _, _, _, address in _look_up(target, deadline)]
    allowed = [each for each in found if target.anywhere or _is_allowed(ip_address(each.address[0]))]
    if not allowed:
        raise UrlNotAllowed("The name leads to no public address.")
    return allowed


def _look_up(target: Target, deadline: float) -> list[Any]:
    """In a separate thread, which is abandoned when it takes too long: `getaddrinfo` has no time-out for a name."""
    if _is_number(target.host):
        return socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    answers: SimpleQueue[Any] = SimpleQueue()

    def resolve() -> None:
        try:
            answers.put(socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM))
        except (OSError, ValueError) as error:
            answers.put(error)

    Thread(target=resolve, daemon=True).start()
    try:
        answer = answers.get(timeout=_remaining(deadline))
    except Empty:
        raise TimeoutError from None
    if isinstance(answer, Exception):
        raise socket.gaierror(str(answer)) from answer
    return answer


def _connect(found: list[Endpoint], deadline: float) -> socket.socket:
    """A socket to the first address that accepts; each gets its share of the remaining time."""
    *others, last = found
    for number, endpoint in enumerate(others):
        with suppress(OSError):
            return _connect_to(endpoint, _remaining(deadline) / (len(found) - number))
    return _connect_to(last, _remaining(deadline))


def _connect_to(endpoint: Endpoint, seconds: float) -> socket.socket:
    plain = socket.socket(endpoint.family, socket.SOCK_STREAM)
    try:
        plain.settimeout(seconds)
        plain.connect(endpoint.address)
    except OSError:
        plain.close()
        raise
    return plain


@contextmanager
def _shut_at(deadline: float, plain: socket.socket) -> Iterator[None]:
    """Shuts the connection at the deadline: a time-out for each read would restart with every byte received."""
    plain.settimeout(_remaining(deadline))
    with closing(plain.dup()) as same:  # TLS takes the first one over
        deadlines.begin(same, _remaining(deadline))
        try:
            yield
        finally:
            deadlines.end(same)


def _http_over(plain: socket.socket, target: Target) -> HTTPConnection:
    """HTTP on this socket; certificate and `Host` use the name, whatever its address."""
    kind = HTTPSConnection if target.scheme == "https" else HTTPConnection
    host = f"[{target.host}]" if ":" in target.host else target.host
    connection = kind(host, target.port, timeout=plain.gettimeout())
    tls = target.scheme == "https"
    connection.sock = _trust().wrap_socket(plain, server_hostname=target.host) if tls else plain
    return connection


@cache
def _trust() -> ssl.SSLContext:
    """The system's certificate authorities, or those of `SSL_CERT_FILE`."""
    return ssl.create_default_context()


def _remaining(deadline: float) -> float:
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise TimeoutError
    return seconds


def _describe(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"The certificate is not valid: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return "TLS failed."
    if isinstance(error, socket.gaierror):
        return "The name cannot be resolved."
    if isinstance(error, ConnectionRefusedError):
        return "The connection was refused."
    if isinstance(error, (HTTPException, HTTPError, ConnectionError)):
        return "The connection broke, or the answer is not HTTP."
    return "The server cannot be reached."
