from streams.engine.compiled import Take

TAKE: dict[int, Take]

def timed(
    packed: dict[bytes, bytes], run: bytes, begin_ms: int, end_ms: int
) -> list[tuple[int, bytes]]: ...
def forget(
    packed: dict[bytes, bytes], changed: dict[bytes, bool], keys: list[bytes], limit_ms: int
) -> None: ...
