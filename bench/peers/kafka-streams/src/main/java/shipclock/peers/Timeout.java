package shipclock.peers;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonGenerator;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import org.apache.kafka.common.errors.SerializationException;

/** A missed deadline: epoch ms. */
record Timeout(String orderId, String shopId, long deadline) {
    private static final JsonFactory JSON = new JsonFactory();

    static byte[] encode(String topic, Timeout timeout) {
        ByteArrayOutputStream value = new ByteArrayOutputStream(96);
        try (JsonGenerator generator = JSON.createGenerator(value)) {
            generator.writeStartObject();
            generator.writeStringField("order_id", timeout.orderId);
            generator.writeStringField("shop_id", timeout.shopId);
            generator.writeNumberField("deadline", timeout.deadline);
            generator.writeEndObject();
        } catch (IOException error) {
            throw new SerializationException(error);
        }
        return value.toByteArray();
    }
}
