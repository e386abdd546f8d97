"""Benchmarks of the product as production runs it: `scripts/bench.sh` runs them, the product uses none of it."""

from pathlib import Path

HERE = Path(__file__).parent
# The n-th account has this number plus n, the country's code before it.
PHONES = 9_000_000_000
# Accounts that pay and read. Their logins are made beforehand.
MEMBERS = 1_000
