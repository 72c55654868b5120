"""The source of a stage: a service of the Faust app that reads while the worker runs."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

from aiokafka.errors import KafkaError

from streams.kafka.diagnosis import diagnose, unreachable
from streams.kafka.waiting import cancelled, jittered
from streams.runtime.errors import WorkerError, refusal
from streams.runtime.lasting import Lasting
from streams.runtime.logs import Standing, error, reason
from streams.runtime.marks import MarksReader
from streams.runtime.reach import Reach
from streams.runtime.rights import worker_rights
from streams.runtime.session import Session
from streams.runtime.settings import Settings
from streams.runtime.stage import Stage

log = logging.getLogger(__name__)

_RETRY_S = 3.0
_REFUSED_S = 30.0
_BROKEN_S_MIN, _BROKEN_S_MAX = 1.0, 30.0
# A session that lasted this long had no standing problem.
_HEALTHY_S = 60.0


class Source(Lasting):
    """Keeps a session of the stage's consumer group: begins another one whenever it ends."""

    def __init__(
        self,
        settings: Settings,
        stage: Stage,
        channel: Any,
        marks: MarksReader,
        on_fatal: Callable[[WorkerError], None],
        reach: Reach,
        **kwargs: Any,
    ) -> None:
        super().__init__(f"the {stage.name} stage", on_fatal, **kwargs)
        self._settings = settings
        self._stage = stage
        self._channel = channel
        self._marks = marks
        self._reach = reach
        self._needs = worker_rights(settings.connection, settings.app_id, [stage])
        self._refusals = Standing()
        self._broken_s = _BROKEN_S_MIN

    async def _run(self) -> None:
        while True:
            began_s = time.monotonic()
            try:
                session = Session(
                    self._settings, self._stage, self._channel, self._marks, self._reach
                )
                await session.run()
            except WorkerError as exc:
                self._on_fatal(exc)
                return
            except (Exception, asyncio.CancelledError) as exc:
                if isinstance(exc, asyncio.CancelledError) and cancelled():
                    raise
                if time.monotonic() - began_s > _HEALTHY_S:
                    self._broken_s = _BROKEN_S_MIN
                    self._refusals.over()
                pause_s = await self._report(exc)
            await asyncio.sleep(jittered(pause_s))

    async def _report(self, exc: BaseException) -> float:
        """Log what ended a session; return how long to wait before the next, in seconds."""
        if refused := refusal(exc, self._needs):
            return self._refused(refused.detail, refused.hint)
        if isinstance(exc, (KafkaError, OSError)):
            # The client says of every failure to connect that nobody answered.
            try:
                found = await diagnose(self._settings.connection)
            except Exception as failed:  # noqa: BLE001 - what fails here must not end the stage
                if refused := refusal(failed):
                    return self._refused(refused.detail, refused.hint)
                found = unreachable(self._settings.connection, reason(failed))
            if found is None:
                self._reach.lost(self._stage.name, reason(exc))
            elif found.permanent:
                return self._refused(found.detail, found.hint)
            else:
                self._reach.lost(self._stage.name, found.detail, found.hint)
            return _RETRY_S
        pause_s, self._broken_s = self._broken_s, min(2 * self._broken_s, _BROKEN_S_MAX)
        log.error("broken stage=%s retry_s=%s", self._stage.name, pause_s, exc_info=exc)
        return pause_s

    def _refused(self, detail: str, hint: str) -> float:
        if self._refusals.news(detail):
            error(log, "refused", stage=self._stage.name, detail=detail, hint=hint,
                  retry_s=_REFUSED_S)  # fmt: skip
        return _REFUSED_S
