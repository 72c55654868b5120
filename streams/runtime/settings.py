"""The worker's settings: every number of the transport, with its reason."""

from __future__ import annotations

from dataclasses import dataclass, field

from streams.kafka.connection import Connection
from streams.runtime.clock import TrustedClock


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a worker talks to Kafka. Times are milliseconds, sizes bytes."""

    connection: Connection = field(default_factory=Connection)
    app_id: str = "shipclock"
    """Prefix of the consumer groups and transactional ids: another app id is another run over the
    same inputs, with the same outputs topics."""

    group_instance_id: str | None = None
    """This worker's own name in its consumer groups, for static membership: it gets its partitions
    back when it restarts within the session's timeout. Several processes add their number."""

    accepted_topics: frozenset[str] = frozenset()
    """Topics that were recreated, or lost records, and are read on as they are: `TOPIC=ID`."""

    policy_change: bool = False
    """Judge by this policy though live workers of the app id judge by another; they end."""

    clock: TrustedClock = field(default_factory=TrustedClock)
    """What time it is for the events; timeouts of the transport go by the machine's."""
    refuse_wrong_partition: bool = False
    """Make records in another partition than their key's dead letters. Off: facts whose producers
    all agree on another hash are judged well, and refused would be missing."""
    idle_slack_ms: int = 500
    """A topic read to its end counts as read up to this long ago: the time a record may take from
    its timestamp to the log."""
    probe_interval_ms: int = 150
    """How often the ends of the inputs are asked for while something waits for time to pass: one
    request, a third of the slack."""
    idle_probe_interval_ms: int = 2_500
    """How often otherwise: so soon a deleted input or a broker that is away is noticed, and so old
    the frontier of a worker may be that has nothing to do."""

    session_timeout_ms: int = 10_000
    """A worker silent for this long has lost its partitions. A step blocks for a second at most, so
    ten leave room for a slow machine, and bound how long a crashed worker's orders wait."""
    heartbeat_interval_ms: int = 1_000
    """Also how soon a member learns of a rebalance."""
    rebalance_timeout_ms: int = 30_000
    """Members finish the commit in flight before they join again."""
    metadata_max_age_ms: int = 30_000
    """How soon an input that was deleted and created again, or has more partitions, is noticed."""
    request_timeout_ms: int = 10_000
    """How long an answer of a broker may take, but for those to transactions."""
    answer_limit_ms: int = 30_000
    """Longest wait for the answer to one question, the client's own retries included: three request
    timeouts, so that a broker that is restarted is waited for and one that hangs is not."""
    join_limit_ms: int = 120_000
    """Longest wait for an assignment, at the start and in a rebalance: all members may take the
    rebalance timeout, and a coordinator that has just moved another one."""
    silence_limit_ms: int = 60_000
    """A session that for this long is not told where its topics end begins again with new clients:
    commits fail after half of it, so nothing is lost that was still of use."""
    fetch_limit_ms: int = 30_000
    """A consumer that has fetched nothing for this long, though the broker answers others, does not
    fetch any more; an idle one fetches once a second."""
    restore_stall_limit_ms: int = 15_000
    """A restore that has not advanced for this long begins again with a new client: a fetch takes
    milliseconds, a broker that is restarted some seconds."""
    unready_limit_ms: int = 30_000
    """A partition that is assigned and not ready for longer is reported: a takeover takes seconds.
    So is one that is ready and does not advance although there is something to read."""
    retry_backoff_ms: int = 50
    """aiokafka waits this long when the last transaction's markers are still being written; its
    default of 100 would show in every commit."""
    transaction_timeout_ms: int = 30_000
    """The broker aborts a transaction this old. Readers of the outputs wait for it if a worker dies
    and nobody takes its partitions over."""

    commit_interval_ms: int = 100
    """Shortest time between two commits of a partition under load: a transaction costs about 10 ms
    of round trips, so this keeps them below a tenth."""
    catch_up_ms: int = 10_000
    """A partition that is further behind than the idle slack and this catches up, and gathers
    longer for a commit."""
    catch_up_commit_interval_ms: int = 4_000
    """What changes several times within it is written once."""
    transaction_records_max: int = 50_000
    """Outputs and states of one transaction, but for what one step does: some megabytes."""
    mark_interval_ms: int = 1_000
    """A partition says how far it has come this often while somebody waits for that, but not more
    often than it commits; shops lag by it."""
    idle_mark_interval_ms: int = 60_000
    """And this often while nobody waits: a transaction takes about a kilobyte of the broker's disk,
    so 12 partitions take some 30 MB a day."""
    step_outputs_max: int = 4_000
    """Outputs of one step: bounds how long the loop is away from the heartbeat."""
    buffered_bytes_max: int = 128 * 1024 * 1024
    """What a stage may hold in memory of records not yet processed, shared by its topic partitions:
    a quarter of a million small orders, or far fewer large ones. Each may exceed its share by one
    fetch."""
    instant_bytes_max: int = 512 * 1024 * 1024
    """What a stage may hold of records that all count as one instant, which the frontier passes
    only when their topic has been read on. Beyond it the rest of them count as a millisecond later:
    an order among them may be judged before its scan and corrected, but the worker stays alive."""

    fetch_partition_bytes: int = 512 * 1024
    """What a response brings of one partition, at least one batch; four times that in a restore."""
    fetch_bytes_max: int = 8 * 1024 * 1024
    """One response: what a pause may throw away, and what is decoded in one go."""
    fetch_wait_ms: int = 100
    """A resumed partition waits for the fetch in flight, so it is short."""
    idle_fetch_wait_ms: int = 1_000
    """How long the broker holds a fetch that leaves no partition out if no record comes: nothing
    can be resumed meanwhile, and the first record ends it."""
    marks_wait_ms: int = 5_000
    """How long the broker holds a fetch of the marks if none comes; shorter than a request."""
    batch_bytes: int = 512 * 1024
    """Produced batches: half of the broker's default limit on one."""

    restore_concurrency: int = 4
    """How many partitions of a stage restore at a time."""
    stop_timeout_ms: int = 2_500
    """For the commit in flight when the worker is stopped; after it the transaction is aborted."""
    summary_interval_ms: int = 10_000
    """How often what was done is logged, while something is."""
    metrics_port: int | None = None
    """Where 127.0.0.1 answers Prometheus; None: nowhere."""
