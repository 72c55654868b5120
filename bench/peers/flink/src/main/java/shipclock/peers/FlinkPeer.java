package shipclock.peers;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Comparator;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Properties;
import java.util.stream.Stream;
import java.util.stream.StreamSupport;
import org.apache.flink.api.common.JobID;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.configuration.CheckpointingOptions;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.configuration.CoreOptions;
import org.apache.flink.configuration.ExternalizedCheckpointRetention;
import org.apache.flink.configuration.MemorySize;
import org.apache.flink.configuration.PipelineOptions;
import org.apache.flink.configuration.RestartStrategyOptions;
import org.apache.flink.configuration.StateBackendOptions;
import org.apache.flink.configuration.TaskManagerOptions;
import org.apache.flink.connector.base.DeliveryGuarantee;
import org.apache.flink.connector.kafka.sink.KafkaRecordSerializationSchema;
import org.apache.flink.connector.kafka.sink.KafkaSink;
import org.apache.flink.connector.kafka.sink.TransactionNamingStrategy;
import org.apache.flink.connector.kafka.source.KafkaSource;
import org.apache.flink.connector.kafka.source.enumerator.initializer.OffsetsInitializer;
import org.apache.flink.core.execution.CheckpointingMode;
import org.apache.flink.runtime.execution.ExecutionState;
import org.apache.flink.runtime.jobgraph.SavepointRestoreSettings;
import org.apache.flink.runtime.jobmaster.JobResult;
import org.apache.flink.runtime.minicluster.MiniCluster;
import org.apache.flink.runtime.minicluster.MiniClusterConfiguration;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.graph.StreamGraph;
import org.apache.kafka.clients.admin.Admin;

/**
 * First-scan deadlines on Flink, in one process: what shipclock's comparison runs beside it.
 *
 * <p>Options: --bootstrap HOST:PORT --state heap|rocksdb --parallelism N --dir FOLDER --kinds 1|2.
 * It says READY when all tasks run, works until it is ended, and goes on from the folder's last checkpoint.
 *
 * <p>Choices. One source for the three topics, with a watermark of each partition and no idleness:
 * the watermark is never ahead of what has been read. Watermark alignment is wide against what one
 * fetch holds of a topic, and renewed often, so that it bounds the state without pacing a past of
 * days. Object reuse, no generic types, hand-written serializers. Checkpoints and transactions each
 * second; transactional ids from a pool. RocksDB has 256 MB, incremental checkpoints, and its
 * timers within: timers on the heap used no less CPU. A task that fails ends the program, so that
 * no run hides a restart.
 *
 * <p>Of 447 000 events the JVM's compiler takes over a third of the CPU: give it a long run.
 */
public final class FlinkPeer {
    private static final List<String> TOPICS =
            List.of(FactDecoder.PAID, FactDecoder.UPLOADED, FactDecoder.SCANNED);

    private FlinkPeer() {}

    public static void main(String[] arguments) throws Exception {
        Map<String, String> options = new HashMap<>();
        for (int i = 0; i + 1 < arguments.length; i += 2) {
            options.put(arguments[i], arguments[i + 1]);
        }
        String bootstrap = options.get("--bootstrap");
        String state = options.getOrDefault("--state", "heap");
        int parallelism = Integer.parseInt(options.getOrDefault("--parallelism", "2"));
        Path folder = Path.of(options.get("--dir")).toAbsolutePath();
        int kinds = Integer.parseInt(options.getOrDefault("--kinds", "1"));

        Configuration configuration = configuration(state, folder);
        StreamGraph graph = graph(configuration, bootstrap, parallelism, folder, kinds);
        latestCheckpoint(folder)
                .map(path -> SavepointRestoreSettings.forPath(path.toUri().toString()))
                .ifPresent(graph::setSavepointRestoreSettings);
        MiniClusterConfiguration cluster =
                new MiniClusterConfiguration.Builder()
                        .setConfiguration(configuration)
                        .setNumTaskManagers(1)
                        .setNumSlotsPerTaskManager(parallelism)
                        .withRandomPorts()
                        .build();
        try (MiniCluster flink = new MiniCluster(cluster)) {
            flink.start();
            JobID job = flink.submitJob(graph).get().getJobID();
            while (!running(flink, job)) {
                Thread.sleep(5);
            }
            System.out.println("READY");
            JobResult result = flink.requestJobResult(job).get();
            result.toJobExecutionResult(ClassLoader.getSystemClassLoader());
        }
    }

    private static Configuration configuration(String state, Path folder) {
        Configuration configuration = new Configuration();
        configuration.set(PipelineOptions.OBJECT_REUSE, true);
        configuration.set(PipelineOptions.GENERIC_TYPES, false);
        configuration.set(
                PipelineOptions.AUTO_WATERMARK_INTERVAL, Duration.ofMillis(50));
        configuration.set(CoreOptions.TMP_DIRS, folder.resolve("tmp").toString());
        configuration.set(
                StateBackendOptions.STATE_BACKEND, state.equals("heap") ? "hashmap" : "rocksdb");
        configuration.set(
                TaskManagerOptions.MANAGED_MEMORY_SIZE,
                MemorySize.ofMebiBytes(state.equals("heap") ? 1 : 256));
        configuration.set(CheckpointingOptions.CHECKPOINT_STORAGE, "filesystem");
        configuration.set(
                CheckpointingOptions.CHECKPOINTS_DIRECTORY,
                folder.resolve("checkpoints").toUri().toString());
        configuration.set(CheckpointingOptions.CHECKPOINTING_INTERVAL, Duration.ofSeconds(1));
        configuration.set(
                CheckpointingOptions.CHECKPOINTING_CONSISTENCY_MODE,
                CheckpointingMode.EXACTLY_ONCE);
        configuration.set(CheckpointingOptions.INCREMENTAL_CHECKPOINTS, true);
        configuration.set(
                CheckpointingOptions.EXTERNALIZED_CHECKPOINT_RETENTION,
                ExternalizedCheckpointRetention.RETAIN_ON_CANCELLATION);
        configuration.set(RestartStrategyOptions.RESTART_STRATEGY, "none");
        return configuration;
    }

    private static StreamGraph graph(
            Configuration configuration, String bootstrap, int parallelism, Path folder, int kinds)
            throws Exception {
        StreamExecutionEnvironment flink =
                StreamExecutionEnvironment.createLocalEnvironment(parallelism, configuration);
        Properties consumer = new Properties();
        consumer.setProperty("max.poll.records", "5000");
        consumer.setProperty("partition.discovery.interval.ms", "-1");
        KafkaSource<Fact> source =
                KafkaSource.<Fact>builder()
                        .setBootstrapServers(bootstrap)
                        .setTopics(TOPICS)
                        .setStartingOffsets(OffsetsInitializer.earliest())
                        .setDeserializer(new FactDecoder())
                        .setProperties(consumer)
                        .build();
        WatermarkStrategy<Fact> watermarks =
                WatermarkStrategy.<Fact>forMonotonousTimestamps()
                        .withWatermarkAlignment(
                                "orders", Duration.ofHours(24), Duration.ofMillis(50));
        KafkaSink<Timeout> sink =
                KafkaSink.<Timeout>builder()
                        .setBootstrapServers(bootstrap)
                        .setDeliveryGuarantee(DeliveryGuarantee.EXACTLY_ONCE)
                        .setTransactionalIdPrefix("flink-peer-" + folder.getFileName())
                        .setTransactionNamingStrategy(TransactionNamingStrategy.POOLING)
                        .setProperty("transaction.timeout.ms", "600000")
                        .setRecordSerializer(
                                KafkaRecordSerializationSchema.<Timeout>builder()
                                        .setTopic("timeout")
                                        .setKeySerializationSchema(new Timeout.KeyEncoder())
                                        .setValueSerializationSchema(new Timeout.ValueEncoder())
                                        .build())
                        .build();
        flink.fromSource(source, watermarks, "facts")
                .setParallelism(Math.min(parallelism, partitions(bootstrap)))
                .uid("facts")
                .keyBy(fact -> fact.orderId, Types.STRING)
                .process(new Deadlines(kinds), TypeInformation.of(Timeout.class))
                .uid("deadlines")
                .sinkTo(sink)
                .uid("timeouts");
        return flink.getStreamGraph();
    }

    /** A subtask without a partition would hold back the watermark for ever. */
    private static int partitions(String bootstrap) throws Exception {
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", bootstrap))) {
            return admin.describeTopics(TOPICS).allTopicNames().get().values().stream()
                    .mapToInt(topic -> topic.partitions().size())
                    .min()
                    .orElseThrow();
        }
    }

    private static Optional<Path> latestCheckpoint(Path folder) throws IOException {
        Path checkpoints = folder.resolve("checkpoints");
        if (!Files.exists(checkpoints)) {
            return Optional.empty();
        }
        try (Stream<Path> files = Files.find(
                checkpoints, 3, (path, attributes) -> path.endsWith("_metadata"))) {
            return files.max(Comparator.comparingLong(path -> path.toFile().lastModified()))
                    .map(Path::getParent);
        }
    }

    private static boolean running(MiniCluster flink, JobID job) throws Exception {
        return StreamSupport.stream(
                        flink.getExecutionGraph(job).get().getAllExecutionVertices().spliterator(),
                        false)
                .allMatch(vertex -> vertex.getExecutionState() == ExecutionState.RUNNING);
    }
}
