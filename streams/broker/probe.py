"""Ask a port whether a Kafka broker serves clients there."""

import socket
import struct

METADATA_KEY = 3
METADATA_VERSION = 4
# Request header v1 (key, version, correlation id, client id), then an empty list of topics and
# allow_auto_topic_creation = false.
REQUEST_BODY = struct.pack(">hhih5si?", METADATA_KEY, METADATA_VERSION, 1, 5, b"probe", 0, False)
REQUEST = struct.pack(">i", len(REQUEST_BODY)) + REQUEST_BODY


def serves_metadata(host: str, port: int, timeout: float = 1.0) -> bool:
    """Tell whether a client would be given at least one live broker."""
    try:
        with socket.create_connection((host, port), timeout) as connection:
            connection.settimeout(timeout)
            connection.sendall(REQUEST)
            # Size, correlation id, throttle time, number of brokers.
            answer = connection.recv(16, socket.MSG_WAITALL)
    except OSError:
        return False
    if len(answer) < 16:
        return False
    _, correlation_id, _, brokers = struct.unpack(">iiii", answer)
    return bool(correlation_id == 1 and brokers > 0)
