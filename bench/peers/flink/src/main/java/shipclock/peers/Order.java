package shipclock.peers;

import java.io.IOException;
import org.apache.flink.api.common.typeutils.SimpleTypeSerializerSnapshot;
import org.apache.flink.api.common.typeutils.TypeSerializerSnapshot;
import org.apache.flink.core.memory.DataInputView;
import org.apache.flink.core.memory.DataOutputView;

/** What is known of an open order. Times are epoch ms, NEVER if unknown. */
public final class Order {
    static final long NEVER = Long.MAX_VALUE;

    public String shopId = "";
    /** NEVER before order-paid came. */
    public long deadline = NEVER;
    public long uploadedAt = NEVER;
    public long scannedAt = NEVER;
    public boolean timedOut;
    /** The shipping deadline has passed, whatever it brought; unused by the job of one kind. */
    public boolean shipJudged;
    /** The instant of the only timer that counts; any other that fires is stale. */
    public long timer = NEVER;

    static final class Serializer extends CompactSerializer<Order> {
        static final Serializer INSTANCE = new Serializer();

        @Override
        public Order createInstance() {
            return new Order();
        }

        @Override
        public void copyInto(Order from, Order to) {
            to.shopId = from.shopId;
            to.deadline = from.deadline;
            to.uploadedAt = from.uploadedAt;
            to.scannedAt = from.scannedAt;
            to.timedOut = from.timedOut;
            to.shipJudged = from.shipJudged;
            to.timer = from.timer;
        }

        @Override
        public void serialize(Order order, DataOutputView target) throws IOException {
            target.writeLong(order.deadline);
            target.writeLong(order.uploadedAt);
            target.writeLong(order.scannedAt);
            target.writeLong(order.timer);
            target.writeBoolean(order.timedOut);
            target.writeBoolean(order.shipJudged);
            writeText(order.shopId, target);
        }

        @Override
        public Order deserialize(Order reuse, DataInputView source) throws IOException {
            reuse.deadline = source.readLong();
            reuse.uploadedAt = source.readLong();
            reuse.scannedAt = source.readLong();
            reuse.timer = source.readLong();
            reuse.timedOut = source.readBoolean();
            reuse.shipJudged = source.readBoolean();
            reuse.shopId = readText(source);
            return reuse;
        }

        @Override
        public TypeSerializerSnapshot<Order> snapshotConfiguration() {
            return new Snapshot();
        }

        public static final class Snapshot extends SimpleTypeSerializerSnapshot<Order> {
            public Snapshot() {
                super(() -> INSTANCE);
            }
        }
    }
}
