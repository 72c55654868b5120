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

from streams.codec.state import ARRAY, BEHIND_DUE, HEAD, REST, RETIRING, STATE_VERSION
from streams.core.time import key_buckets as minutes
from streams.core.facts.instants import NEVER_MS
from streams.core.facts.events import TIME_MS_MAX
from streams.core.facts.inputs import FIRST_SCAN, INPUTS, ORDER_PAID, TRACKING_NUMBER_UPLOADED
from streams.engine.usual import NOT_USUAL

if STATE_VERSION != 2:
    raise ImportError("streams.engine.native writes states of version 2")
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
cdef uint8_t _NOT_USUAL = NOT_USUAL
cdef uint8_t _VERSION = STATE_VERSION
cdef uint8_t _ARRAY_BYTE = ARRAY
cdef uint8_t _UPLOAD = INPUTS[TRACKING_NUMBER_UPLOADED].id
cdef uint8_t _SCAN = INPUTS[FIRST_SCAN].id
cdef uint8_t _REST = REST
cdef uint8_t _RETIRING = RETIRING
cdef int64_t _MINUTE = minutes.MINUTE_MS
cdef char _END = ord(minutes.END)
cdef Py_ssize_t _HEAD_SIZE = HEAD.size
cdef Py_ssize_t _BEHIND_DUE = BEHIND_DUE

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


cdef inline int64_t _big_endian(const uint8_t* at) noexcept nogil:
    cdef uint64_t number = 0
    cdef int place
    for place in range(8):
        number = number << 8 | at[place]
    return <int64_t> number


cdef inline bint _judged_since(
    const uint8_t* state, Py_ssize_t size, int64_t judged_after
) noexcept nogil:
    """Whether a state that has a way from here surely changed after an instant."""
    cdef const uint8_t* changed = state + size - 10
    if judged_after < 0:
        return True
    # In front of the flags stands the log time of the last change. Where that is a shorter number,
    # of 1970, these bytes are of text or nil in front of it, which are never zero.
    return (
        changed[0] == 0xCF
        and changed[1] == changed[2] == 0
        and _big_endian(changed + 1) > judged_after
    )


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
    Text currency
    Text region
    Text ship_from_region


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
    """Read a payment without a promised date."""
    cdef Cursor c
    cdef Text name
    cdef int found = 0, field, bit
    cdef bint first = True, plain
    if not _open(&c, value):
        return False
    paid.currency.at = <const uint8_t*> b"CNY"
    paid.currency.size = 3
    paid.region.at = paid.ship_from_region.at = NULL
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
        else:
            bit, plain = 0, not _is(&name, b"promised_ship_by", 16) and _skip_value(&c)
        if not plain or found & bit:
            return False
        found |= bit
    return field == END and found & 127 == 127 and (not c.high or _is_utf8(value))


cdef inline bytes _state(
    const uint8_t* one, Py_ssize_t one_size, const uint8_t* two, Py_ssize_t two_size,
    const uint8_t* three, Py_ssize_t three_size,
):
    """Join up to three runs of bytes."""
    cdef bytes state = PyBytes_FromStringAndSize(NULL, one_size + two_size + three_size)
    cdef char* at = PyBytes_AS_STRING(state)
    memcpy(at, one, one_size)
    memcpy(at + one_size, two, two_size)
    if three_size:
        memcpy(at + one_size + two_size, three, three_size)
    return state


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


def pay(object lane, object usual, object store, dict blocked):
    """Take the first that is heard of an order.

    Returns:
        `usual.Taken`, and how many values could not be read.
    """
    cdef list values = lane.values, keys = lane.keys
    cdef list effective_ms = lane.effective, timestamps = lane.timestamps
    cdef dict packed = store.packed, changed = store.changed
    cdef list modes = [(mode.encode(), *after) for mode, after in usual.after_payment.items()]
    cdef int64_t earliest = usual.earliest, tolerance = usual.future_tolerance
    cdef int64_t wait = usual.wait_for_order, grace = usual.grace
    cdef list left = []
    cdef dict passed = {}, runs = {}
    cdef int64_t minute = -1
    cdef bytearray run = None
    cdef Paid paid
    cdef uint8_t head[32]
    cdef uint8_t part[_VALUE_MAX + 256]
    cdef uint8_t* out
    cdef int64_t effective, timestamp, due, latest, first_due = 0
    cdef int flags, product, unread = 0
    cdef Py_ssize_t place
    cdef bytes name
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
            for name, first_due, flags in modes:
                if _is(&paid.shipping_mode, PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name)):
                    break
            else:
                flags = _NOT_USUAL
            due, latest = paid.placed + first_due, min(timestamp + tolerance, _TIME_MAX)
            if (
                flags != _NOT_USUAL
                and earliest <= paid.placed <= latest
                and earliest <= paid.paid <= latest
                and paid.paid >= effective - wait
                and effective - grace <= due < _NEVER
                and paid.amount <= _AMOUNT_MAX
            ):
                out = _put_bytes(head, _VERSION, 1)
                out = _put_bytes(out, due, 8)
                out = _put_bytes(out, paid.placed, 8)
                out = _put_bytes(out, paid.paid, 8)
                out = _put_bytes(out, _ARRAY_BYTE, 1)
                _put_bytes(out, 1, 2)
                out = _put_bytes(part, 0x98, 1)
                out = _put_text(out, &paid.shop_id)
                if paid.products_count < 16:
                    out = _put_bytes(out, 0x90 | paid.products_count, 1)
                else:
                    out = _put_bytes(out, 0xDC, 1)
                    out = _put_bytes(out, paid.products_count, 2)
                for product in range(paid.products_count):
                    out = _put_text(out, &paid.products[product])
                out = _put_number(out, paid.amount)
                out = _put_text(out, &paid.currency)
                out = _put_text(out, &paid.region)
                out = _put_text(out, &paid.ship_from_region)
                out = _put_number(out, effective)
                out = _put_number(out, flags)
                PyDict_SetItem(packed, key, _state(head, _HEAD_SIZE, part, out - part, NULL, 0))
                PyDict_SetDefault(changed, key, True)
                if run is None or due // _MINUTE != minute:
                    minute = due // _MINUTE
                    run = runs.setdefault(minute, bytearray())
                _append_key(run, key)
                continue
        left.append(place)
        PyDict_SetItem(passed, key, None)
    return left, runs, unread


def upload(object lane, object usual, object store, dict blocked):
    """Note an upload where no clock or stop hangs on it, nor the closure that is due next."""
    return _take_parcels(lane, usual, store, blocked, usual.after_upload, False)


def scan(object lane, object usual, object store, dict blocked):
    """Let an order retire whose parcel was uploaded, and scanned before anything was due."""
    return _take_parcels(lane, usual, store, blocked, usual.after_scan, True)


cdef tuple _take_parcels(
    object lane, object usual, object store, dict blocked, bytes after, bint scanned
):
    cdef list values = lane.values, keys = lane.keys
    cdef list effective_ms = lane.effective, timestamps = lane.timestamps
    cdef dict packed = store.packed, changed = store.changed
    cdef int64_t judged_after = usual.judged_after_ms
    cdef const uint8_t* flags_after = <const uint8_t*> PyBytes_AS_STRING(after)
    cdef const char* at_name = b"scanned_at" if scanned else b"uploaded_at"
    cdef Py_ssize_t at_size = 10 if scanned else 11
    cdef int64_t earliest = usual.earliest, tolerance = usual.future_tolerance
    cdef int64_t grace = usual.grace, closure = usual.closure
    cdef int64_t clean = usual.clean, wait = usual.wait_for_order
    cdef list left = []
    cdef dict passed = {}, runs = {}
    cdef int64_t minute = -1
    cdef bytearray run = None
    cdef Parcel parcel
    cdef uint8_t head[16]
    cdef uint8_t part[_VALUE_MAX + 256]
    cdef uint8_t* out
    cdef const uint8_t* state
    cdef PyObject* states[_BLOCK]
    cdef PyObject* found
    cdef Py_ssize_t place, size, other, begin = 0, end = 0, length = _length(lane)
    cdef int64_t effective, timestamp, due, over
    cdef uint8_t flags
    cdef int unread = 0
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
            flags = flags_after[state[size - 1]]
            if flags == _NOT_USUAL or not _judged_since(state, size, judged_after):
                pass
            elif not _read_parcel(values[place], at_name, at_size, &parcel):
                unread += 1
            elif (
                _is_key(&parcel.order_id, key)
                and _is_tame(timestamp, effective)
                and not _passed(blocked, passed, key)
            ):
                due = _big_endian(state + 1)
                if (
                    earliest <= parcel.at <= min(timestamp + tolerance, _TIME_MAX)
                    and due >= effective - grace
                    and (scanned or due != _big_endian(state + 9) + closure)
                    and (not scanned or parcel.at < due)
                ):
                    out = _put_bytes(part, 0x96 if scanned else 0x97, 1)
                    out = _put_number(out, _SCAN if scanned else _UPLOAD)
                    out = _put_text(out, &parcel.tracking_number)
                    out = _put_text(out, &parcel.carrier)
                    out = _put_number(out, parcel.at)
                    if not scanned:
                        out = _put_bytes(out, 0xC0, 1)
                    out = _put_number(out, effective)
                    out = _put_number(out, flags)
                    if scanned:
                        over = max(effective + clean, _big_endian(state + 17) + wait)
                        _put_bytes(_put_bytes(head, _VERSION, 1), over, 8)
                        if run is None or over // _MINUTE != minute:
                            minute = over // _MINUTE
                            run = runs.setdefault(minute, bytearray())
                        _append_key(run, key)
                        made = _state(
                            head, _BEHIND_DUE, state + _BEHIND_DUE, size - _BEHIND_DUE, part,
                            out - part,
                        )
                    else:
                        made = _state(state, size, part, out - part, NULL, 0)
                    PyDict_SetItem(packed, key, made)
                    for other in range(place + 1, end):
                        if states[other - begin] == found:
                            states[other - begin] = PyDict_GetItem(packed, keys[other])
                    PyDict_SetDefault(changed, key, False)
                    continue
        left.append(place)
        PyDict_SetItem(passed, key, None)
    return left, runs, unread


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
        due = _big_endian(state + 1)
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
            or _big_endian(state + 1) > limit_ms
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
