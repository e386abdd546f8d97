"""What happens to money when machines fail: `scripts/drill.sh` runs it, the product uses none of it."""

from pathlib import Path

HERE = Path(__file__).parent


class Failed(Exception):
    """Raised when the drill cannot go on: then it proves nothing."""
