from libc.stdint cimport int8_t, int64_t

from fastbars.kernel.scaled cimport Written

cdef enum TickState:
    BLANK                       # not initialised
    IN_FIELDS
    AS_OBJECTS                  # something in it fits no C field

cdef struct TickFields:
    int64_t time_ns
    Written price
    Written size
    int64_t first_id
    int64_t last_id
    int64_t count
    int8_t side
    bint has_first_id
    bint has_last_id

cdef class TickData:
    cdef readonly object symbol
    cdef TickFields fields      # where the state is IN_FIELDS
    cdef TickState state
    cdef object price_given     # the Decimals, once they were given or asked for
    cdef object volume_given
    cdef tuple given            # the values of all fields where the state is AS_OBJECTS
    cdef object as_object(self, int place)
