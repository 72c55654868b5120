package shipclock.peers;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import java.io.IOException;
import org.apache.flink.api.common.serialization.DeserializationSchema;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.connector.kafka.source.reader.deserializer.KafkaRecordDeserializationSchema;
import org.apache.flink.util.Collector;
import org.apache.kafka.clients.consumer.ConsumerRecord;

/**
 * Reads the JSON of all three topics as a stream of tokens, without a tree or data binding.
 *
 * <p>One fact object is used for all: the source's output is serialized to the key's subtask before
 * the next record is decoded.
 */
final class FactDecoder implements KafkaRecordDeserializationSchema<Fact> {
    static final String PAID = "order-paid";
    static final String UPLOADED = "tracking-number-uploaded";
    static final String SCANNED = "first-scan";

    private transient JsonFactory json;
    private transient Fact fact;

    @Override
    public void open(DeserializationSchema.InitializationContext context) {
        json = new JsonFactory();
        fact = new Fact();
    }

    @Override
    public void deserialize(ConsumerRecord<byte[], byte[]> record, Collector<Fact> out)
            throws IOException {
        switch (record.topic()) {
            case PAID -> decode(record.value(), Fact.PAID, "placed_at");
            case UPLOADED -> decode(record.value(), Fact.UPLOADED, "uploaded_at");
            case SCANNED -> decode(record.value(), Fact.SCANNED, "scanned_at");
            default -> throw new IOException("unexpected topic " + record.topic());
        }
        out.collect(fact);
    }

    private void decode(byte[] value, byte kind, String time) throws IOException {
        fact.kind = kind;
        fact.orderId = null;
        fact.shopId = kind == Fact.PAID ? null : "";
        fact.at = Long.MIN_VALUE;
        try (JsonParser parser = json.createParser(value)) {
            if (parser.nextToken() != JsonToken.START_OBJECT) {
                throw new IOException("not an object");
            }
            for (String name; (name = parser.nextFieldName()) != null; ) {
                parser.nextToken();
                if (name.equals("order_id")) {
                    fact.orderId = parser.getText();
                } else if (name.equals(time)) {
                    fact.at = parser.getLongValue();
                } else if (kind == Fact.PAID && name.equals("shop_id")) {
                    fact.shopId = parser.getText();
                } else {
                    parser.skipChildren();
                }
            }
        }
        if (fact.orderId == null || fact.shopId == null || fact.at == Long.MIN_VALUE) {
            throw new IOException("a field is missing");
        }
    }

    @Override
    public TypeInformation<Fact> getProducedType() {
        return new CompactType<>(Fact.class, Fact.Serializer.INSTANCE);
    }
}
