"""The `facekd` command, also `python -m facekd`: Ctrl-C while it is being loaded ends it without a word."""

import os
import signal
from types import FrameType


def _end(number: int, _: FrameType | None) -> None:
    # Not KeyboardInterrupt: raised within an import, it may be turned into another error, or printed.
    os._exit(128 + number)


def main() -> None:
    """Entry point: loads the command line, then hands over to it, and Ctrl-C with it."""
    handler = signal.signal(signal.SIGINT, _end)
    from facekd.cli import main as run

    run(on_loaded=lambda: signal.signal(signal.SIGINT, handler))


if __name__ == "__main__":
    main()
