"""PostgreSQL as the product uses it."""

serving = False


def serve() -> None:
    """From here on this process answers requests, or works for ever: it waits for the database no longer than clients
    would wait for it, save on connections that are `patient`.

    Other management commands take their time.
    """
    global serving
    serving = True
