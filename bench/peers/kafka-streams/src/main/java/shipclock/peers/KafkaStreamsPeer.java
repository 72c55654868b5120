package shipclock.peers;

import java.nio.file.Path;
import java.util.HashMap;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicBoolean;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.serialization.StringSerializer;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.state.KeyValueBytesStoreSupplier;
import org.apache.kafka.streams.state.StoreBuilder;
import org.apache.kafka.streams.state.Stores;

/**
 * First-scan deadlines on Kafka Streams: what shipclock's comparison runs beside it.
 *
 * <p>Options: --bootstrap HOST:PORT --state memory|rocksdb --parallelism N --dir FOLDER. It says
 * READY when it is RUNNING and works until it is ended. The application's id is made from the
 * folder's name: the same folder goes on, another begins anew.
 *
 * <p>Choices. One processor over three co-partitioned sources, merged by time: max.task.idle.ms
 * makes a task wait for a topic that has more, and half a second for one that may get more. Timers
 * beside the store instead of in a second one with a changelog, which would add two records an
 * order to three. exactly_once_v2 with its 100 ms commits: 500 ms used as much CPU. Batches of
 * 256 KiB, polls and buffers of 5 000 records: 7 % less CPU than the defaults. No compression: lz4
 * used 20 % more. No record cache: an order is seldom touched twice within a commit.
 *
 * <p>Of 447 000 events the JVM's compiler takes over a third of the CPU: give it a long run.
 */
public final class KafkaStreamsPeer {
    private KafkaStreamsPeer() {}

    public static void main(String[] arguments) throws Exception {
        Map<String, String> options = new HashMap<>();
        for (int i = 0; i + 1 < arguments.length; i += 2) {
            options.put(arguments[i], arguments[i + 1]);
        }
        String state = options.getOrDefault("--state", "memory");
        int threads = Integer.parseInt(options.getOrDefault("--parallelism", "2"));
        Path folder = Path.of(options.get("--dir")).toAbsolutePath();

        AtomicBoolean ready = new AtomicBoolean();
        CountDownLatch ended = new CountDownLatch(1);
        KafkaStreams streams =
                new KafkaStreams(
                        topology(state), properties(options.get("--bootstrap"), threads, folder));
        streams.setStateListener(
                (now, before) -> {
                    if (now == KafkaStreams.State.RUNNING && ready.compareAndSet(false, true)) {
                        System.out.println("READY");
                    } else if (now.hasCompletedShutdown()) {
                        ended.countDown();
                    }
                });
        Runtime.getRuntime().addShutdownHook(new Thread(streams::close));
        streams.start();
        ended.await();
        if (streams.state() == KafkaStreams.State.ERROR) {
            System.exit(1);
        }
    }

    private static Topology topology(String state) {
        Topology topology = new Topology();
        for (Fact.Kind kind : Fact.Kind.values()) {
            topology.addSource(
                    kind.topic, Serdes.Bytes().deserializer(), new Fact.Decoder(kind), kind.topic);
        }
        String[] sources = {
            Fact.Kind.PAID.topic, Fact.Kind.UPLOADED.topic, Fact.Kind.SCANNED.topic
        };
        KeyValueBytesStoreSupplier supplier =
                state.equals("memory")
                        ? Stores.inMemoryKeyValueStore(Deadlines.STORE)
                        : Stores.persistentKeyValueStore(Deadlines.STORE);
        StoreBuilder<?> store =
                Stores.keyValueStoreBuilder(supplier, Serdes.Bytes(), Order.serde())
                        .withLoggingEnabled(Map.of());
        return topology.addProcessor("deadlines", Deadlines::new, sources)
                .addStateStore(store, "deadlines")
                .addSink(
                        "timeouts",
                        "timeout",
                        new StringSerializer(),
                        Timeout::encode,
                        "deadlines");
    }

    private static Properties properties(String bootstrap, int threads, Path folder) {
        Properties properties = new Properties();
        properties.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, bootstrap);
        properties.put(StreamsConfig.APPLICATION_ID_CONFIG, "streams-peer-" + folder.getFileName());
        properties.put(StreamsConfig.STATE_DIR_CONFIG, folder.toString());
        properties.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, threads);
        properties.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
        properties.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, 100);
        properties.put(StreamsConfig.MAX_TASK_IDLE_MS_CONFIG, 500);
        properties.put(
                StreamsConfig.BUFFERED_RECORDS_PER_PARTITION_CONFIG, 5_000);
        properties.put(
                StreamsConfig.mainConsumerPrefix(ConsumerConfig.MAX_POLL_RECORDS_CONFIG), 5_000);
        properties.put(
                StreamsConfig.consumerPrefix(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG), "earliest");
        properties.put(
                StreamsConfig.producerPrefix(ProducerConfig.BATCH_SIZE_CONFIG), 256 * 1024);
        return properties;
    }
}
