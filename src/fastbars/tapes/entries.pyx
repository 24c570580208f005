"""Entries: what sessions hand over to be recorded, as the bytes of the file, until the writer's thread takes them.

A message is copied once, into the bytes of its block; no object is made for it, and no lock is taken: every call is whole
under the interpreter's. The writer is woken by the first entry, to time its flush, and when a block is full; not by each.

Units: times int64 nanoseconds.
"""

cimport cython
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy

from fastbars.tapes import recording as _recording

BLOCK_BYTES = 1 << 20
MOST_WAITING_BYTES = 64 << 20

cdef enum:
    BLOCK = 1 << 20
    MOST_WAITING = 64 << 20
    HEAD = 28                   # bytes of ENTRY_HEAD
    COUNT = 4                   # bytes of LENGTH
    MOST_ENTRY = 0xFFFFFFFF     # bytes of an entry, whose size has 32 bits

cdef int64_t _NO_TIME = _recording.NO_TIME
cdef uint8_t _MESSAGES = _recording.MESSAGES

if _recording.ENTRY_HEAD.size != HEAD or _recording.LENGTH.size != COUNT:
    raise AssertionError("the sizes of heads are not those of fastbars.tapes.recording")


cdef inline char *put(char *place, uint64_t value, int size) noexcept:
    # Little-endian on every machine.
    cdef int i
    for i in range(size):
        place[i] = <char>(value >> 8 * i)
    return place + size


@cython.final
cdef class Entries:
    cdef char *data
    cdef size_t capacity
    cdef readonly Py_ssize_t size
    cdef readonly int64_t messages
    cdef readonly int64_t raw_bytes
    cdef readonly bint is_closed
    cdef object _wake
    cdef object _wait

    def __cinit__(self, wake, wait):
        self._wake = wake
        self._wait = wait

    def __dealloc__(self):
        free(self.data)

    def add(self, bytes entry not None):
        cdef char *place = self.room_for(len(entry))
        if place is not NULL:
            memcpy(place, <const char *>entry, len(entry))
            self.added(len(entry))

    def take(self):
        # Nobody is woken here: the caller knows who waits for room.
        cdef bytes taken = self.data[:self.size] if self.size else b""
        self.size = 0
        if self.capacity > 2 * BLOCK:
            free(self.data)
            self.data = NULL
            self.capacity = 0
        return taken

    def close(self):
        self.is_closed = True

    cdef char *room_for(self, size_t size) except? NULL:
        # Where the next entry goes; NULL: nothing is recorded any more.
        cdef size_t needed
        cdef char *grown
        if self.size >= MOST_WAITING and not self.is_closed:
            self._wait()
        if self.is_closed:
            return NULL
        needed = self.size + size
        if needed > self.capacity:
            needed = max(needed + needed // 2, <size_t>4096)
            grown = <char *>realloc(self.data, needed)
            if grown is NULL:
                raise MemoryError
            self.data = grown
            self.capacity = needed
        return self.data + self.size

    cdef int added(self, size_t size) except -1:
        cdef Py_ssize_t before = self.size
        self.size += size
        self.raw_bytes += size
        if before == 0 or before < BLOCK <= self.size:
            self._wake()
        return 0


@cython.final
cdef class SessionRecorder:
    cdef Entries entries
    cdef uint16_t number

    def __cinit__(self, Entries entries not None, uint16_t number):
        self.entries = entries
        self.number = number

    def messages(self, payloads, int64_t receive_time_ns, steady_ns, uint16_t line):
        cdef list given = payloads if type(payloads) is list else list(payloads)
        cdef int64_t steady = _NO_TIME if steady_ns is None else steady_ns
        cdef size_t size = COUNT + COUNT * <size_t>len(given)
        cdef bytes payload
        cdef char *lengths
        cdef char *place
        for payload in given:
            size += len(payload)
        if size > MOST_ENTRY:
            raise ValueError(f"{len(given)} messages of {size} bytes are more than an entry of a recording holds")
        self.entries.messages += len(given)
        lengths = self.entries.room_for(HEAD + size)
        if lengths is NULL:
            return
        lengths = put(lengths, _MESSAGES, 2)
        lengths = put(lengths, self.number, 2)
        lengths = put(lengths, line, 4)
        lengths = put(lengths, size, 4)
        lengths = put(lengths, <uint64_t>receive_time_ns, 8)
        lengths = put(lengths, <uint64_t>steady, 8)
        lengths = put(lengths, len(given), 4)
        place = lengths + COUNT * <size_t>len(given)
        for payload in given:
            lengths = put(lengths, len(payload), 4)
            memcpy(place, <const char *>payload, len(payload))
            place += len(payload)
        self.entries.added(HEAD + size)

    def event(self, str name not None, int64_t receive_time_ns, fields, bytes body not None=b""):
        fields = {"event": name, **fields}
        self.entries.add(_recording.event_entry(_recording.EVENT, self.number, receive_time_ns, fields, body))

    def note(self, str name not None, int64_t receive_time_ns, fields):
        fields = {"note": name, **fields}
        self.entries.add(_recording.event_entry(_recording.NOTE, self.number, receive_time_ns, fields))
