"""Calls to untrusted servers go only to public addresses, and end in time whatever the server does.

The servers are real ones on this machine, which the tests allow by `WEBHOOK_ALLOWED_NETWORKS`.
"""

import gzip
import socket
import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from lokanetra import outside
from lokanetra.outside import UrlNotAllowed, check_url, post

pytestmark = pytest.mark.once

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nthere"
LOOPBACK = [ip_network("127.0.0.0/8")]


class Server:
    """A listening socket that hands each connection to `behave`, and counts them."""

    def __init__(self, behave, address="127.0.0.1", port=0, tls=None):
        self.behave, self.tls, self.connections, self.requests = behave, tls, 0, []
        self.listening = socket.create_server((address, port))
        self.port = self.listening.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with suppress(OSError):
            while True:
                taken, _ = self.listening.accept()
                self.connections += 1
                threading.Thread(target=self.serve, args=[taken], daemon=True).start()

    def serve(self, taken):
        encrypted = self.tls.wrap_socket if self.tls else lambda plain, server_side: plain
        with suppress(OSError), taken, encrypted(taken, server_side=True) as connection:
            self.behave(self, connection)

    def url(self, host="127.0.0.1", path="/", scheme="http"):
        return f"{scheme}://{host}:{self.port}{path}"


@pytest.fixture
def server():
    started = []

    def start(behave=lambda this, connection: answering(OK)(this, connection), **options):
        started.append(Server(behave, **options))
        return started[-1]

    yield start
    for each in started:
        each.listening.close()


def read_request(connection):
    """Head and body, whose length is in the head."""
    taken = b""
    while b"\r\n\r\n" not in taken:
        if not (more := connection.recv(65536)):
            return taken
        taken += more
    head, _, body = taken.partition(b"\r\n\r\n")
    length = next(
        int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")
    )
    while len(body) < length:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


def answering(*parts, pause=0.0, forever=None):
    def behave(this, connection):
        this.requests.append(read_request(connection))
        for part in parts:
            connection.sendall(part)
        while forever:
            connection.sendall(forever)
            time.sleep(pause)

    return behave


def hanging(this, connection):
    while connection.recv(65536):
        pass


def resolving(monkeypatch, *answers):
    """Names resolve to these addresses, call by call; the list has the names that were resolved."""
    asked = []

    def getaddrinfo(host, port, *args, **kwargs):
        found = answers[min(len(asked), len(answers) - 1)]
        asked.append(host)
        return [
            (socket.AF_INET6 if ":" in each else socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port))
            for each in found
        ]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return asked


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """A folder with an authority (`ca.pem`), and `server.pem` from it for wallet.test, localhost and 127.0.0.1."""
    folder = tmp_path_factory.mktemp("authority")
    key, leaf = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer, holder = (x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]) for name in ("Tests", "wallet.test"))
    names = [x509.DNSName("wallet.test"), x509.DNSName("localhost")]
    names.append(x509.IPAddress(ip_network("127.0.0.1").network_address))
    own = x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())
    certificate = certified(issuer, issuer, key.public_key(), key, [(x509.BasicConstraints(True, None), True)])
    given = certified(
        holder, issuer, leaf.public_key(), key, [(x509.SubjectAlternativeName(names), False), (own, False)]
    )
    pem = serialization.Encoding.PEM
    private = leaf.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "ca.pem").write_bytes(certificate.public_bytes(pem))
    (folder / "server.pem").write_bytes(private + given.public_bytes(pem))
    return folder


def certified(subject, issuer, public, key, extensions):
    now = datetime.now(UTC)
    made = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(public)
    made = made.serial_number(x509.random_serial_number()).not_valid_before(now - timedelta(days=1))
    made = made.not_valid_after(now + timedelta(days=1))
    made = made.add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    for extension, critical in extensions:
        made = made.add_extension(extension, critical=critical)
    return made.sign(key, hashes.SHA256())


@pytest.fixture
def tls(authority):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority / "server.pem")
    return context


@pytest.fixture
def trusted(authority, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(authority / "ca.pem"))
    outside._trust.cache_clear()
    yield
    outside._trust.cache_clear()


# --- What is refused -------------------------------------------------------------------------------------

FORMS = [
    *("127.0.0.1", "127.0.0.2", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1"),
    *("0.0.0.0", "255.255.255.255", "224.0.0.1", "240.0.0.1", "192.0.2.1", "198.51.100.1", "203.0.113.1"),
    *("198.18.0.1", "192.0.0.1", "192.88.99.1", "168.63.129.16"),
    *("[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]", "[fc00::1]", "[fd12::1]"),
    *("[fe80::1]", "[fe80::1%25lo]", "[fe80::1%lo]", "[fec0::1]", "[ff02::1]", "[2001:db8::1]", "[3fff::1]"),
    *("[2002:7f00:1::]", "[2001:0:7f00:1::]", "[64:ff9b::7f00:1]", "[64:ff9b:1::7f00:1]", "[100::1]"),
    *("2130706433", "0177.0.0.1", "0x7f.1", "0x7f000001", "127.1", "127.0.1", "0", "017700000001", "0x"),
    *("127.0.0.1.", "127.0.0.1..", "localhost", "LOCALHOST", "localhost.", "wallet.localhost", "example.com."),
    *("１２７.0.0.1", "127。0。0。1", "①②⑦.0.0.1", "%31%32%37.0.0.1", "127.0.0.1%00.example.com", "bücher.example"),
    *("example.com@127.0.0.1", "a:b@127.0.0.1", "@127.0.0.1", "127.0.0.1\\@example.com", "example.com\\@127.0.0.1"),
    *("127.0.0.1\t", "127.0.0\n.1", " 127.0.0.1", "[127.0.0.1]", "[::1", "::1", "[example.com]", "", ".", "a..b"),
]


@pytest.mark.parametrize("host", FORMS)
def test_no_form_of_an_address_that_is_not_public_is_allowed_or_connected_to(host, server):
    ours = server()
    url = f"https://{host}:{ours.port}/"
    with pytest.raises(UrlNotAllowed) as refused:
        check_url(url)
    assert refused.value.status_code == 400 and refused.value.detail.code == "url_not_allowed"
    answer = post(url, b"{}", {}, timeout=5)
    assert (answer.status, answer.text, answer.fault) == (None, "", str(refused.value.detail))
    assert ours.connections == 0


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("http://example.com/", "does not begin with https"),
        ("ftp://example.com/", "not of the form"),
        ("file:///etc/passwd", "not of the form"),
        ("//example.com/", "not of the form"),
        ("example.com", "not of the form"),
        ("", "not of the form"),
        ("https:example.com", "not of the form"),
        ("https://example.com:0/", "port is not from 1 to 65535"),
        ("https://example.com:65536/", "port is not from 1 to 65535"),
        ("https://example.com:٤٤٣/", "printable ASCII"),
        ("https://example.com:/", "not of the form"),
        ("https://me@example.com/", "user name"),
        ("https://me:secret@example.com?x", "user name"),
        ("https://example.com/#top", "fragment"),
        ("https://example.com/\r\nHost: evil", "printable ASCII"),
        ("https://example.com/" + "a" * 1981, "longer than 2000"),
    ],
)
def test_a_url_is_refused_with_the_reason(url, sentence):
    with pytest.raises(UrlNotAllowed, match=sentence):
        check_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com",
        "https://example.com:8443/hooks/~a/%20b?x=1&mail=me@example.com",
        "https://example.com?x=1",
        "https://xn--bcher-kva.example/",
        "https://93.184.215.14/",
        "https://[2606:2800:21f:cb07:6820:80da:af6b:8b2c]:8443/",
        "https://example.com/" + "a" * 1980,
    ],
)
def test_a_public_url_is_allowed_without_resolving_its_name(url, monkeypatch):
    asked = resolving(monkeypatch, [])
    check_url(url)
    assert asked == []


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "::ffff:127.0.0.1", "fe80::1%lo"]
)
def test_a_name_that_leads_to_a_private_address_is_not_connected_to(address, server, monkeypatch):
    ours = server()
    resolving(monkeypatch, [address])
    check_url(ours.url("innocent.example", scheme="https"))
    answer = post(ours.url("innocent.example", scheme="https"), b"", {}, timeout=5)
    assert (answer.status, answer.fault) == (None, "The name leads to no public address.")
    assert ours.connections == 0


def test_development_allows_http_and_private_addresses(server, settings):
    ours = server()
    with pytest.raises(UrlNotAllowed):
        check_url(ours.url())
    settings.DEBUG = True
    check_url(ours.url("localhost"))
    assert post(ours.url(path="/a?b=c"), b"{}", {"webhook-id": "7"})[:3] == (200, "there", "")
    [request] = ours.requests
    assert request.startswith(b"POST /a?b=c HTTP/1.1\r\n") and request.endswith(b"\r\n\r\n{}")
    assert f"Host: 127.0.0.1:{ours.port}".encode() in request and b"webhook-id: 7" in request


def test_allowed_networks_are_reached_only_by_https(server, tls, trusted, settings):
    ours = server(tls=tls)
    settings.WEBHOOK_ALLOWED_NETWORKS = LOOPBACK
    for host in ("localhost", "127.0.0.1"):
        check_url(ours.url(host, scheme="https"))
        assert post(ours.url(host, scheme="https"), b"{}", {})[:3] == (200, "there", "")
    with pytest.raises(UrlNotAllowed, match="https"):
        check_url(ours.url("localhost"))
    with pytest.raises(UrlNotAllowed, match="not public"):
        check_url("https://10.0.0.1/")


# --- Where it connects to ----------------------------------------------------------------------------------


def test_a_name_is_resolved_once_and_the_address_that_was_checked_is_connected_to(
    server, tls, trusted, settings, monkeypatch
):
    settings.WEBHOOK_ALLOWED_NETWORKS = [ip_network("127.0.0.2/32")]
    public = server(address="127.0.0.2", tls=tls)
    private = server(address="127.0.0.4", port=public.port, tls=tls)
    asked = resolving(monkeypatch, ["127.0.0.2"], ["127.0.0.4"])
    assert post(public.url("wallet.test", scheme="https"), b"", {})[:3] == (200, "there", "")
    assert asked == ["wallet.test"]
    assert (public.connections, private.connections) == (1, 0)
    assert f"Host: wallet.test:{public.port}".encode() in public.requests[0]


def test_only_allowed_addresses_of_a_name_are_tried_until_one_accepts(server, tls, trusted, settings, monkeypatch):
    settings.WEBHOOK_ALLOWED_NETWORKS = [ip_network("127.0.0.2/32"), ip_network("127.0.0.3/32")]
    public = server(address="127.0.0.2", tls=tls)
    private = server(address="127.0.0.4", port=public.port, tls=tls)
    resolving(monkeypatch, ["127.0.0.4", "127.0.0.3", "127.0.0.2"])
    assert post(public.url("wallet.test", scheme="https"), b"", {}).status == 200
    assert (public.connections, private.connections) == (1, 0)


def test_a_redirect_is_an_answer_and_is_not_followed(server, settings):
    settings.DEBUG = True
    private = server()
    moved = f"HTTP/1.1 307 Moved\r\nLocation: {private.url()}\r\nContent-Length: 0\r\n\r\n".encode()
    assert post(server(answering(moved)).url(), b"", {})[:3] == (307, "", "")
    assert private.connections == 0


def test_no_proxy_of_the_environment_is_used(server, settings, monkeypatch):
    settings.DEBUG = True
    proxy, ours = server(), server()
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "https_proxy"):
        monkeypatch.setenv(name, proxy.url())
    assert post(ours.url(), b"", {}).status == 200
    assert (proxy.connections, ours.connections) == (0, 1)


@pytest.mark.parametrize("host", ["other.test", "127.0.0.2"])
def test_a_certificate_for_another_name_is_refused(host, server, tls, trusted, settings, monkeypatch):
    settings.WEBHOOK_ALLOWED_NETWORKS = LOOPBACK
    ours = server(address="127.0.0.2", tls=tls)
    resolving(monkeypatch, ["127.0.0.2"])
    answer = post(ours.url(host, scheme="https"), b"secret", {})
    assert answer.status is None and answer.fault.startswith("The certificate is not valid: ")
    assert ours.requests == []


def test_a_certificate_of_an_unknown_authority_is_refused(server, tls, settings):
    settings.WEBHOOK_ALLOWED_NETWORKS = LOOPBACK
    ours = server(tls=tls)
    answer = post(ours.url("localhost", scheme="https"), b"secret", {})
    assert answer.status is None and answer.fault.startswith("The certificate is not valid: ")
    assert ours.requests == []


# --- When it ends ------------------------------------------------------------------------------------------

HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
SLOW = {
    "says nothing": hanging,
    "drips a status line": answering(b"HTTP/1.1 2", forever=b"0", pause=0.05),
    "drips headers": answering(HEAD, forever=b"a", pause=0.05),
    "repeats 100 Continue": answering(
        b"HTTP/1.1 100 Continue\r\n\r\n", forever=b"HTTP/1.1 100 Continue\r\n\r\n", pause=0.05
    ),
    "drips a body": answering(HEAD + b"Content-Length: 1000\r\n\r\n", forever=b"a", pause=0.05),
    "drips chunks": answering(CHUNKED, forever=b"1\r\na\r\n", pause=0.05),
}


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("behave", SLOW.values(), ids=SLOW.keys())
def test_a_slow_server_is_given_up_at_the_deadline(behave, scheme, server, tls, trusted, settings):
    settings.DEBUG = True
    ours = server(behave, tls=tls if scheme == "https" else None)
    started = time.monotonic()
    answer = post(ours.url("localhost" if scheme == "https" else "127.0.0.1", scheme=scheme), b"{}", {}, timeout=0.5)
    assert time.monotonic() - started < 1.5
    assert (answer.status, answer.fault) == (None, "There was no whole answer within 0.5 seconds.")
    assert answer.seconds >= 0.5


def test_a_server_that_does_not_finish_tls_is_given_up_at_the_deadline(server, settings):
    settings.DEBUG = True

    def dripping(this, connection):
        connection.recv(65536)
        connection.sendall(b"\x16\x03\x03\x3f\xff")  # a record of 16 KiB follows
        while True:
            connection.sendall(b"\x02")
            time.sleep(0.05)

    for behave in (hanging, dripping):
        answer = post(server(behave).url(scheme="https"), b"{}", {}, timeout=0.5)
        assert (answer.status, answer.fault) == (None, "There was no whole answer within 0.5 seconds.")
        assert answer.seconds < 1.5


def test_a_server_that_reads_no_body_is_given_up_at_the_deadline(server, settings):
    settings.DEBUG = True
    answer = post(server(lambda this, connection: time.sleep(3)).url(), b"a" * 50_000_000, {}, timeout=0.5)
    assert (answer.status, answer.seconds < 1.5) == (None, True)
    assert answer.fault == "There was no whole answer within 0.5 seconds."


def test_a_name_that_is_not_resolved_in_time_is_given_up_at_the_deadline(monkeypatch):
    over = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: over.wait(10) and [])
    answer = post("https://slow.example/", b"", {}, timeout=0.3)
    over.set()
    assert (answer.status, answer.fault) == (None, "There was no whole answer within 0.3 seconds.")
    assert answer.seconds < 1


def test_a_hundred_at_once_wait_no_longer_than_one(server, settings):
    settings.DEBUG = True
    ours = server(hanging)
    ours.listening.listen(200)
    before, started = threading.active_count(), time.monotonic()
    with ThreadPoolExecutor(100) as pool:
        answers = list(pool.map(lambda _: post(ours.url(), b"{}", {}, timeout=1), range(100)))
    assert time.monotonic() - started < 4
    assert {answer.status for answer in answers} == {None}
    time.sleep(0.5)
    assert threading.active_count() <= before + 5


# --- What it reads -----------------------------------------------------------------------------------------


def test_an_endless_body_is_read_to_its_limit(server, settings):
    settings.DEBUG = True
    for begin, more in [(HEAD + b"\r\n", b"a" * 65536), (CHUNKED, b"10000\r\n" + b"a" * 65536 + b"\r\n")]:
        assert post(server(answering(begin, forever=more)).url(), b"", {}, timeout=5)[:3] == (200, "a" * 1024, "")


def test_a_compressed_body_is_not_decompressed(server, settings):
    settings.DEBUG = True
    bomb = gzip.compress(b"a" * 50_000_000)
    head = HEAD + f"Content-Encoding: gzip\r\nContent-Length: {len(bomb)}\r\n\r\n".encode()
    ours = server(answering(head, bomb))
    answer = post(ours.url(), b"", {}, timeout=5)
    assert (answer.status, answer.fault) == (200, "")
    assert len(answer.text) <= 1024 and "aaa" not in answer.text
    assert b"Accept-Encoding: identity" in ours.requests[0]


def test_a_binary_body_can_be_stored_as_text(server, settings):
    settings.DEBUG = True
    answer = post(server(answering(HEAD + b"\r\na\x00b\xff\xc3")).url(), b"", {})
    assert answer[:3] == (200, "ab\ufffd\ufffd", "")


BROKEN = {
    "closes at once": lambda this, connection: None,
    "closes after the request": answering(),
    "breaks off the status": answering(b"HTTP/1.1 2"),
    "a huge header": answering(HEAD + b"X: " + b"a" * 1_000_000 + b"\r\n\r\n"),
    "many headers": answering(HEAD + b"X: a\r\n" * 100_000 + b"\r\n"),
    "headers without end": answering(HEAD, forever=b"X: a\r\n" * 1000),
    "a line without end": answering(forever=b"a" * 65536),
    "no HTTP": answering(b"SSH-2.0-OpenSSH_9.9\r\n"),
    "no status": answering(b"HTTP/1.1 abc OK\r\n\r\n"),
    "two lengths": answering(HEAD + b"Content-Length: 1, 2\r\n\r\nab"),
    "no chunk": answering(CHUNKED + b"zz\r\n"),
}


@pytest.mark.parametrize("behave", BROKEN.values(), ids=BROKEN.keys())
def test_a_malformed_answer_is_a_fault(behave, server, settings):
    settings.DEBUG = True
    answer = post(server(behave).url(), b"{}", {}, timeout=5)
    assert (answer.status, answer.text) == (None, "")
    assert answer.fault == "The connection broke, or the answer is not HTTP."


@pytest.mark.parametrize(("sent", "text"), [(b"Content-Le", ""), (b"Content-Length: 10\r\n\r\nabc", "abc")])
def test_a_server_that_goes_away_after_its_status_has_answered(sent, text, server, settings):
    settings.DEBUG = True
    assert post(server(answering(HEAD + sent)).url(), b"{}", {}, timeout=5)[:3] == (200, text, "")


def test_an_unreachable_server_is_a_fault(settings, monkeypatch):
    settings.DEBUG = True
    with closing(socket.create_server(("127.0.0.1", 0))) as gone:
        port = gone.getsockname()[1]
    assert post(f"http://127.0.0.1:{port}/", b"", {})[:3] == (None, "", "The connection was refused.")

    def unknown(*args, **kwargs):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert post("https://unknown.example/", b"", {})[:3] == (None, "", "The name cannot be resolved.")


def test_a_server_without_tls_is_a_fault(server, settings):
    settings.DEBUG = True
    ours = server(lambda this, connection: connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n"))
    assert post(ours.url(scheme="https"), b"", {}, timeout=5)[:3] == (None, "", "TLS failed.")
