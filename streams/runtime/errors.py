"""What can stop a worker or a partition, in words for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from aiokafka import errors as kafka

from streams.codec.state import StateVersionError
from streams.core.errors import UserError
from streams.engine.records import CorruptChangelog
from streams.kafka.acls import Acl, missing
from streams.kafka.connection import ConnectionSettingError
from streams.runtime.logs import reason


class WorkerError(UserError):
    """Why a worker cannot go on."""


class PartitionRefused(Exception):
    """One partition whose log and state do not fit together; the others go on.

    Args:
        message: In words that other partitions may share, so that one line tells of all.
        at: What only this partition has to say, such as an offset.
    """

    def __init__(self, message: str, hint: str = "", at: str = "") -> None:
        super().__init__(message)
        self.hint = hint
        self.at = at


class PositionLost(Exception):
    """What the broker has to give is not what comes next: the partition must begin again.

    Args:
        message: See `PartitionRefused`; so is `at`.
    """

    def __init__(self, message: str, at: str = "") -> None:
        super().__init__(message)
        self.at = at


class TopicRecreated(PartitionRefused):
    """An input's records are not those whose offsets are known: no retry mends that.

    Args:
        accept: What `--accept-topic` takes to go on with the topic as it is now.
    """

    def __init__(self, message: str, accept: str, at: str) -> None:
        super().__init__(
            message,
            f"to read it from its first record beside the state kept, start all workers with "
            f'--accept-topic {accept}; see "A topic was recreated" in docs/operations.md',
            at,
        )


_LOGIN = "correct sasl_username or sasl_password: shipclock config check"
_TOO_LARGE = "raise the topic's max.message.bytes; compare with: shipclock topics check"
_VERSION = "the broker is too old for this worker"
_HINTS: dict[type[BaseException], str] = {
    kafka.MessageSizeTooLargeError: _TOO_LARGE,
    kafka.RecordListTooLargeError: _TOO_LARGE,
    kafka.RecordTooLargeError: _TOO_LARGE,
    kafka.SaslAuthenticationFailed: _LOGIN,
    kafka.AuthenticationFailedError: _LOGIN,
    kafka.InvalidTopicError: "compare with: shipclock topics check",
    kafka.InvalidTimestampError: "compare with: shipclock topics check",
    kafka.PolicyViolationError: "the cluster's policy must allow it",
    kafka.InvalidTransactionTimeout: "raise the broker's transaction.max.timeout.ms to 30 s",
    kafka.InvalidSessionTimeoutError: "the broker must allow group sessions of 10 s",
    kafka.InvalidGroupIdError: "give another --app-id",
    kafka.UnsupportedVersionError: _VERSION,
    kafka.IncompatibleBrokerVersion: _VERSION,
    kafka.UnsupportedForMessageFormatError: _VERSION,
    kafka.UnsupportedCodecError: "a producer compresses in a way this worker cannot read",
    kafka.CorruptRecordException: "the broker's log is damaged: restore it from a replica",
    CorruptChangelog: "see what a failure costs in docs/guarantees.md",
    StateVersionError: "run the program that wrote the changelog, or a newer one",
}


class Refusal(NamedTuple):
    """A failure that no retry mends, and what somebody must do."""

    detail: str
    hint: str
    at: str = ""
    """See `PartitionRefused`."""


def refusal(exc: BaseException, needs: Sequence[Acl] = ()) -> Refusal | None:
    """Tell a failure that no retry mends from one that passes.

    The client wraps what it did not expect, so the causes are looked at too.

    Args:
        needs: The rights that the work needs, so that one which is missing can be named.
    """
    cause: BaseException | None = exc
    while cause is not None:
        if isinstance(cause, PartitionRefused):
            return Refusal(str(cause), cause.hint, cause.at)
        if isinstance(cause, ConnectionSettingError):
            return Refusal(cause.message, cause.hint or "")
        if lacks := missing(cause, needs):
            return Refusal(lacks.detail, lacks.hint)
        for kind, hint in _HINTS.items():
            if isinstance(cause, kind):
                at = cause.at if isinstance(cause, CorruptChangelog) else ""
                return Refusal(reason(cause), hint, at)
        cause = cause.__cause__
    return None
