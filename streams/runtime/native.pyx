# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Record batches by column, and where keys belong: no object stands for a record.

What a batch of version 2 looks like is public and fixed (Kafka's documentation, "Message Format").
Its checksum has been looked at before. Built where a C compiler is at hand, see `hatch_build.py`.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

cdef extern from *:
    const char* SOURCE_SHA256

from hashlib import sha256
from pathlib import Path

_source = Path(__file__).with_name("native.pyx")
if _source.exists() and sha256(_source.read_bytes()).hexdigest() != SOURCE_SHA256.decode():
    raise ImportError("streams.runtime.native was compiled from another native.pyx")

# Where the parts of a batch stand.
cdef enum:
    _MAGIC_AT = 16
    _ATTRIBUTES_AT = 21
    _FIRST_TIMESTAMP_AT = 27
    _MAX_TIMESTAMP_AT = 35
    _COUNT_AT = 57
    _RECORDS_AT = 61

    _COMPRESSION = 0x07
    _APPEND_TIME = 0x08


cdef struct Cursor:
    const uint8_t* at
    const uint8_t* end


cdef inline uint64_t _big_endian(const uint8_t* at, int size) noexcept nogil:
    cdef uint64_t number = 0
    cdef int place
    for place in range(size):
        number = number << 8 | at[place]
    return number


cdef inline bint _read_number(Cursor* c, int64_t* number) noexcept nogil:
    """Read a zigzag number of variable length; false if it does not end in time."""
    cdef uint64_t read = 0
    cdef int shift = 0
    cdef uint8_t byte
    while c.at < c.end and shift < 64:
        byte = c.at[0]
        c.at += 1
        read |= <uint64_t> (byte & 0x7F) << shift
        if byte < 0x80:
            number[0] = <int64_t> (read >> 1) ^ -<int64_t> (read & 1)
            return True
        shift += 7
    return False


cdef inline bint _read_bytes(Cursor* c, const uint8_t** at, int64_t* size) noexcept nogil:
    """Read a length and pass over as many bytes; -1 stands for none at all."""
    if not _read_number(c, size) or size[0] < -1 or size[0] > c.end - c.at:
        return False
    at[0] = c.at
    if size[0] > 0:
        c.at += size[0]
    return True


cdef inline bint _read_attributes(Cursor* c) noexcept nogil:
    if c.at == c.end or c.at[0] >= 0x80:
        return False
    c.at += 1
    return True


cdef bint _skip_headers(Cursor* c) noexcept nogil:
    """Pass over the headers of a record up to its end; their names may be any bytes."""
    cdef int64_t count = 0, size = 0, place
    cdef const uint8_t* at = NULL
    if not _read_number(c, &count) or count < 0:
        return False
    for place in range(count):
        if not _read_bytes(c, &at, &size) or size < 0:
            return False
        if not _read_bytes(c, &at, &size):
            return False
    return c.at == c.end


cdef inline object _bytes(const uint8_t* at, int64_t size):
    return None if size < 0 else PyBytes_FromStringAndSize(<const char*> at, size)


def columns(bytes response not None, Py_ssize_t begin, Py_ssize_t end, int64_t first):
    """Give the records from offset `first` on of the batch in `response[begin:end]`.

    Returns:
        Offsets, timestamps, keys and values; `None` for a batch that is compressed, of another
        version, or not whole.
    """
    cdef const uint8_t* batch = <const uint8_t*> PyBytes_AS_STRING(response) + begin
    cdef list offsets = [], timestamps = [], keys = [], values = []
    cdef Cursor record, c
    cdef const uint8_t* key = NULL
    cdef const uint8_t* value = NULL
    cdef int64_t base, began, size = 0, since = 0, offset = 0, key_size = 0, value_size = 0
    cdef int32_t count, place
    cdef bint appended
    if (
        not 0 <= begin <= end <= PyBytes_GET_SIZE(response)
        or end - begin < _RECORDS_AT
        or batch[_MAGIC_AT] != 2
        or batch[_ATTRIBUTES_AT + 1] & _COMPRESSION
    ):
        return None
    base = <int64_t> _big_endian(batch, 8)
    appended = batch[_ATTRIBUTES_AT + 1] & _APPEND_TIME
    began = <int64_t> _big_endian(
        batch + (_MAX_TIMESTAMP_AT if appended else _FIRST_TIMESTAMP_AT), 8
    )
    count = <int32_t> _big_endian(batch + _COUNT_AT, 4)
    c.at, c.end = batch + _RECORDS_AT, batch + (end - begin)
    for place in range(count):
        if not _read_bytes(&c, &record.at, &size):
            return None
        record.end = c.at
        if (
            not _read_attributes(&record)
            or not _read_number(&record, &since)
            or not _read_number(&record, &offset)
            or not _read_bytes(&record, &key, &key_size)
            or not _read_bytes(&record, &value, &value_size)
            or not _skip_headers(&record)
        ):
            return None
        # Without a sign, so that what wraps is defined.
        offset = <int64_t> (<uint64_t> offset + <uint64_t> base)
        if offset >= first:
            offsets.append(offset)
            # The broker gives all records of a batch one time.
            timestamps.append(
                began if appended else <int64_t> (<uint64_t> began + <uint64_t> since)
            )
            keys.append(_bytes(key, key_size))
            values.append(_bytes(value, value_size))
    if c.at != c.end:
        return None
    return offsets, timestamps, keys, values


cdef uint32_t _murmur2(const uint8_t* at, Py_ssize_t size) noexcept nogil:
    """Kafka's hash of a key: MurmurHash2 of 32 bits with Kafka's seed."""
    cdef uint32_t m = 0x5BD1E995
    cdef uint32_t h = <uint32_t> 0x9747B28C ^ <uint32_t> size
    cdef uint32_t k
    while size >= 4:
        k = at[0] | <uint32_t> at[1] << 8 | <uint32_t> at[2] << 16 | <uint32_t> at[3] << 24
        k *= m
        k ^= k >> 24
        k *= m
        h = h * m ^ k
        at += 4
        size -= 4
    if size == 3:
        h ^= <uint32_t> at[2] << 16
    if size >= 2:
        h ^= <uint32_t> at[1] << 8
    if size >= 1:
        h = (h ^ at[0]) * m
    h ^= h >> 13
    h *= m
    return h ^ h >> 15


def misplaced(list keys not None, uint32_t partition, uint32_t partitions):
    """Give the places of the keys that Kafka's default partitioner leads to another partition."""
    cdef Py_ssize_t place
    cdef object key
    cdef list found = []
    if not partitions:
        return found
    for place in range(len(keys)):
        key = keys[place]
        if type(key) is bytes and (
            _murmur2(<const uint8_t*> PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key)) & 0x7FFFFFFF
        ) % partitions != partition:
            found.append(place)
    return found
