"""Where the image's process begins: it hears SIGTERM from here on, then runs a command.

`python -m chatmodel_runtime COMMAND`; see `commands`. Nothing that takes time is imported before
the handler is there: the kernel gives process 1 of a container no signal without one, and a pod
told to end while it imports would keep its room until its grace period is over.
"""

import os
import signal
from typing import NoReturn

from chatmodel_runtime.errors import EXIT_TERMINATED


def main() -> None:
    """Run one command; until it handles SIGTERM itself, that ends the process."""
    signal.signal(signal.SIGTERM, _end)
    from chatmodel_runtime import commands

    commands.main()


def _end(*_: object) -> NoReturn:
    os._exit(EXIT_TERMINATED)  # whatever is half done is left as by a kill, which all bear


if __name__ == "__main__":
    main()
