"""Checks payments while machines fail. `scripts/drill.sh` runs it; the product itself uses none of this."""

from pathlib import Path

HERE = Path(__file__).parent


class Failed(Exception):
    """Raised when the drill cannot continue: it proves nothing then."""
