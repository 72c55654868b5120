package shipclock.peers;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import java.io.IOException;
import org.apache.kafka.common.errors.SerializationException;
import org.apache.kafka.common.serialization.Deserializer;

/** One input event, reduced to what the judgement needs; `at` is epoch ms. */
record Fact(Kind kind, String orderId, String shopId, long at) {
    enum Kind {
        PAID("order-paid", "placed_at"),
        UPLOADED("tracking-number-uploaded", "uploaded_at"),
        SCANNED("first-scan", "scanned_at");

        final String topic;
        final String time;

        Kind(String topic, String time) {
            this.topic = topic;
            this.time = time;
        }
    }

    /** Reads the JSON of a topic as a stream of tokens, without a tree or data binding. */
    static final class Decoder implements Deserializer<Fact> {
        private static final JsonFactory JSON = new JsonFactory();

        private final Kind kind;

        Decoder(Kind kind) {
            this.kind = kind;
        }

        @Override
        public Fact deserialize(String topic, byte[] value) {
            String orderId = null;
            String shopId = kind == Kind.PAID ? null : "";
            long at = Long.MIN_VALUE;
            try (JsonParser parser = JSON.createParser(value)) {
                if (parser.nextToken() != JsonToken.START_OBJECT) {
                    throw new SerializationException("not an object");
                }
                for (String name; (name = parser.nextFieldName()) != null; ) {
                    parser.nextToken();
                    if (name.equals("order_id")) {
                        orderId = parser.getText();
                    } else if (name.equals(kind.time)) {
                        at = parser.getLongValue();
                    } else if (kind == Kind.PAID && name.equals("shop_id")) {
                        shopId = parser.getText();
                    } else {
                        parser.skipChildren();
                    }
                }
            } catch (IOException error) {
                throw new SerializationException(error);
            }
            if (orderId == null || shopId == null || at == Long.MIN_VALUE) {
                throw new SerializationException("a field is missing");
            }
            return new Fact(kind, orderId, shopId, at);
        }
    }
}
