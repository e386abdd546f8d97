"""PostgreSQL as the product uses it."""

serving = False


def serve() -> None:
    """From here on this process answers requests: it waits for the database no longer than its clients wait for it.

    Management commands take their time.
    """
    global serving
    serving = True
