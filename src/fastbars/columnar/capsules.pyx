"""Arrow's C structures as a PyCapsule hands them over, checked before anything follows a pointer in them.

Source: https://arrow.apache.org/docs/format/CDataInterface.html, CStreamInterface.html and
CDataInterface/PyCapsuleInterface.html.

The structures say how many values there are, not how many bytes: that a buffer is as long as its type and length need is
the producer's word, and all that cannot be checked here. What can be is: lengths, offsets, counts of buffers and children,
missing pointers, structures that were released, and names of capsules.

Units: lengths and offsets in values, sizes in bytes.
"""

import cython
import numpy as np

from cpython.buffer cimport PyBuffer_FillInfo
from cpython.exc cimport PyErr_CheckSignals
from cpython.pycapsule cimport PyCapsule_GetPointer, PyCapsule_IsValid
from libc.stdint cimport int32_t, int64_t
from libc.string cimport memcpy, memset

from fastbars.errors import InvalidTickError

cdef enum:
    MOST_DEPTH = 8              # of types within types: what lies deeper is no column
    MOST_CHILDREN = 65_536
    MOST_METADATA = 1_048_576

# No array is longer, so that places in bytes are far from 64 bits.
cdef int64_t MOST_VALUES = <int64_t>1 << 48

cdef struct ArrowSchema:
    const char *format
    const char *name
    const char *metadata
    int64_t flags
    int64_t n_children
    ArrowSchema **children
    ArrowSchema *dictionary
    void (*release)(ArrowSchema *) noexcept nogil
    void *private_data

cdef struct ArrowArray:
    int64_t length
    int64_t null_count
    int64_t offset
    int64_t n_buffers
    int64_t n_children
    const void **buffers
    ArrowArray **children
    ArrowArray *dictionary
    void (*release)(ArrowArray *) noexcept nogil
    void *private_data

cdef struct ArrowArrayStream:
    int (*get_schema)(ArrowArrayStream *, ArrowSchema *) noexcept nogil
    int (*get_next)(ArrowArrayStream *, ArrowArray *) noexcept nogil
    const char *(*get_last_error)(ArrowArrayStream *) noexcept nogil
    void (*release)(ArrowArrayStream *) noexcept nogil
    void *private_data


# Each owns one structure, which it releases.

@cython.final
@cython.internal
cdef class _Schema:
    cdef ArrowSchema content

    def __dealloc__(self):
        if self.content.release is not NULL:
            self.content.release(&self.content)


@cython.final
@cython.internal
cdef class _Array:
    cdef ArrowArray content

    def __dealloc__(self):
        if self.content.release is not NULL:
            self.content.release(&self.content)


@cython.final
@cython.internal
cdef class _Stream:
    cdef ArrowArrayStream content

    def __dealloc__(self):
        if self.content.release is not NULL:
            self.content.release(&self.content)

    cdef object failed(self, int code):
        cdef const char *text = NULL
        if self.content.get_last_error is not NULL:
            text = self.content.get_last_error(&self.content)
        reason = "" if text is NULL else f": {(<bytes>text)[:500].decode(errors='replace')}"
        return InvalidTickError(f"the Arrow stream failed with error {code}{reason}")


@cython.final
@cython.internal
cdef class _Bytes:
    # Memory of an array, which lives as long as numpy's view of it.
    cdef _Array owner
    cdef const void *start
    cdef Py_ssize_t size

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        PyBuffer_FillInfo(buffer, self, <void *>self.start, self.size, 1, flags)


cdef class ArrowType:
    cdef readonly str format
    cdef readonly str extension
    cdef readonly tuple children
    cdef readonly ArrowType dictionary


# What an ArrowData shows that was made from Python: an array of no type, without values, buffers and children.
cdef ArrowArray _NOTHING
memset(&_NOTHING, 0, sizeof(ArrowArray))
cdef ArrowType _NO_TYPE = ArrowType.__new__(ArrowType)
_NO_TYPE.format, _NO_TYPE.extension, _NO_TYPE.children = "", "", ()


cdef class ArrowData:
    cdef readonly ArrowType type
    cdef _Array owner
    cdef const ArrowArray *array

    def __cinit__(self):
        self.type = _NO_TYPE
        self.array = &_NOTHING

    @property
    def length(self):
        return self.array.length

    @property
    def offset(self):
        return self.array.offset

    @property
    def null_count(self):
        return self.array.null_count

    def buffer(self, int64_t place, int64_t size):
        if not 0 <= place < self.array.n_buffers:
            raise InvalidTickError(
                f"an Arrow array of type {self.type.format!r} has {self.array.n_buffers} buffers, buffer {place} is needed")
        if self.array.buffers is NULL:
            raise InvalidTickError(f"an Arrow array of type {self.type.format!r} has no buffers")
        return self.bytes_at(self.array.buffers[place], size)

    def has_buffer(self, int64_t place):
        return (
            0 <= place < self.array.n_buffers and self.array.buffers is not NULL and self.array.buffers[place] is not NULL)

    def variadic(self):
        cdef int64_t i, count = self.array.n_buffers - 3
        cdef const char *sizes
        cdef int64_t size
        if count < 0 or self.array.buffers is NULL:
            raise InvalidTickError(
                f"an Arrow array of type {self.type.format!r} has {self.array.n_buffers} buffers, it must have 3 or more")
        sizes = <const char *>self.array.buffers[count + 2]
        if count and sizes is NULL:
            raise InvalidTickError(f"an Arrow array of type {self.type.format!r} does not say how long its buffers are")
        made = []
        for i in range(count):
            memcpy(&size, sizes + 8 * i, 8)
            made.append(self.bytes_at(self.array.buffers[2 + i], size))
        return made

    def child(self, int64_t place):
        if not 0 <= place < self.array.n_children:
            raise InvalidTickError(f"an Arrow array of type {self.type.format!r} has no child {place}")
        return _data_of(self.owner, self.array.children[place], self.type.children[place])

    def dictionary(self):
        if self.type.dictionary is None:
            raise InvalidTickError(f"an Arrow array of type {self.type.format!r} has no dictionary")
        return _data_of(self.owner, self.array.dictionary, self.type.dictionary)

    cdef object bytes_at(self, const void *start, int64_t size):
        cdef _Bytes seen
        if size < 0:
            raise InvalidTickError(f"an Arrow array of type {self.type.format!r} has a buffer of {size} bytes")
        if size == 0:
            return np.empty(0, np.uint8)
        if start is NULL:
            raise InvalidTickError(f"an Arrow array of type {self.type.format!r} lacks a buffer of {size} bytes")
        seen = _Bytes()
        seen.owner, seen.start, seen.size = self.owner, start, size
        return np.frombuffer(seen, np.uint8)


def read_arrays(column):
    cdef list arrays = []
    cdef _Schema schema = _Schema()
    cdef _Stream stream
    cdef _Array array
    cdef int code
    if not hasattr(column, "__arrow_c_stream__"):
        pair = column.__arrow_c_array__()
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise InvalidTickError(f"__arrow_c_array__ of {type(column).__name__} gave {type(pair).__name__}, not two capsules")
        array = _Array()
        _take_schema(pair[0], schema)
        _take_array(pair[1], array)
        return [_data_of(array, &array.content, _type_of(&schema.content, 0))]
    stream = _Stream()
    _take_stream(column.__arrow_c_stream__(), stream)
    with nogil:
        code = stream.content.get_schema(&stream.content, &schema.content)
    if code:
        schema.content.release = NULL
        raise stream.failed(code)
    if schema.content.release is NULL:
        raise InvalidTickError("the Arrow stream gave a schema that was released")
    kind = _type_of(&schema.content, 0)
    while True:
        array = _Array()
        with nogil:
            code = stream.content.get_next(&stream.content, &array.content)
        if code:
            array.content.release = NULL
            raise stream.failed(code)
        if array.content.release is NULL:
            return arrays
        arrays.append(_data_of(array, &array.content, kind))
        PyErr_CheckSignals()


cdef void *_pointer(object capsule, const char *name) except NULL:
    if not PyCapsule_IsValid(capsule, name):
        raise InvalidTickError(f"{type(capsule).__name__} is no PyCapsule of the name {(<bytes>name).decode()!r}")
    return PyCapsule_GetPointer(capsule, name)


# A structure is moved by its bytes; the original counts as released from then on.

cdef int _take_schema(object capsule, _Schema into) except -1:
    cdef ArrowSchema *source = <ArrowSchema *>_pointer(capsule, "arrow_schema")
    if source.release is NULL:
        raise InvalidTickError("the Arrow schema was released: a capsule can be read once")
    memcpy(&into.content, source, sizeof(ArrowSchema))
    source.release = NULL
    return 0


cdef int _take_array(object capsule, _Array into) except -1:
    cdef ArrowArray *source = <ArrowArray *>_pointer(capsule, "arrow_array")
    if source.release is NULL:
        raise InvalidTickError("the Arrow array was released: a capsule can be read once")
    memcpy(&into.content, source, sizeof(ArrowArray))
    source.release = NULL
    return 0


cdef int _take_stream(object capsule, _Stream into) except -1:
    cdef ArrowArrayStream *source = <ArrowArrayStream *>_pointer(capsule, "arrow_array_stream")
    if source.release is NULL:
        raise InvalidTickError("the Arrow stream was released: a capsule can be read once")
    if source.get_schema is NULL or source.get_next is NULL:
        raise InvalidTickError("the Arrow stream has no functions to read it by")
    memcpy(&into.content, source, sizeof(ArrowArrayStream))
    source.release = NULL
    return 0


cdef ArrowType _type_of(const ArrowSchema *schema, int depth):
    cdef ArrowType made = ArrowType.__new__(ArrowType)
    cdef int64_t i
    if schema is NULL or schema.release is NULL or schema.format is NULL:
        raise InvalidTickError("the Arrow schema lacks a type, or was released")
    made.format = (<bytes>schema.format)[:256].decode(errors="replace")
    made.extension = _extension_of(schema.metadata)
    if not 0 <= schema.n_children <= MOST_CHILDREN or (schema.n_children and schema.children is NULL):
        raise InvalidTickError(f"the Arrow type {made.format!r} has {schema.n_children} children, at most {MOST_CHILDREN}")
    if depth >= MOST_DEPTH:
        raise InvalidTickError(f"the Arrow type {made.format!r} lies {depth} types deep, at most {MOST_DEPTH}")
    made.children = tuple([_type_of(schema.children[i], depth + 1) for i in range(schema.n_children)])
    made.dictionary = None if schema.dictionary is NULL else _type_of(schema.dictionary, depth + 1)
    return made


cdef str _extension_of(const char *metadata):
    # int32 pairs, then of each: int32 length and bytes of its key, likewise its value; in the machine's byte order.
    cdef int32_t pairs, size
    cdef int part
    cdef bytes text, key = b""
    if metadata is NULL:
        return ""
    memcpy(&pairs, metadata, 4)
    metadata += 4
    while pairs > 0:
        pairs -= 1
        for part in range(2):
            memcpy(&size, metadata, 4)
            metadata += 4
            if not 0 <= size <= MOST_METADATA:
                raise InvalidTickError(f"the Arrow schema has metadata of {size} bytes, at most {MOST_METADATA}")
            text = metadata[:size]
            metadata += size
            if part == 1 and key == b"ARROW:extension:name":
                return text[:256].decode(errors="replace")
            key = text
    return ""


cdef ArrowData _data_of(_Array owner, const ArrowArray *array, ArrowType kind):
    cdef ArrowData made = ArrowData.__new__(ArrowData)
    cdef int64_t i
    if array is NULL or array.release is NULL:
        raise InvalidTickError(f"an Arrow array of type {kind.format!r} is missing, or was released")
    if not (0 <= array.length <= MOST_VALUES and 0 <= array.offset <= MOST_VALUES and -1 <= array.null_count <= array.length):
        raise InvalidTickError(
            f"an Arrow array of type {kind.format!r} has length {array.length}, offset {array.offset} and"
            f" {array.null_count} nulls")
    if not 0 <= array.n_buffers <= MOST_CHILDREN or (array.n_buffers and array.buffers is NULL):
        raise InvalidTickError(f"an Arrow array of type {kind.format!r} has {array.n_buffers} buffers")
    if array.n_children != len(kind.children) or (array.n_children and array.children is NULL):
        raise InvalidTickError(
            f"an Arrow array of type {kind.format!r} has {array.n_children} children, its type has {len(kind.children)}")
    if (array.dictionary is NULL) != (kind.dictionary is None):
        raise InvalidTickError(f"an Arrow array of type {kind.format!r} and its type differ in whether they have a dictionary")
    made.owner, made.array, made.type = owner, array, kind
    return made
