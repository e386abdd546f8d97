"""`scripts/bench.sh`: measure, print the table, write the requested files."""

import json
import signal
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scripts.bench import bill, chart, comparison, growth, outside, report, throughput
from scripts.bench.load import LONGEST_SECONDS, Failed


def main() -> None:
    parser = arguments()
    options = parser.parse_args()
    if options.only and (options.growth or options.outside or options.bill or options.peers):
        parser.error("--only does not go with --growth, --outside, --peers and --bill")
    if options.chart and (options.outside or options.bill):
        parser.error("there is no chart of --outside and of --bill")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _exit)  # started processes are stopped on the way out
    try:
        result = _measure(options)
    except Failed as fault:
        sys.exit(f"bench.sh: {fault}")
    formatter = outside if options.outside else bill if options.bill else report
    print(formatter.text(result))
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")
    if options.chart:
        chart.draw(result, options.chart)


def _measure(options: Namespace) -> dict[str, Any]:
    if options.bill:
        return bill.measure(options)
    if options.peers:
        return comparison.measure(options)
    if options.growth:
        return growth.measure(options)
    return outside.measure(options) if options.outside else throughput.measure(options)


def arguments() -> ArgumentParser:
    """`bench.sh --help` explains the options."""
    parser = ArgumentParser("bench.sh", add_help=False, allow_abbrev=False)
    parser.add_argument("--rounds", type=_number_between(1, 1_000), default=3)
    parser.add_argument("--seconds", type=_number_between(1, LONGEST_SECONDS), default=10)
    parser.add_argument("--only", type=_names)
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--sqlite", action="store_true")
    kind.add_argument("--growth", action="store_true")
    kind.add_argument("--outside", action="store_true")
    kind.add_argument("--bill", action="store_true")
    kind.add_argument("--peers", action="store_true")
    parser.add_argument("--large-wallets", type=_number_between(growth.SMALL[0], 10**7), default=1_000_000)
    parser.add_argument("--large-rows", type=_number_between(growth.SMALL[1], 10**8), default=10_000_000)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--chart", type=Path)
    return parser


def _names(text: str) -> tuple[str, ...]:
    unknown = set(text.split(",")) - set(throughput.NAMES)
    if unknown:
        raise ArgumentTypeError(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(throughput.NAMES)}")
    return tuple(name for name in throughput.NAMES if name in text.split(","))


def _number_between(minimum: int, maximum: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not text.isdecimal() or not minimum <= int(text) <= maximum:
            raise ArgumentTypeError(f"write a number from {minimum} to {maximum}")
        return int(text)

    return number


def _exit(number: int, frame: Any) -> None:
    sys.exit(128 + number)


if __name__ == "__main__":
    main()
