package shipclock.peers;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonGenerator;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import org.apache.flink.api.common.serialization.SerializationSchema;

/** A missed deadline: epoch ms. */
public record Timeout(String orderId, String shopId, long deadline) {
    private static final JsonFactory JSON = new JsonFactory();

    static final class KeyEncoder implements SerializationSchema<Timeout> {
        @Override
        public byte[] serialize(Timeout timeout) {
            return timeout.shopId.getBytes(StandardCharsets.UTF_8);
        }
    }

    static final class ValueEncoder implements SerializationSchema<Timeout> {
        @Override
        public byte[] serialize(Timeout timeout) {
            ByteArrayOutputStream value = new ByteArrayOutputStream(96);
            try (JsonGenerator generator = JSON.createGenerator(value)) {
                generator.writeStartObject();
                generator.writeStringField("order_id", timeout.orderId);
                generator.writeStringField("shop_id", timeout.shopId);
                generator.writeNumberField("deadline", timeout.deadline);
                generator.writeEndObject();
            } catch (IOException error) {
                throw new UncheckedIOException(error);
            }
            return value.toByteArray();
        }
    }
}
