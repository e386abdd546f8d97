"""PostgreSQL as the product uses it."""

serving = False


def serve() -> None:
    """Mark this process as a server or worker: it waits for the database no longer than clients would wait for it,
    except on connections that are `patient`.

    Other management commands have no such limits.
    """
    global serving
    serving = True
