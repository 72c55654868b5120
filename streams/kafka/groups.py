"""Which consumer groups of a cluster somebody is in."""

from __future__ import annotations

from aiokafka.admin import AIOKafkaAdminClient

_RESTING = ("Empty", "Dead")
_STAGES = ("-orders", "-shops")


async def busy_groups(admin: AIOKafkaAdminClient) -> list[str]:
    """Name the consumer groups of workers that have members.

    A worker that was killed, or a static member that stopped, is one until its session ends.
    """
    groups = [name for name, _ in await admin.list_consumer_groups() if name.endswith(_STAGES)]
    busy = []
    for group in groups:
        # One by one: aiokafka misreads the answer about several.
        (response,) = await admin.describe_consumer_groups([group])
        busy += [name for _, name, state, *_ in response.groups if state not in _RESTING]
    return busy
