package shipclock.peers;

import java.nio.charset.StandardCharsets;
import java.util.Comparator;
import java.util.TreeSet;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueIterator;
import org.apache.kafka.streams.state.KeyValueStore;

/**
 * Emits a timeout when a partition's time passes an order's deadline and no scan before it is
 * known.
 *
 * <p>The timers are ordered by (due, order) beside the store. They follow from the orders in it, so
 * they are set anew from it when a task starts, and need no changelog of their own.
 */
final class Deadlines implements Processor<Bytes, Fact, String, Timeout> {
    static final String STORE = "orders";

    private static final long HOUR_MS = 3_600_000;
    private static final long LIMIT_MS = 72 * HOUR_MS;
    private static final long RETENTION_MS = HOUR_MS;

    private record Timer(long due, Bytes order) implements Comparable<Timer> {
        @Override
        public int compareTo(Timer other) {
            int byDue = Long.compare(due, other.due);
            return byDue != 0 ? byDue : order.compareTo(other.order);
        }
    }

    private final TreeSet<Timer> timers = new TreeSet<>(Comparator.naturalOrder());
    private ProcessorContext<String, Timeout> context;
    private KeyValueStore<Bytes, Order> orders;

    @Override
    public void init(ProcessorContext<String, Timeout> context) {
        this.context = context;
        orders = context.getStateStore(STORE);
        timers.clear();
        try (KeyValueIterator<Bytes, Order> all = orders.all()) {
            all.forEachRemaining(entry -> timers.add(new Timer(entry.value.timer, entry.key)));
        }
    }

    @Override
    public void process(Record<Bytes, Fact> record) {
        while (!timers.isEmpty() && timers.first().due < record.timestamp()) {
            fire(timers.pollFirst());
        }
        Bytes key = record.key();
        Fact fact = record.value();
        Order order = orders.get(key);
        if (order == null) {
            order = new Order();
        }
        switch (fact.kind()) {
            case PAID -> {
                if (order.deadline == Order.NEVER) {
                    order.shopId = fact.shopId();
                    order.deadline = fact.at() + LIMIT_MS;
                }
            }
            case UPLOADED -> order.uploadedAt = Math.min(order.uploadedAt, fact.at());
            case SCANNED -> order.scannedAt = Math.min(order.scannedAt, fact.at());
        }
        if (complete(order)) {
            setTimer(key, order, Order.NEVER);
            orders.delete(key);
            return;
        }
        if (order.deadline == Order.NEVER) {
            setTimer(key, order, record.timestamp() + RETENTION_MS);
        } else if (!order.timedOut) {
            setTimer(key, order, order.deadline);
        }
        orders.put(key, order);
    }

    private void fire(Timer timer) {
        Order order = orders.get(timer.order);
        if (order.timedOut || order.deadline == Order.NEVER || order.scannedAt < order.deadline) {
            orders.delete(timer.order);
            return;
        }
        String orderId = new String(timer.order.get(), StandardCharsets.UTF_8);
        Timeout timeout = new Timeout(orderId, order.shopId, order.deadline);
        context.forward(new Record<>(order.shopId, timeout, timer.due));
        order.timedOut = true;
        setTimer(timer.order, order, timer.due + RETENTION_MS);
        orders.put(timer.order, order);
    }

    /** Whether nothing more can come of the order: all facts are known, the scan in time. */
    private static boolean complete(Order order) {
        return order.deadline != Order.NEVER
                && order.uploadedAt != Order.NEVER
                && order.scannedAt < order.deadline
                && !order.timedOut;
    }

    private void setTimer(Bytes key, Order order, long due) {
        if (order.timer == due) {
            return;
        }
        if (order.timer != Order.NEVER) {
            timers.remove(new Timer(order.timer, key));
        }
        if (due != Order.NEVER) {
            timers.add(new Timer(due, key));
        }
        order.timer = due;
    }
}
