package shipclock.peers;

import org.apache.flink.api.common.functions.OpenContext;
import org.apache.flink.api.common.state.ValueState;
import org.apache.flink.api.common.state.ValueStateDescriptor;
import org.apache.flink.streaming.api.TimerService;
import org.apache.flink.streaming.api.functions.KeyedProcessFunction;
import org.apache.flink.util.Collector;

/**
 * Emits a timeout when the watermark passes an order's deadline and no scan before it is known.
 *
 * <p>The three topics are not ordered among each other, so facts are taken in any order. An order
 * has one timer at a time: before order-paid one that forgets what stays an orphan, then the
 * deadline, then the end of the hour after a timeout. With two kinds the shipping deadline, 48 hours
 * after placing, comes before: an upload stops it.
 */
final class Deadlines extends KeyedProcessFunction<String, Fact, Timeout> {
    private static final long HOUR_MS = 3_600_000;
    private static final long LIMIT_MS = 72 * HOUR_MS;
    private static final long SHIP_LIMIT_MS = 48 * HOUR_MS;
    private static final long RETENTION_MS = HOUR_MS;

    private final boolean twoKinds;
    private transient ValueState<Order> orders;

    Deadlines(int kinds) {
        twoKinds = kinds == 2;
    }

    @Override
    public void open(OpenContext context) {
        orders =
                getRuntimeContext()
                        .getState(new ValueStateDescriptor<>("order", Order.Serializer.INSTANCE));
    }

    @Override
    public void processElement(Fact fact, Context context, Collector<Timeout> out)
            throws Exception {
        Order order = orders.value();
        if (order == null) {
            order = new Order();
        }
        switch (fact.kind) {
            case Fact.PAID -> {
                if (order.deadline == Order.NEVER) {
                    order.shopId = fact.shopId;
                    order.deadline = fact.at + LIMIT_MS;
                }
            }
            case Fact.UPLOADED -> order.uploadedAt = Math.min(order.uploadedAt, fact.at);
            default -> order.scannedAt = Math.min(order.scannedAt, fact.at);
        }
        TimerService timers = context.timerService();
        if (complete(order)) {
            setTimer(order, Order.NEVER, timers);
            orders.clear();
            return;
        }
        if (order.deadline == Order.NEVER) {
            setTimer(order, context.timestamp() + RETENTION_MS, timers);
        } else if (!order.timedOut) {
            setTimer(order, nextDeadline(order), timers);
        }
        orders.update(order);
    }

    private long nextDeadline(Order order) {
        boolean shipOpen = twoKinds && !order.shipJudged && order.uploadedAt >= shipDeadline(order);
        return shipOpen ? shipDeadline(order) : order.deadline;
    }

    private static long shipDeadline(Order order) {
        return order.deadline - LIMIT_MS + SHIP_LIMIT_MS;
    }

    @Override
    public void onTimer(long timestamp, OnTimerContext context, Collector<Timeout> out)
            throws Exception {
        Order order = orders.value();
        if (order == null || order.timer != timestamp) {
            return;
        }
        if (twoKinds && order.deadline != Order.NEVER && timestamp == shipDeadline(order)) {
            order.shipJudged = true;
            if (order.uploadedAt >= timestamp) {
                out.collect(new Timeout(context.getCurrentKey(), order.shopId, timestamp));
            }
            order.timer = order.deadline;
            context.timerService().registerEventTimeTimer(order.timer);
            orders.update(order);
            return;
        }
        if (order.timedOut || order.deadline == Order.NEVER || order.scannedAt < order.deadline) {
            orders.clear();
            return;
        }
        out.collect(new Timeout(context.getCurrentKey(), order.shopId, order.deadline));
        order.timedOut = true;
        order.timer = timestamp + RETENTION_MS;
        context.timerService().registerEventTimeTimer(order.timer);
        orders.update(order);
    }

    /** Whether nothing more can come of the order: all facts are known, the scan in time. */
    private boolean complete(Order order) {
        return order.deadline != Order.NEVER
                && order.uploadedAt != Order.NEVER
                && (!twoKinds || order.shipJudged || order.uploadedAt < shipDeadline(order))
                && order.scannedAt < order.deadline
                && !order.timedOut;
    }

    private static void setTimer(Order order, long timestamp, TimerService timers) {
        if (order.timer == timestamp) {
            return;
        }
        if (order.timer != Order.NEVER) {
            timers.deleteEventTimeTimer(order.timer);
        }
        if (timestamp != Order.NEVER) {
            timers.registerEventTimeTimer(timestamp);
        }
        order.timer = timestamp;
    }
}
