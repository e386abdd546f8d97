"""Thousands of requests generated from the documentation: no server error, and every answer as documented."""

import subprocess
import sys
from pathlib import Path

import pytest

from lokanetra.tests.live import Live


@pytest.mark.slow
def test_no_made_up_request_breaks_the_server_or_the_documentation(live: Live, tmp_path: Path):
    """Without the checks that valid data is accepted (there are further rules) and invalid data refused (an empty
    parameter counts as none), and without the log-out that would end the fuzzer's own login."""
    live.run(
        sys.executable, "manage.py", "createsuperuser", "--no-input", "--username", "fuzz", "--email", "f@example.com"
    )
    live.run("scripts/assign_phone.sh", "fuzz", "9888888880")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "run", f"http://127.0.0.1:{live.port}/swagger.json"),
            *("--header", f"Authorization: Bearer {live.log_in('9888888880')}"),
            *("--max-examples", "20", "--phases", "examples,coverage,fuzzing", "--continue-on-failure"),
            *(
                "--exclude-checks",
                "positive_data_acceptance,negative_data_rejection",
                "--exclude-path",
                "/auth/logout-all/",
            ),
        ],
        cwd=tmp_path,  # the fuzzer keeps files of its own
        capture_output=True,
        text=True,
        timeout=400,
    )
    print(done.stdout)  # noqa: T201  (the seed and the figures)
    assert done.returncode == 0
    assert live.check_ledger()["ok"]
