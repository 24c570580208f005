# What is inside a bar beyond its summary, of specs that ask for it: the levels of its footprint, and its flow.
#
# It is kept beside the slots and records, by their numbers, so that other specs pay nothing for it. A spec with features is a
# tree of its own, and each of its trades is added here where it is added to its bar: a bar and what is inside it are always
# of the same trades.
#
# Units: prices and sizes mantissas at the scales of the bar; level n covers prices from n to below n + 1 times the step.

from libc.stdint cimport int32_t, int64_t, uint32_t, uint8_t

from fastbars.kernel.passes cimport Columns
from fastbars.kernel.rows cimport Rows
from fastbars.kernel.scaled cimport int128
from fastbars.kernel.summary cimport Summary

cdef struct Feature:            # what a spec asks for
    bint asked
    bint flow
    int64_t step                # of a level: mantissa, and its decimals; 0: no footprint
    int step_scale

cdef struct Level:              # one price level of a bar
    int64_t number
    int128[3] volumes           # of trades whose taker sold, of unknown side, whose taker bought
    int32_t below               # the next lower one of the bar, -1: none; of an unused one the next unused
    int32_t above

cdef struct Detail:             # of a bar with trades
    uint32_t[8] squares         # sum of price x price x size, which 253 bits hold wherever a bar does; lowest part first
    int128 delta                # volume bought less volume sold
    int128 highest              # the largest and smallest that delta was, behind any of the trades in order
    int128 lowest
    int64_t order               # of the latest trade: its id, or its time where ids do not order them
    int32_t level               # that of the last trade added; -1: there is none. Of an unused one: the next unused
    int32_t levels              # how many
    uint8_t lost                # it has more levels than are kept, and none of them is
    uint8_t unordered           # a trade came that does not follow the one before it: highest and lowest are not known
    uint8_t[6] unused           # 0

cdef struct Inside:
    Feature *features           # [spec]; NULL: no spec asks for anything
    int specs
    Detail *details
    int32_t detail_count
    int32_t free_detail
    Py_ssize_t detail_capacity
    Level *levels
    int32_t level_count
    int32_t free_level
    Py_ssize_t level_capacity
    int32_t **of_slots          # [spec][symbol]: the Detail of its open bar, -1: none; NULL of specs without features
    int32_t *of_records         # [record]
    Py_ssize_t records          # that `of_records` knows
    int64_t lost                # bars whose levels became too many


cdef inline bint asks_inside(const Inside *inside, int spec) noexcept nogil:
    return inside.features is not NULL and inside.features[spec].asked


cdef inline int32_t inside_of_record(const Inside *inside, Py_ssize_t r) noexcept nogil:
    return inside.of_records[r] if r < inside.records else -1


# Adds the trade at a row to the Detail whose number is at `place`, and makes one where there is none. `first` and `last`: its
# ids or its time, by which it stands among the trades of its bar. False: there is no memory.
cdef bint add_inside(
    Inside *inside, int spec, int32_t *place, const Columns *batch, Py_ssize_t row, int price_scale, int64_t first,
    int64_t last
) noexcept nogil
# Where the number of a record's Detail is kept; NULL: there is no memory.
cdef int32_t *place_of_record(Inside *inside, Py_ssize_t r) noexcept nogil
cdef void release_inside(Inside *inside, int32_t *place) noexcept nogil
cdef void widen_inside(Inside *inside, int32_t d, int64_t price_factor, int64_t size_factor) noexcept nogil
# Shows what is inside the bar of the row that was issued last. `d` -1: it has no trades.
cdef void show_inside(const Inside *inside, int spec, int32_t d, Rows *rows) noexcept nogil

cdef int begin_inside(Inside *inside, tuple specs) except -1
cdef int grow_inside(Inside *inside, int spec, Py_ssize_t symbols, Py_ssize_t capacity) except -1
cdef void clear_inside(Inside *inside, Py_ssize_t symbols) noexcept
cdef void free_inside(Inside *inside) noexcept
# Of a snapshot: whether a Detail is what the trades of a bar with these sums can come to; marks its levels, and it, in `seen`.
cdef bint is_sound_inside(
    const Inside *inside, int spec, int32_t d, const Summary *bar, uint8_t *details, uint8_t *levels
) noexcept nogil
# All that is not marked is unused.
cdef void unuse_others(Inside *inside, const uint8_t *details, const uint8_t *levels) noexcept nogil
cdef dict copy_inside(const Inside *inside, Py_ssize_t symbols)
cdef int put_inside(Inside *inside, dict parts, Py_ssize_t symbols) except -1
