"""The worker survives failures, does each job in one place at a time, and ends when it is told to."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from threading import Event

import pytest

from lokanetra.env import BASE_DIR
from lokanetra.tests.live import Postgres, own_postgres, wait_for
from lokanetra.work import GRACE, MAX_RETRY, RETRY, Job, JobLane, backoff, claim
from transactions.deliveries import DEADLINE

BEGINNING = """
import os, sys, time
import django
from django.conf import settings
from django.db import connection
settings.LOGGING["root"]["level"] = "INFO"
django.setup()
from lokanetra import postgresql
from lokanetra.work import Job, JobLane, Worker
postgresql.serve()

def ask(statement):
    with connection.cursor() as cursor:
        cursor.execute(statement)

def job(name, statement, every=0.2):
    def run():
        os.write(1, f"{name} begins\\n".encode())
        ask(statement)
        return "done"
    return Job(name, run, lambda: True, every)

def work(**lanes):
    sys.exit(not Worker({name: JobLane(name, list(jobs)) for name, jobs in lanes.items()}).run())
"""


class Process:
    """A worker process, with its output."""

    def __init__(self, environment: dict[str, str], code: str) -> None:
        descriptor, path = tempfile.mkstemp(prefix="lokanetra-work-", suffix=".log")
        self.path = Path(path)
        command = [sys.executable, "-c", BEGINNING + code]
        self.process = subprocess.Popen(
            command, cwd=BASE_DIR, env=environment, stdout=descriptor, stderr=subprocess.STDOUT
        )
        os.close(descriptor)

    def output(self) -> str:
        return self.path.read_text()

    def count(self, text: str) -> int:
        return self.output().count(text)

    def wait_for(self, text: str, times: int = 1) -> None:
        """Waits until it has written the text, so many times more."""
        before = self.count(text) if times > 1 else 0
        wait_for(lambda: self.count(text) >= before + times)

    def signal(self, *signals: int) -> tuple[int, float]:
        """Send these signals. Its exit status, and the seconds until it ended."""
        started = time.monotonic()
        for number in signals:
            self.process.send_signal(number)
            time.sleep(0.3)
        return self.process.wait(timeout=30), time.monotonic() - started


@pytest.fixture(scope="module")
def database() -> Iterator[Postgres]:
    """One that these tests may stop."""
    with own_postgres() as server:
        yield server


@pytest.fixture
def start(database: Postgres) -> Iterator[Callable[[str], Process]]:
    """Starts workers on it."""
    started: list[Process] = []
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    environment |= {"DATABASE_URL": database.url, "DEBUG": "on", "PYTHON_DOTENV_DISABLED": "1"}
    environment |= {"DJANGO_SETTINGS_MODULE": "lokanetra.settings"}

    def of(code: str) -> Process:
        started.append(Process(environment, code))
        return started[-1]

    yield of
    for worker in started:
        with suppress(ProcessLookupError):
            worker.process.kill()
        worker.process.wait()
        worker.path.unlink()


# --- Faults ----------------------------------------------------------------------------------------------


def failing() -> str:
    raise ValueError("no luck")


def test_a_failing_job_stops_no_other_and_is_retried_less_and_less_often(transactional_db, caplog):
    done: list[str] = []
    bad = Job("bad", failing, lambda: True, every=0)
    good = Job("good", lambda: done.append("good") or "", lambda: True, every=0)
    lane = JobLane("lane", [bad, good])
    assert [lane(Event(), True) for _ in range(3)] == [False, True, True]
    assert done == ["good"] * 3
    assert caplog.text.count("ValueError: no luck") == 1
    assert bad.next_check_at - time.monotonic() == pytest.approx(RETRY, abs=1)


def test_pauses_grow_up_to_the_maximum():
    assert [backoff(RETRY, MAX_RETRY, times) for times in (1, 2, 3)] == [10, 20, 40]
    assert backoff(RETRY, MAX_RETRY, 100_000) == MAX_RETRY


def test_a_job_that_is_not_due_is_not_run_and_one_that_did_nothing_is_not_logged(transactional_db, caplog):
    jobs = [Job("later", failing, lambda: False, every=0), Job("idle", lambda: "", lambda: True, every=0)]
    assert JobLane("lane", jobs)(Event(), True)
    assert caplog.text == ""


@pytest.mark.slow
def test_a_database_that_is_stopped_and_comes_back_is_used_again(start, database):
    worker = start("work(beats=[job('beat', 'SELECT 1')])")
    worker.wait_for("beat: done", times=3)
    database.stop()
    worker.wait_for("beat: the database is away")
    time.sleep(2)
    database.start()
    worker.wait_for("beat: the database is back")
    worker.wait_for("beat: done", times=3)
    assert worker.count("the database is away") == 1
    assert "Traceback" not in worker.output()
    assert worker.signal(signal.SIGTERM)[0] == 0


@pytest.mark.slow
def test_a_database_that_hangs_and_goes_on_is_used_again(start, database):
    worker = start("work(beats=[job('beat', 'SELECT 1', every=1.2)])")
    worker.wait_for("beat: done", times=2)
    leader = database.pid()
    stopped = [leader, *map(int, Path(f"/proc/{leader}/task/{leader}/children").read_text().split())]
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        worker.wait_for("beat: the database is away")
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
    worker.wait_for("beat: the database is back")
    worker.wait_for("beat: done", times=2)
    assert worker.signal(signal.SIGTERM)[0] == 0


@pytest.mark.slow
def test_a_slow_lane_delays_no_other_and_a_failed_one_is_restarted(start):
    worker = start(
        "def broken(stop, once):\n"
        "    raise ValueError('no luck')\n"
        "lane = JobLane('slow', [job('slow', 'SELECT pg_sleep(60)')], patient=True)\n"
        "Worker({'slow': lane, 'broken': broken, 'beats': JobLane('beats', [job('beat', 'SELECT 1')])}).run()"
    )
    worker.wait_for("slow begins")
    worker.wait_for("beat: done", times=5)
    worker.wait_for("lane broken failed", times=2)
    # Longer than a request would wait: only the statements of a patient lane may take so long.
    time.sleep(11)
    assert worker.count("slow begins") == 1


# --- One at a time ---------------------------------------------------------------------------------------


def test_a_name_is_claimed_by_one_at_a_time(transactional_db):
    with claim("books") as ours, claim("books") as theirs, claim("days") as another:
        assert (ours, theirs, another) == (True, False, True)
    with claim("books") as again:
        assert again


@pytest.mark.slow
def test_another_worker_takes_over_at_once_from_one_that_was_killed(start):
    first = start("work(slow=[job('slow', 'SELECT pg_sleep(9)')])")
    first.wait_for("slow begins")
    second = start("work(slow=[job('slow', 'SELECT 1')])")
    second.wait_for("worker started")
    time.sleep(1)
    assert "slow begins" not in second.output()
    first.signal(signal.SIGKILL)
    killed = time.monotonic()
    second.wait_for("slow: done")
    assert time.monotonic() - killed < 3


# --- The end ---------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_running_jobs_finish_before_it_ends(start, number):
    worker = start("work(slow=[job('slow', 'SELECT pg_sleep(3)')], beats=[job('beat', 'SELECT 1')])")
    worker.wait_for("slow begins")
    status, seconds = worker.signal(number)
    assert status == 0
    assert seconds < 6
    assert worker.count("slow begins") == worker.count("slow: done") == 1
    assert "worker stopped" in worker.output()


@pytest.mark.slow
def test_jobs_that_take_too_long_are_abandoned(start):
    worker = start(
        "from lokanetra import work\n"
        "work.GRACE = 2.0\n"
        "lane = JobLane('slow', [job('slow', 'SELECT pg_sleep(90)')], patient=True)\n"
        "Worker({'slow': lane}).run()"
    )
    worker.wait_for("slow begins")
    status, seconds = worker.signal(signal.SIGTERM)
    assert (status, 2 < seconds < 5, DEADLINE < GRACE < 20) == (0, True, True)
    assert "not finished: slow" in worker.output()


@pytest.mark.slow
def test_a_second_signal_ends_it_at_once(start):
    worker = start("work(slow=[job('slow', 'SELECT pg_sleep(9)')])")
    worker.wait_for("slow begins")
    status, seconds = worker.signal(signal.SIGTERM, signal.SIGTERM)
    assert (status, seconds < 2) == (1, True)
