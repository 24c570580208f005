"""The inputs that fuzzing begins with: messages of every exchange, whole and in frames.

python -m fuzz.seeds FOLDER     # writes FOLDER/TARGET/..., prints the targets
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from declared import MESSAGES
from servers import PING, frame
from test_walker import ODD

_NUMBERS = (b"61837.63000000", b"0.00000001", b"1e-8", b"-0.10", b"9223372036854775807", b"00012.50", b".5", b"7.")


def seeds() -> Iterator[tuple[str, bytes]]:
    """(target, input) pairs."""
    for number in _NUMBERS:
        yield "numbers", number
    for place, message in enumerate(MESSAGES.values()):
        yield "scanner", bytes([place]) + message
        yield "scanner", bytes([place]) + b"\0".join([message, message.replace(b"1", b"2"), message + b" "])
        framed = frame(message) + frame(b"", PING) + frame(message)
        yield "walker", bytes([place, 0, 7, 60]) + framed
        yield "walker", bytes([place, 1, 3, 200]) + framed
    for odd in ODD.values():
        yield "walker", bytes([0, 0, 5, 9]) + frame(b"before") + odd + frame(b"after")


def main(folder: Path) -> None:
    """Write them, numbered, and print the targets."""
    targets: dict[str, int] = {}
    for target, seed in seeds():
        number = targets[target] = targets.get(target, 0) + 1
        path = folder / target / f"seed-{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(seed)
    print(*targets)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
