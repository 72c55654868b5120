package shipclock.peers;

import java.io.IOException;
import org.apache.flink.api.common.typeutils.SimpleTypeSerializerSnapshot;
import org.apache.flink.api.common.typeutils.TypeSerializerSnapshot;
import org.apache.flink.core.memory.DataInputView;
import org.apache.flink.core.memory.DataOutputView;

/** One input event, reduced to what the judgement needs. */
public final class Fact {
    static final byte PAID = 0;
    static final byte UPLOADED = 1;
    static final byte SCANNED = 2;

    public byte kind;
    public String orderId;
    /** Only of PAID. */
    public String shopId = "";
    /** placed_at, uploaded_at or scanned_at, epoch ms. */
    public long at;

    /** 30 bytes a fact, instead of the fields' names and null masks of a POJO. */
    static final class Serializer extends CompactSerializer<Fact> {
        static final Serializer INSTANCE = new Serializer();

        @Override
        public Fact createInstance() {
            return new Fact();
        }

        @Override
        public void copyInto(Fact from, Fact to) {
            to.kind = from.kind;
            to.orderId = from.orderId;
            to.shopId = from.shopId;
            to.at = from.at;
        }

        @Override
        public void serialize(Fact fact, DataOutputView target) throws IOException {
            target.writeByte(fact.kind);
            target.writeLong(fact.at);
            writeText(fact.orderId, target);
            if (fact.kind == PAID) {
                writeText(fact.shopId, target);
            }
        }

        @Override
        public Fact deserialize(Fact reuse, DataInputView source) throws IOException {
            reuse.kind = source.readByte();
            reuse.at = source.readLong();
            reuse.orderId = readText(source);
            reuse.shopId = reuse.kind == PAID ? readText(source) : "";
            return reuse;
        }

        @Override
        public TypeSerializerSnapshot<Fact> snapshotConfiguration() {
            return new Snapshot();
        }

        public static final class Snapshot extends SimpleTypeSerializerSnapshot<Fact> {
            public Snapshot() {
                super(() -> INSTANCE);
            }
        }
    }
}
