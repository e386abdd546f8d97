"""A socket is shut when its deadline has passed, and not otherwise; also in a process that was forked."""

import os
import socket
import time
from collections.abc import Iterator

import pytest

from lokanetra import deadlines

pytestmark = pytest.mark.once


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(10)
        yield ours, theirs


def test_whoever_waits_for_a_socket_beyond_its_deadline_gets_its_end(pair):
    ours, theirs = pair
    started = time.monotonic()
    deadlines.begin(ours, 0.3)
    theirs.send(b"a byte")
    assert ours.recv(10) == b"a byte"
    assert ours.recv(10) == b""
    assert 0.3 <= time.monotonic() - started < 5
    assert not deadlines.end(ours)


def test_a_socket_that_was_in_time_stays_open(pair):
    ours, theirs = pair
    deadlines.begin(ours, 0.1)
    assert deadlines.end(ours)
    time.sleep(0.1 + 2 * deadlines.TICK)
    theirs.send(b"later")
    assert ours.recv(10) == b"later"


def test_a_closed_socket_keeps_no_other_open(pair):
    ours, _ = pair
    closed, _other = socket.socketpair()
    deadlines.begin(closed, 0.1)
    closed.close()
    deadlines.begin(ours, 0.2)
    assert ours.recv(10) == b""


def test_a_forked_process_has_its_own_watcher(pair):
    ours, _ = pair
    deadlines.begin(ours, 60)
    deadlines.end(ours)
    child = os.fork()
    if child == 0:
        deadlines.begin(ours, 0.1)
        os._exit(0 if ours.recv(10) == b"" else 1)
    assert os.waitpid(child, 0)[1] == 0
