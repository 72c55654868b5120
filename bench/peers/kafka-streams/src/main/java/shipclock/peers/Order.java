package shipclock.peers;

import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;

/** What is known of an open order. Times are epoch ms, NEVER if unknown. */
final class Order {
    static final long NEVER = Long.MAX_VALUE;

    String shopId = "";
    /** NEVER before order-paid came. */
    long deadline = NEVER;
    long uploadedAt = NEVER;
    long scannedAt = NEVER;
    boolean timedOut;
    /** The instant of the order's timer. */
    long timer = NEVER;

    static Serde<Order> serde() {
        return Serdes.serdeFrom((topic, order) -> order.encode(), (topic, bytes) -> decode(bytes));
    }

    private byte[] encode() {
        byte[] shop = shopId.getBytes(StandardCharsets.UTF_8);
        byte[] bytes = new byte[4 * Long.BYTES + 1 + shop.length];
        ByteBuffer.wrap(bytes)
                .putLong(deadline)
                .putLong(uploadedAt)
                .putLong(scannedAt)
                .putLong(timer)
                .put((byte) (timedOut ? 1 : 0))
                .put(shop);
        return bytes;
    }

    private static Order decode(byte[] bytes) {
        ByteBuffer buffer = ByteBuffer.wrap(bytes);
        Order order = new Order();
        order.deadline = buffer.getLong();
        order.uploadedAt = buffer.getLong();
        order.scannedAt = buffer.getLong();
        order.timer = buffer.getLong();
        order.timedOut = buffer.get() != 0;
        order.shopId =
                new String(bytes, buffer.position(), buffer.remaining(), StandardCharsets.UTF_8);
        return order;
    }
}
