# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The usual events, taken from their bytes: no object stands for one; and what waits, looked up.

`pay`, `upload` and `scan` do what those of `streams.engine.usual` do. They read only values in
which all is plain (known fields once, whole numbers, text without escapes), and say how many they
could not read: these are for the others to take. What is usual, and every number of a rule, comes
from there. Built where a C compiler is at hand, see `hatch_build.py`.
"""

from cpython.bytes cimport (
    PyBytes_AS_STRING,
    PyBytes_CheckExact,
    PyBytes_FromStringAndSize,
    PyBytes_GET_SIZE,
)
from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_GET_SIZE, PyByteArray_Resize
from cpython.dict cimport PyDict_Contains, PyDict_DelItem, PyDict_GetItem, PyDict_SetItem
from cpython.object cimport PyObject
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memcmp, memcpy

cdef extern from *:
    const char* SOURCE_SHA256

    void _prefetch "__builtin_prefetch" (const void*) noexcept nogil

cdef extern from "Python.h":
    PyObject* PyDict_SetDefault(object, object, object) except NULL

from hashlib import sha256
from pathlib import Path

from streams.codec import state as layout
from streams.core.facts.events import TIME_MS_MAX
from streams.core.facts.inputs import FIRST_SCAN, INPUTS, ORDER_PAID, TRACKING_NUMBER_UPLOADED
from streams.core.facts.instants import END_OF_TIME_MS, NEVER_MS
from streams.core.rules import plan as plans
from streams.core.rules.stops import SECOND_MS
from streams.core.time import key_buckets as minutes
from streams.engine.usual import Taken

if layout.STATE_VERSION != 3:
    raise ImportError("streams.engine.native writes states of version 3")
_source = Path(__file__).with_name("native.pyx")
if _source.exists() and sha256(_source.read_bytes()).hexdigest() != SOURCE_SHA256.decode():
    raise ImportError("streams.engine.native was compiled from another native.pyx")

# Beyond these a value counts as not read, or its record is left.
cdef enum:
    _VALUE_MAX = 4096
    _PRODUCTS_MAX = 32
    _IDENTIFIER_MAX = 128

# States looked up together: while one is on its way from memory, the next is asked for. A quarter
# of what a parcel costs.
cdef enum:
    _BLOCK = 16

cdef int64_t _TIMESTAMP_MAX = 1 << 60
cdef int64_t _AMOUNT_MAX = 2**53 - 1
cdef int64_t _TIME_MAX = TIME_MS_MAX
cdef int64_t _NEVER = NEVER_MS
cdef int64_t _END_OF_TIME = END_OF_TIME_MS
cdef int64_t _SECOND = SECOND_MS
cdef uint8_t _VERSION = layout.STATE_VERSION
cdef uint8_t _UPLOAD = INPUTS[TRACKING_NUMBER_UPLOADED].id
cdef uint8_t _SCAN = INPUTS[FIRST_SCAN].id
cdef uint8_t _REST = layout.REST
cdef uint8_t _RETIRING = layout.RETIRING
cdef uint8_t _EXEMPT = layout.EXEMPT
cdef uint8_t _UPLOADED = layout.UPLOADED
cdef uint8_t _SCANNED = layout.SCANNED
# Of a state that only facts were put into, and that has a timer.
cdef uint8_t _NOT_USUAL = layout.RETIRING | layout.SHOP_NOTIFIED | layout.PHASE
cdef int64_t _MINUTE = minutes.MINUTE_MS
cdef char _END = ord(minutes.END)
cdef Py_ssize_t _PLACED_AT = layout.PLACED_AT
cdef Py_ssize_t _PAID_AT = layout.PAID_AT
cdef Py_ssize_t _PLAN_AT = layout.PLAN_AT
cdef Py_ssize_t _PARTS_AT = layout.PARTS_AT
cdef Py_ssize_t _TAIL_SIZE = layout.TAIL.size
cdef int _INSTANT_BYTES = layout.INSTANT_BYTES
cdef int _PLAN_BYTES = layout.PARTS_AT - layout.PLAN_AT

# The plan of a state, see `streams.core.rules.plan`. One with more clocks or warnings than these is
# left to the plain way.
cdef enum:
    _ROWS_MAX = 8
    _LEADS_MAX = 8
    _PIECES_MAX = 4

cdef int _KEEP = plans.KEEP
cdef int _RETIRE = plans.RETIRE
cdef int _ASK = plans.ASK
cdef int _LONG = plans.LONG
cdef int64_t _NOW = plans.NOW
cdef int _STOPPED_BY_UPLOAD = plans.STOPPED_BY_UPLOAD
cdef int _STOPPED_BY_SCAN = plans.STOPPED_BY_SCAN

# What a byte of a string is: text, its end, what is never plain, or what no identifier has.
cdef enum:
    _TEXT
    _QUOTE
    _ODD
    _NOT_IN_IDENTIFIER
    _HIGH

cdef uint8_t _KIND[256]
for _byte in range(256):
    _KIND[_byte] = (
        _QUOTE if _byte == 0x22
        else _ODD if _byte < 0x20 or _byte == 0x5C
        else _NOT_IN_IDENTIFIER if _byte == 0x3A or _byte == 0x7F
        else _HIGH if _byte >= 0x80
        else _TEXT
    )


cdef struct Text:
    const uint8_t* at
    Py_ssize_t size


cdef struct Cursor:
    const uint8_t* at
    const uint8_t* end
    bint high  # a byte that is not ASCII was seen


# Reading. All return false for what is not plain.

cdef inline void _skip_space(Cursor* c) noexcept nogil:
    while c.at < c.end and (c.at[0] == 0x20 or 0x09 <= c.at[0] <= 0x0A or c.at[0] == 0x0D):
        c.at += 1


cdef inline bint _read_byte(Cursor* c, uint8_t wanted) noexcept nogil:
    _skip_space(c)
    if c.at < c.end and c.at[0] == wanted:
        c.at += 1
        return True
    return False


cdef inline bint _read_text(Cursor* c, Text* text, bint identifier) noexcept nogil:
    cdef uint8_t kind
    if not _read_byte(c, 0x22):
        return False
    text.at = c.at
    while c.at < c.end:
        kind = _KIND[c.at[0]]
        if kind != _TEXT:
            if kind == _QUOTE:
                text.size = c.at - text.at
                c.at += 1
                return not identifier or 1 <= text.size <= _IDENTIFIER_MAX
            if kind == _ODD or (kind == _NOT_IN_IDENTIFIER and identifier):
                return False
            if kind == _HIGH:
                c.high = True
                # U+0080 to U+009F are control characters.
                if c.at[0] == 0xC2 and c.at + 1 < c.end and c.at[1] < 0xA0:
                    return False
        c.at += 1
    return False


cdef inline bint _read_number(Cursor* c, int64_t* number) noexcept nogil:
    cdef const uint8_t* begin
    _skip_space(c)
    begin = c.at
    number[0] = 0
    while c.at < c.end and 0x30 <= c.at[0] <= 0x39:
        if c.at - begin == 18:
            return False
        number[0] = number[0] * 10 + (c.at[0] - 0x30)
        c.at += 1
    return c.at > begin and (begin[0] != 0x30 or c.at - begin == 1)


cdef inline bint _is(Text* text, const char* name, Py_ssize_t size) noexcept nogil:
    return text.size == size and memcmp(text.at, name, size) == 0


cdef bint _skip_word(Cursor* c, const char* word, Py_ssize_t size) noexcept nogil:
    if c.end - c.at < size or memcmp(c.at, word, size) != 0:
        return False
    c.at += size
    return True


cdef bint _skip_value(Cursor* c) noexcept nogil:
    """Pass over the value of a field that is not known, if it is a plain one."""
    cdef Text text
    cdef int64_t number
    _skip_space(c)
    if c.at == c.end:
        return False
    if c.at[0] == 0x22:
        return _read_text(c, &text, False)
    if c.at[0] == 0x74:
        return _skip_word(c, b"true", 4)
    if c.at[0] == 0x66:
        return _skip_word(c, b"false", 5)
    if c.at[0] == 0x6E:
        return _skip_word(c, b"null", 4)
    return _read_number(c, &number)


cdef enum:
    FIELD = 1
    END = 0
    UNUSUAL = -1


cdef inline int _next_field(Cursor* c, Text* name, bint first) noexcept nogil:
    """Read up to the value of the next field, or to the object's end and nothing behind it."""
    if first:
        if not _read_byte(c, 0x7B):
            return UNUSUAL
    elif _read_byte(c, 0x7D):
        _skip_space(c)
        return END if c.at == c.end else UNUSUAL
    elif not _read_byte(c, 0x2C):
        return UNUSUAL
    if not _read_text(c, name, False) or not _read_byte(c, 0x3A):
        return UNUSUAL
    return FIELD


cdef inline bint _open(Cursor* c, object value) noexcept:
    if not PyBytes_CheckExact(value) or PyBytes_GET_SIZE(value) > _VALUE_MAX:
        return False
    c.at = <const uint8_t*> PyBytes_AS_STRING(value)
    c.end = c.at + PyBytes_GET_SIZE(value)
    c.high = False
    return True


cdef bint _is_utf8(object value):
    try:
        PyUnicode_DecodeUTF8(PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value), NULL)
    except UnicodeDecodeError:
        return False
    return True


cdef inline bint _is_key(Text* text, object key) noexcept:
    return (
        PyBytes_CheckExact(key)
        and text.size == PyBytes_GET_SIZE(key)
        and memcmp(text.at, PyBytes_AS_STRING(key), text.size) == 0
    )


cdef inline int64_t _big_endian(const uint8_t* at, Py_ssize_t size) noexcept nogil:
    cdef uint64_t number = 0
    cdef Py_ssize_t place
    for place in range(size):
        number = number << 8 | at[place]
    return <int64_t> number


cdef inline int64_t _due(const uint8_t* state) noexcept nogil:
    return _big_endian(state + 1, 8)


# Writing MessagePack, the shortest form of each value.

cdef inline uint8_t* _put_bytes(uint8_t* out, uint64_t number, int size) noexcept nogil:
    cdef int place
    for place in range(size):
        out[place] = number >> 8 * (size - 1 - place) & 0xFF
    return out + size


cdef inline uint8_t* _put_number(uint8_t* out, int64_t number) noexcept nogil:
    if number >> 7 == 0:
        return _put_bytes(out, number, 1)
    if number >> 8 == 0:
        out[0] = 0xCC
        return _put_bytes(out + 1, number, 1)
    if number >> 16 == 0:
        out[0] = 0xCD
        return _put_bytes(out + 1, number, 2)
    if number >> 32 == 0:
        out[0] = 0xCE
        return _put_bytes(out + 1, number, 4)
    out[0] = 0xCF
    return _put_bytes(out + 1, number, 8)


cdef inline uint8_t* _put_text(uint8_t* out, Text* text) noexcept nogil:
    """Of at most 128 bytes; nil for none."""
    if text.at == NULL:
        out[0] = 0xC0
        return out + 1
    if text.size < 32:
        out[0] = 0xA0 | text.size
        out += 1
    else:
        out[0] = 0xD9
        out[1] = text.size
        out += 2
    memcpy(out, text.at, text.size)
    return out + text.size


# When anything is due.

cdef struct Piece:
    int64_t begin
    int64_t end
    int64_t value
    bint moves


cdef struct Row:
    int start
    int stops
    bint on_time_at_limit
    int leads_count
    int64_t leads[_LEADS_MAX]
    Piece pieces[_PIECES_MAX]
    int next_piece


cdef class Clocks:
    """A plan's rows, and what is remembered of each around the starts of late."""

    cdef Row rows[_ROWS_MAX]
    cdef int count
    cdef int64_t closure
    cdef int64_t clean
    cdef int on_upload
    cdef int on_scan
    cdef bint asks
    cdef bint fits
    cdef object plan

    def __init__(self, object plan):
        cdef int place, lead
        self.plan = plan
        self.fits = len(plan.rows) <= _ROWS_MAX and all(
            len(row.leads) <= _LEADS_MAX for row in plan.rows
        )
        self.closure, self.clean = plan.closure, plan.clean
        self.on_upload, self.on_scan, self.asks = plan.on_upload, plan.on_scan, plan.asks
        self.count = len(plan.rows) if self.fits else 0
        for place in range(self.count):
            row = plan.rows[place]
            self.rows[place].start, self.rows[place].stops = row.start, row.stops
            self.rows[place].on_time_at_limit = row.on_time_at_limit
            self.rows[place].leads_count = len(row.leads)
            for lead in range(self.rows[place].leads_count):
                self.rows[place].leads[lead] = row.leads[lead]
            for lead in range(_PIECES_MAX):
                self.rows[place].pieces[lead].begin = self.rows[place].pieces[lead].end = 0
            self.rows[place].next_piece = 0

    cdef int64_t _deadline(self, int place, int64_t start) except? -2:
        cdef Row* row = &self.rows[place]
        cdef int each
        cdef Piece* piece
        for each in range(_PIECES_MAX):
            piece = &row.pieces[each]
            if piece.begin <= start < piece.end:
                return start + piece.value if piece.moves else piece.value
        piece = &row.pieces[row.next_piece]
        row.next_piece = (row.next_piece + 1) % _PIECES_MAX
        piece.begin, piece.end, piece.moves, piece.value = self.plan.rows[place].piece(start)
        return start + piece.value if piece.moves else piece.value

    cdef int64_t next_due(
        self, int64_t placed, int64_t paid, int64_t uploaded, int64_t scanned, int64_t limit
    ) except? -2:
        """As `Plan.next_due`."""
        cdef int64_t best = placed + self.closure, start, stop, deadline, late, at
        cdef int place, lead
        cdef Row* row
        if best > uploaded or best > scanned:
            best = _END_OF_TIME
        for place in range(self.count):
            row = &self.rows[place]
            start = placed if row.start == 0 else paid if row.start == 1 else uploaded
            if start == _END_OF_TIME:
                continue
            stop = uploaded if row.stops & _STOPPED_BY_UPLOAD else _END_OF_TIME
            if row.stops & _STOPPED_BY_SCAN and scanned < stop:
                stop = scanned
            deadline = late = self._deadline(place, start)
            if row.on_time_at_limit:
                late += 1 if deadline % _SECOND else _SECOND
            if late <= stop and late < best:
                best = late
            for lead in range(row.leads_count):
                at = deadline - row.leads[lead]
                if start < at <= stop and limit < at < best:
                    best = at
        return best if best > limit else _NOW


cdef Clocks _clocks_of(list compiled, list known, Py_ssize_t number):
    """Return the clocks of a plan; `None` where the long way or the plain one is taken."""
    if number >= len(compiled) or known[number] is None:
        return None
    found = compiled[number]
    if found is None:
        found = compiled[number] = Clocks(known[number])
    return <Clocks> found


# The events.

cdef struct Parcel:
    Text order_id
    Text tracking_number
    Text carrier
    int64_t at


cdef bint _read_parcel(object value, const char* at_name, Py_ssize_t at_size, Parcel* parcel):
    """Read an upload that replaces none, or a scan."""
    cdef Cursor c
    cdef Text name
    cdef int found = 0, field, bit
    cdef bint first = True
    if not _open(&c, value):
        return False
    while True:
        field = _next_field(&c, &name, first)
        if field != FIELD:
            break
        first = False
        if _is(&name, b"order_id", 8):
            bit = 1
            if not _read_text(&c, &parcel.order_id, True):
                return False
        elif _is(&name, b"tracking_number", 15):
            bit = 2
            if not _read_text(&c, &parcel.tracking_number, True):
                return False
        elif _is(&name, b"carrier", 7):
            bit = 4
            if not _read_text(&c, &parcel.carrier, True):
                return False
        elif _is(&name, at_name, at_size):
            bit = 8
            if not _read_number(&c, &parcel.at):
                return False
        elif _is(&name, b"replaces", 8) or not _skip_value(&c):
            return False
        else:
            continue
        if found & bit:
            return False
        found |= bit
    return field == END and found == 15 and (not c.high or _is_utf8(value))


cdef struct Paid:
    Text order_id
    Text shop_id
    Text products[_PRODUCTS_MAX]
    int products_count
    Text shipping_mode
    int64_t placed
    int64_t paid
    int64_t amount
    int64_t goods_amount
    bint has_goods_amount
    Text currency
    Text region
    Text ship_from_region
    Text platform
    Text shop_level
    Text category


cdef bint _read_products(Cursor* c, Paid* paid) noexcept nogil:
    cdef int place
    cdef Text* product
    paid.products_count = 0
    if not _read_byte(c, 0x5B):
        return False
    while paid.products_count < _PRODUCTS_MAX:
        product = &paid.products[paid.products_count]
        if not _read_text(c, product, True):
            return False
        for place in range(paid.products_count):
            if _is(product, <const char*> paid.products[place].at, paid.products[place].size):
                return False
        paid.products_count += 1
        if _read_byte(c, 0x5D):
            return True
        if not _read_byte(c, 0x2C):
            return False
    return False


cdef bint _read_currency(Cursor* c, Text* text) noexcept nogil:
    cdef int place
    if not _read_text(c, text, False) or text.size != 3:
        return False
    for place in range(3):
        if not 0x41 <= text.at[place] <= 0x5A:
            return False
    return True


cdef bint _read_paid(object value, Paid* paid):
    """Read a payment without a promised or agreed date, and without a warehouse."""
    cdef Cursor c
    cdef Text name
    cdef int found = 0, field, bit
    cdef bint first = True, plain
    if not _open(&c, value):
        return False
    paid.currency.at = <const uint8_t*> b"CNY"
    paid.currency.size = 3
    paid.region.at = paid.ship_from_region.at = NULL
    paid.platform.at = paid.shop_level.at = paid.category.at = NULL
    paid.has_goods_amount = False
    while True:
        field = _next_field(&c, &name, first)
        if field != FIELD:
            break
        first = False
        if _is(&name, b"order_id", 8):
            bit, plain = 1, _read_text(&c, &paid.order_id, True)
        elif _is(&name, b"shop_id", 7):
            bit, plain = 2, _read_text(&c, &paid.shop_id, True)
        elif _is(&name, b"product_ids", 11):
            bit, plain = 4, _read_products(&c, paid)
        elif _is(&name, b"shipping_mode", 13):
            bit, plain = 8, _read_text(&c, &paid.shipping_mode, True)
        elif _is(&name, b"placed_at", 9):
            bit, plain = 16, _read_number(&c, &paid.placed)
        elif _is(&name, b"paid_at", 7):
            bit, plain = 32, _read_number(&c, &paid.paid)
        elif _is(&name, b"paid_amount", 11):
            bit, plain = 64, _read_number(&c, &paid.amount)
        elif _is(&name, b"currency", 8):
            bit, plain = 128, _read_currency(&c, &paid.currency)
        elif _is(&name, b"region", 6):
            bit, plain = 256, _read_text(&c, &paid.region, True)
        elif _is(&name, b"ship_from_region", 16):
            bit, plain = 512, _read_text(&c, &paid.ship_from_region, True)
        elif _is(&name, b"platform", 8):
            bit, plain = 1024, _read_text(&c, &paid.platform, True)
        elif _is(&name, b"shop_level", 10):
            bit, plain = 2048, _read_text(&c, &paid.shop_level, True)
        elif _is(&name, b"category", 8):
            bit, plain = 4096, _read_text(&c, &paid.category, True)
        elif _is(&name, b"goods_amount", 12):
            bit, plain = 8192, _read_number(&c, &paid.goods_amount)
            paid.has_goods_amount = True
        else:
            bit = 0
            plain = (
                not _is(&name, b"promised_ship_by", 16)
                and not _is(&name, b"agreed_ship_by", 14)
                and not _is(&name, b"warehouse", 9)
                and _skip_value(&c)
            )
        if not plain or found & bit:
            return False
        found |= bit
    return field == END and found & 127 == 127 and (not c.high or _is_utf8(value))


cdef inline bytes _state(
    const uint8_t* head, const uint8_t* parts, Py_ssize_t parts_size, const uint8_t* part,
    Py_ssize_t part_size, int64_t changed, uint8_t flags,
):
    """Join a head, the parts there were, a new one, and a tail."""
    cdef bytes state = PyBytes_FromStringAndSize(
        NULL, _PARTS_AT + parts_size + part_size + _TAIL_SIZE
    )
    cdef uint8_t* out = <uint8_t*> PyBytes_AS_STRING(state)
    memcpy(out, head, _PARTS_AT)
    out += _PARTS_AT
    memcpy(out, parts, parts_size)
    out += parts_size
    memcpy(out, part, part_size)
    out = _put_bytes(out + part_size, changed, _TAIL_SIZE - 1)
    out[0] = flags
    return state


cdef inline int _put_head(
    uint8_t* out, int64_t due, int64_t placed, int64_t paid, int64_t plan
) noexcept nogil:
    out = _put_bytes(out, _VERSION, 1)
    out = _put_bytes(out, due, 8)
    out = _put_bytes(out, placed, _INSTANT_BYTES)
    out = _put_bytes(out, paid, _INSTANT_BYTES)
    _put_bytes(out, plan, _PLAN_BYTES)
    return 0


cdef class Runs:
    """Keys by the minute of an instant."""

    cdef dict runs
    cdef int64_t minute
    cdef bytearray run

    def __init__(self):
        self.runs, self.minute, self.run = {}, -1, None

    cdef int add(self, int64_t due, object key) except -1:
        if self.run is None or due // _MINUTE != self.minute:
            self.minute = due // _MINUTE
            self.run = self.runs.setdefault(self.minute, bytearray())
        return _append_key(self.run, key)


cdef inline bint _is_tame(int64_t timestamp, int64_t effective) noexcept nogil:
    return 0 <= timestamp < _TIMESTAMP_MAX and 0 <= effective < _TIMESTAMP_MAX


cdef Py_ssize_t _length(object lane) except -1:
    """Count the records, and see that every column has as many: they are not looked at later."""
    cdef Py_ssize_t length = len(lane.keys)
    for column in (lane.values, lane.effective, lane.timestamps):
        if len(column) != length:
            raise ValueError("a lane's columns differ in length")
    return length


cdef inline bint _passed(dict blocked, dict passed, object key):
    return (len(blocked) > 0 and PyDict_Contains(blocked, key)) or (
        len(passed) > 0 and PyDict_Contains(passed, key)
    )


cdef int _look_up(
    dict packed, list keys, Py_ssize_t begin, Py_ssize_t end, PyObject** states
) except -1:
    """Find the states of some keys, `NULL` where there is none."""
    cdef Py_ssize_t place
    cdef PyObject* found
    for place in range(begin, end):
        found = states[place - begin] = PyDict_GetItem(packed, keys[place])
        if found != NULL:
            _prefetch(found)
            _prefetch(<char*> found + 64)
            _prefetch(<char*> found + 128)
    return 0


cdef int _append_key(bytearray run, object key) except -1:
    """Add a key and its end to a run."""
    cdef Py_ssize_t size = PyByteArray_GET_SIZE(run), more = PyBytes_GET_SIZE(key)
    PyByteArray_Resize(run, size + more + 1)
    memcpy(PyByteArray_AS_STRING(run) + size, PyBytes_AS_STRING(key), more)
    PyByteArray_AS_STRING(run)[size + more] = _END
    return 0


cdef bint _exempt(object exemptions, object key, Paid* paid):
    """Whether some exemption may reach an order."""
    if not exemptions:
        return False
    if PyDict_Contains(exemptions.orders, key):
        return True
    if len(exemptions.shops) > 0 and PyDict_Contains(
        exemptions.shops, PyBytes_FromStringAndSize(<const char*> paid.shop_id.at, paid.shop_id.size)
    ):
        return True
    return _within(exemptions.windows, paid.paid)


cdef bint _within(list windows, int64_t at):
    cdef int64_t first, last
    for first, last in windows:
        if first <= at <= last:
            return True
    return False


cdef tuple _door(list doors, Paid* paid, tuple last):
    """Find the door of a payment; `None` if it has none."""
    cdef tuple door
    if last is not None and _is_door(last, paid):
        return last
    for door in doors:
        if _is_door(door, paid):
            return door
    return None


cdef inline bint _is_door(tuple door, Paid* paid):
    cdef object platform = door[0]
    cdef bytes mode = door[1]
    if not _is(&paid.shipping_mode, PyBytes_AS_STRING(mode), PyBytes_GET_SIZE(mode)):
        return False
    if platform is None:
        return paid.platform.at == NULL
    return paid.platform.at != NULL and _is(
        &paid.platform, PyBytes_AS_STRING(platform), PyBytes_GET_SIZE(platform)
    )


cdef int64_t _way(tuple door, Paid* paid) except -1:
    """Return the number of the plan of a payment; 0 if it takes the long way, or the plain one."""
    cdef int64_t since, number
    cdef bint by_paid
    cdef list odd
    for by_paid, since, number, odd in <list> door[2]:
        if since <= (paid.paid if by_paid else paid.placed):
            return 0 if odd and _within(odd, paid.paid) else number
    return 0


cdef inline uint8_t* _put_bought(uint8_t* out, Paid* paid) noexcept nogil:
    """Write what was bought, up to the last that is known."""
    cdef int count = 5, product
    if paid.region.at != NULL:
        count = 6
    if paid.ship_from_region.at != NULL:
        count = 7
    if paid.platform.at != NULL:
        count = 8
    if paid.shop_level.at != NULL:
        count = 9
    if paid.category.at != NULL:
        count = 10
    if paid.has_goods_amount:
        count = 11
    out = _put_bytes(out, 0x90 | count, 1)
    out = _put_text(out, &paid.shop_id)
    if paid.products_count < 16:
        out = _put_bytes(out, 0x90 | paid.products_count, 1)
    else:
        out = _put_bytes(out, 0xDC, 1)
        out = _put_bytes(out, paid.products_count, 2)
    for product in range(paid.products_count):
        out = _put_text(out, &paid.products[product])
    out = _put_text(out, &paid.shipping_mode)
    out = _put_number(out, paid.amount)
    out = _put_text(out, &paid.currency)
    if count > 5:
        out = _put_text(out, &paid.region)
    if count > 6:
        out = _put_text(out, &paid.ship_from_region)
    if count > 7:
        out = _put_text(out, &paid.platform)
    if count > 8:
        out = _put_text(out, &paid.shop_level)
    if count > 9:
        out = _put_text(out, &paid.category)
    if count > 10:
        out = _put_number(out, paid.goods_amount)
    return out


def pay(object lane, object usual, object store, dict blocked):
    """Take the first that is heard of an order.

    Returns:
        `usual.Taken`, and how many values are for the plain way to read.
    """
    cdef list values = lane.values, keys = lane.keys
    cdef list effective_ms = lane.effective, timestamps = lane.timestamps
    cdef dict packed = store.packed, changed = store.changed
    cdef list doors = usual.doors, compiled = usual.compiled, known = usual.plans
    cdef object exemptions = usual.exemptions if usual.exemptions else None
    cdef int64_t earliest = usual.earliest, tolerance = usual.future_tolerance
    cdef int64_t late_payment = usual.late_payment, grace = usual.grace
    cdef bint tells_apart = usual.tells_apart
    cdef list left = []
    cdef dict passed = {}
    cdef Runs timers = Runs()
    cdef Paid paid
    cdef uint8_t head[32]
    cdef uint8_t part[_VALUE_MAX + 256]
    cdef uint8_t* out
    cdef int64_t effective, timestamp, due, latest, number
    cdef int unread = 0
    cdef Py_ssize_t place
    cdef Clocks clocks
    cdef tuple door = None, found
    for place in range(_length(lane)):
        key = keys[place]
        timestamp, effective = timestamps[place], effective_ms[place]
        if not _read_paid(values[place], &paid):
            unread += 1
        elif (
            _is_key(&paid.order_id, key)
            and _is_tame(timestamp, effective)
            and not _passed(blocked, passed, key)
            and not PyDict_Contains(packed, key)
        ):
            latest = min(timestamp + tolerance, _TIME_MAX)
            found = _door(doors, &paid, door)
            if (
                found is not None
                and earliest <= paid.placed <= latest
                and earliest <= paid.paid <= latest
                and paid.paid >= effective - late_payment
                and paid.amount <= _AMOUNT_MAX
                and (not paid.has_goods_amount or paid.goods_amount <= _AMOUNT_MAX)
            ):
                door = found
                number = _way(door, &paid)
                clocks = _clocks_of(compiled, known, number)
                if (
                    clocks is None
                    or not clocks.fits
                    or (tells_apart and (paid.shop_level.at != NULL or paid.category.at != NULL))
                    or (exemptions is not None and _exempt(exemptions, key, &paid))
                ):
                    unread += 1
                else:
                    due = clocks.next_due(
                        paid.placed, paid.paid, _END_OF_TIME, _END_OF_TIME, effective - grace - 1
                    )
                    if 0 <= due < _NEVER:
                        _put_head(head, due, paid.placed, paid.paid, number)
                        out = _put_bought(part, &paid)
                        PyDict_SetItem(
                            packed, key, _state(head, part, 0, part, out - part, effective, 0)
                        )
                        PyDict_SetDefault(changed, key, True)
                        timers.add(due, key)
                        continue
        left.append(place)
        PyDict_SetItem(passed, key, None)
    return Taken(left, timers.runs, {}), unread


def upload(object lane, object usual, object store, dict blocked):
    """Note an upload; if a clock, a stop or the closure depends on it, anything is due anew."""
    return _take_parcels(lane, usual, store, blocked, False)


def scan(object lane, object usual, object store, dict blocked):
    """Note a scan; the order ends if it came before anything was due and stops all clocks."""
    return _take_parcels(lane, usual, store, blocked, True)


cdef int64_t _after_upload(
    Clocks clocks, const uint8_t* state, uint8_t flags, int64_t at, int64_t limit
) except? -2:
    """Return when anything is due once an upload is known, or `NOW`."""
    cdef int64_t due = _due(state), placed = _placed(state)
    if clocks.on_upload == _KEEP and due != placed + clocks.closure:
        return due
    if clocks.on_upload == _LONG or not clocks.asks or flags & _EXEMPT:
        return _NOW
    return clocks.next_due(placed, _paid(state), at, _END_OF_TIME, limit)


cdef int64_t _after_scan(
    Clocks clocks, const uint8_t* state, Py_ssize_t size, uint8_t flags, int64_t at, int64_t limit
) except? -2:
    """Return when anything is due once a scan is known, or `NOW`."""
    cdef int64_t uploaded = _END_OF_TIME
    cdef const uint8_t* number = state + size - _TAIL_SIZE - 9
    if clocks.on_scan == _RETIRE:
        return _NEVER if at < _due(state) else _NOW
    if clocks.on_scan == _LONG or flags & _EXEMPT:
        return _NOW
    if flags & _UPLOADED:
        # The upload ends the parts with its own time, if it replaces none: an instant of 8 bytes,
        # of which two are zero; no text has these.
        if number[0] != 0xCF or number[1] != 0 or number[2] != 0:
            return _NOW
        uploaded = _big_endian(number + 1, 8)
    return clocks.next_due(_placed(state), _paid(state), uploaded, at, limit)


cdef inline int64_t _placed(const uint8_t* state) noexcept nogil:
    return _big_endian(state + _PLACED_AT, _INSTANT_BYTES)


cdef inline int64_t _paid(const uint8_t* state) noexcept nogil:
    return _big_endian(state + _PAID_AT, _INSTANT_BYTES)


cdef tuple _take_parcels(object lane, object usual, object store, dict blocked, bint scanned):
    cdef list values = lane.values, keys = lane.keys
    cdef list effective_ms = lane.effective, timestamps = lane.timestamps
    cdef dict packed = store.packed, changed = store.changed
    cdef list compiled = usual.compiled, known = usual.plans
    cdef int64_t judged_after = usual.judged_after_ms
    cdef const char* at_name = b"scanned_at" if scanned else b"uploaded_at"
    cdef Py_ssize_t at_size = 10 if scanned else 11
    cdef uint8_t odd = _NOT_USUAL & ~_UPLOADED if scanned else _NOT_USUAL
    cdef int64_t earliest = usual.earliest, tolerance = usual.future_tolerance
    cdef int64_t grace = usual.grace, late_payment = usual.late_payment
    cdef list left = []
    cdef dict passed = {}
    cdef Runs timers = Runs(), retention = Runs()
    cdef Parcel parcel
    cdef uint8_t head[32]
    cdef uint8_t part[_VALUE_MAX + 256]
    cdef uint8_t* out
    cdef const uint8_t* state
    cdef PyObject* states[_BLOCK]
    cdef PyObject* found
    cdef Py_ssize_t place, size, other, begin = 0, end = 0, length = _length(lane)
    cdef int64_t effective, timestamp, due, number
    cdef uint8_t flags
    cdef int unread = 0
    cdef Clocks clocks
    for place in range(length):
        if place == end:
            begin, end = end, min(end + _BLOCK, length)
            _look_up(packed, keys, begin, end, states)
        key = keys[place]
        timestamp, effective = timestamps[place], effective_ms[place]
        found = states[place - begin]
        if found != NULL:
            state = <const uint8_t*> PyBytes_AS_STRING(<object> found)
            size = PyBytes_GET_SIZE(<object> found)
            flags = state[size - 1]
            number = _big_endian(state + _PLAN_AT, _PLAN_BYTES)
            clocks = _clocks_of(compiled, known, number)
            if (
                clocks is None
                or flags & odd
                or _due(state) < effective - grace
                or _big_endian(state + size - _TAIL_SIZE, _TAIL_SIZE - 1) <= judged_after
            ):
                pass
            elif not clocks.fits or not _read_parcel(values[place], at_name, at_size, &parcel):
                unread += 1
            elif (
                _is_key(&parcel.order_id, key)
                and _is_tame(timestamp, effective)
                and not _passed(blocked, passed, key)
                and earliest <= parcel.at <= min(timestamp + tolerance, _TIME_MAX)
            ):
                if scanned:
                    due = _after_scan(clocks, state, size, flags, parcel.at, effective - grace - 1)
                else:
                    due = _after_upload(clocks, state, flags, parcel.at, effective - grace - 1)
                if due != _NOW:
                    flags |= _SCANNED if scanned else _UPLOADED
                    if due >= _NEVER:
                        flags |= _RETIRING
                        due = max(effective + clocks.clean, _paid(state) + late_payment)
                        retention.add(due, key)
                    elif due != _due(state):
                        timers.add(due, key)
                    out = _put_bytes(part, 0x94, 1)
                    out = _put_number(out, _SCAN if scanned else _UPLOAD)
                    out = _put_text(out, &parcel.tracking_number)
                    out = _put_text(out, &parcel.carrier)
                    out = _put_number(out, parcel.at)
                    _put_head(head, due, _placed(state), _paid(state), number)
                    made = _state(
                        head, state + _PARTS_AT, size - _PARTS_AT - _TAIL_SIZE, part, out - part,
                        effective, flags,
                    )
                    PyDict_SetItem(packed, key, made)
                    for other in range(place + 1, end):
                        if states[other - begin] == found:
                            states[other - begin] = PyDict_GetItem(packed, keys[other])
                    PyDict_SetDefault(changed, key, False)
                    continue
        left.append(place)
        PyDict_SetItem(passed, key, None)
    return Taken(left, timers.runs, retention.runs), unread


TAKE = {ORDER_PAID: pay, TRACKING_NUMBER_UPLOADED: upload, FIRST_SCAN: scan}


# The store.

def timed(dict packed not None, bytes run not None, int64_t begin_ms, int64_t end_ms):
    """Of a run of keys, those with a timer between two instants; see `PackedOrders.timed`."""
    cdef list keys = run.split(minutes.END)
    cdef PyObject* states[_BLOCK]
    cdef const uint8_t* state
    cdef Py_ssize_t place, begin = 0, end = 0, length = len(keys) - 1
    cdef int64_t due
    cdef list timers = []
    for place in range(length):
        if place == end:
            begin, end = end, min(end + _BLOCK, length)
            _look_up(packed, keys, begin, end, states)
        if states[place - begin] == NULL:
            continue
        state = <const uint8_t*> PyBytes_AS_STRING(<object> states[place - begin])
        if state[PyBytes_GET_SIZE(<object> states[place - begin]) - 1] & _REST == _RETIRING:
            continue
        due = _due(state)
        if begin_ms <= due < end_ms:
            timers.append((due, keys[place]))
    return timers


def forget(dict packed not None, dict changed not None, list keys not None, int64_t limit_ms):
    """Remove those that rest and whose retention has ended; see `PackedOrders.forget`."""
    cdef PyObject* states[_BLOCK]
    cdef PyObject* found
    cdef const uint8_t* state
    cdef Py_ssize_t place, other, begin = 0, end = 0, length = len(keys)
    for place in range(length):
        if place == end:
            begin, end = end, min(end + _BLOCK, length)
            _look_up(packed, keys, begin, end, states)
        found = states[place - begin]
        if found == NULL:
            continue
        state = <const uint8_t*> PyBytes_AS_STRING(<object> found)
        if (
            state[PyBytes_GET_SIZE(<object> found) - 1] & _REST != _RETIRING
            or _due(state) > limit_ms
        ):
            continue
        key = keys[place]
        PyDict_DelItem(packed, key)
        for other in range(place + 1, end):
            if states[other - begin] == found:
                states[other - begin] = PyDict_GetItem(packed, keys[other])
        found = PyDict_GetItem(changed, key)
        if found != NULL and <object> found is True:
            PyDict_DelItem(changed, key)
        else:
            PyDict_SetItem(changed, key, False)
