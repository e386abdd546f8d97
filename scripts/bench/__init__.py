"""Benchmarks of the product as in production. `scripts/bench.sh` runs them; the product itself uses none of this."""

from pathlib import Path

HERE = Path(__file__).parent
# The n-th account has this number plus n, after the country code.
PHONES = 9_000_000_000
# Accounts that pay and read. They are logged in before the measurements.
MEMBERS = 1_000
