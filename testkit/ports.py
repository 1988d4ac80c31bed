"""Free ports of the loopback interface, each given to one caller only while its process lives."""

from __future__ import annotations

import random
import socket

# Below the range that systems take the ports of outgoing connections from (32768 and up on Linux,
# 49152 elsewhere): no client can sit on a port between the moment it is given out and the bind.
_FIRST, _END = 20_000, 32_000


def free_port() -> int:
    """A TCP port that nothing listens on and that no other process gets from this function.

    A UDP socket of the same number stays bound until this process ends, and marks the port as
    taken for every other process on this machine that asks here.

    Raises:
        OSError: All ports of the range are in use.
    """
    places = range(_FIRST, _END)
    for port in random.SystemRandom().sample(places, min(500, len(places))):
        mark = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            mark.bind(("127.0.0.1", port))
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", port))
        except OSError:
            mark.close()
            continue
        mark.detach()  # open for as long as the process lives
        return port
    raise OSError(f"No port between {_FIRST} and {_END} is free.")
