"""`scripts/drill.sh`: let machines fail one after the other, and check the payments."""

import json
import shutil
import signal
import sys
import tempfile
import time
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from pathlib import Path
from subprocess import CalledProcessError
from typing import Any

from scripts.bench.load import Failed as BenchFailed
from scripts.drill import Failed, report
from scripts.drill.accounting import reconcile
from scripts.drill.clients import paying
from scripts.drill.report import Window
from scripts.drill.scenarios import SCENARIOS, Scenario
from scripts.drill.site import Site, running

# Seconds that each fault lasts at least after the first payment.
LINGER = 10.0


def main() -> None:
    options = arguments().parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _exit)  # started processes are stopped on the way out
    try:
        result = _drill(options)
    except (Failed, BenchFailed, TimeoutError, CalledProcessError) as fault:
        sys.exit(f"drill.sh: {fault}")
    print(report.text(result))
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")
    if complaints := report.broken(result):
        sys.exit("\n".join(["drill.sh: a promise was broken", *complaints]))


def _drill(options: Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="lokanetra-drill-") as name:
        folder = Path(name)
        try:
            log("starting etcd, three PostgreSQL nodes, Redis, two servers and the worker")
            with running(folder) as site:
                return _run_all(site, options.only)
        finally:
            if options.logs:
                _keep_logs(folder, options.logs)


def _run_all(site: Site, names: tuple[str, ...]) -> dict[str, Any]:
    before = site.balances()
    with paying(site.clients) as site.check_clients:
        site.recover()
        windows = [_run(site, name, SCENARIOS[name]) for name in names for _ in range(SCENARIOS[name].times)]
    log("counting")
    accounts = reconcile(
        [answer.payment for answer in site.clients.acknowledged], site.ledger(), before, site.balances()
    )
    return report.result(windows, accounts, site.clients, site.servers[0].live.check_ledger())


def _run(site: Site, name: str, scenario: Scenario) -> dict[str, Any]:
    since = time.monotonic()
    site.log_in()
    log(scenario.title)
    with scenario.fail(site) as fault:
        site.wait_for_write(fault)
        time.sleep(LINGER)
    site.recover()
    window = Window(name, scenario.title, scenario.limit, since, fault, time.monotonic())
    found = report.found(window, site.clients, [server.health for server in site.servers])
    log("  " + report.short(found))
    return found


def log(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def _keep_logs(folder: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for path in folder.glob("**/*.log"):
        shutil.copy(path, target / "-".join(path.relative_to(folder).parts))


def arguments() -> ArgumentParser:
    """`drill.sh --help` explains the options."""
    parser = ArgumentParser("drill.sh", add_help=False, allow_abbrev=False)
    parser.add_argument("--only", type=_names, default=tuple(SCENARIOS))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--logs", type=Path)
    return parser


def _names(text: str) -> tuple[str, ...]:
    unknown = set(text.split(",")) - set(SCENARIOS)
    if unknown:
        raise ArgumentTypeError(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(SCENARIOS)}")
    return tuple(name for name in SCENARIOS if name in text.split(","))


def _exit(number: int, frame: Any) -> None:
    """Exit once: the clean-up must not be interrupted."""
    for ignored in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ignored, signal.SIG_IGN)
    sys.exit(128 + number)


if __name__ == "__main__":
    main()
