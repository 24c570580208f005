from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t

from fastbars.kernel.batch cimport TickBatch
from fastbars.kernel.instruments cimport Instruments
from fastbars.kernel.ids cimport Ledger
from fastbars.kernel.rows cimport BarRows
from fastbars.kernel.scaled cimport int128
from fastbars.kernel.summary cimport Rule, Summary

cdef struct Next:           # what the next trade of an open time bar is like, where it changes nothing but its sums
    int64_t limit           # earlier than its close_time; LOWEST where each trade has to be looked at alone
    int64_t id              # the id after the newest one, be that of a trade or void; with last_time a ledger's tip

cdef union Gate:            # what a trade must not reach, to change nothing but the sums of the open bar
    Next next               # time bars
    int128 threshold        # volume and value bars: the step, at the symbol's scales

cdef struct Slot:           # one symbol and spec: its open bar, and where its closed ones are
    # Three 64-byte lines: an ordinary trade touches the first two, the gate and the first part of the bar.
    Gate gate
    Summary bar             # while no time bar is open, open_time == close_time == end of the last one
    int64_t contract        # of an inverse instrument: stands in for the price in quote sums; else 0
    int32_t oldest          # closed bars kept for amending: a list through Record.next; -1: none
    int32_t newest
    uint8_t flags           # of the open bar
    uint8_t fresh           # no bar yet
    uint8_t broken          # path-driven: trades are missing from here on
    int8_t price_scale      # of these bars; they follow the instrument's with the next batch
    int8_t size_scale
    int8_t quote_scale
    uint8_t unproven        # some closed bars wait for the next trade
    uint8_t contained       # of an open time bar: the bars of all specs that it feeds are open around it

cdef struct Past:           # the rest that is known of a symbol and spec, seldom read
    int64_t newest_ns       # of a root: latest time of the trades that its tree has placed, but for the open bar; of all:
                            # latest time of a void id
    int64_t start_ns        # open_time of the first bar
    int64_t lost_ns         # time of the last trade that was refused
    int64_t let_go_ns       # closed bars up to here were let go: their sums did not fit the new scales

cdef struct Record:         # a closed bar that can still be amended
    Summary bar
    int64_t lost            # trades of it that came too late
    int64_t missing         # as it was issued last
    int32_t next
    int32_t revision
    int32_t unpublished     # as it was issued last
    uint8_t status
    uint8_t reason
    uint8_t flags

cdef struct Tree:           # time specs whose intervals nest: the root takes the trades, the others its bars
    int root
    int start               # places in BarState.order, each spec behind the one that feeds it
    int stop

cdef class BarState(BarRows):
    cdef readonly Instruments instruments
    cdef readonly Ledger ledger     # None where ids prove nothing
    cdef readonly tuple specs
    cdef readonly int64_t next_close_ns     # no open time bar ends before
    cdef readonly int64_t duplicates
    cdef readonly int64_t voids     # rows of size 0 taken: their ids are used up, and nothing was traded
    cdef Rule *rules
    cdef list boundaries            # arrays that rules point into
    cdef int *order                 # the time specs, tree by tree, and in a tree each before those that it feeds
    cdef int *behind                # of each place in `order`: the first one behind all specs fed by the one there
    cdef int *source                # of each spec: the one whose closed bars are merged into it; -1: none
    cdef Tree *trees
    cdef int tree_count
    cdef Slot **slots               # [spec][symbol], on 64-byte lines
    cdef void **blocks              # the memory that they lie in
    cdef Past **pasts               # [spec][symbol]
    cdef Py_ssize_t symbols         # slots in use of each spec
    cdef Py_ssize_t capacity
    cdef int32_t *appeared          # symbols in order of their first trade
    cdef Py_ssize_t appeared_count
    cdef Record *records
    cdef int32_t record_count
    cdef int32_t records_held       # of them in use
    cdef Py_ssize_t record_capacity
    cdef int32_t free_record        # a list through Record.next
    cdef int64_t largest_contract   # 0: no instrument is inverse
    cdef Py_ssize_t widenings       # of the instruments' scales that the sums have followed
    cdef bint by_id                 # ids order the trades; else (time, arrival)
    cdef set unfit                  # symbols whose open bars cannot follow
    cdef object saved
    cdef int plant(self) except -1
    cdef int put_in_order(self, int spec, int place, list timed) except -1
    cdef bint blank                 # no trade was taken, and nothing noted
    cdef int grow(self, int spec, Py_ssize_t capacity) except -1
    cdef int set_up(self, Py_ssize_t start, Py_ssize_t stop) except -1
    cdef int reserve(self) except -1
    cdef int take_memory(self, dict parts) except -1
    cdef int take_threshold(self, int spec, Slot *slot) except -1
    cdef int take_scales(self, int spec, Py_ssize_t symbol_id) except -1
    cdef int rescale(self) except -1
    cdef bint rescale_symbol(self, Py_ssize_t symbol_id) except? False
    cdef bint total(self, int spec, Py_ssize_t symbol_id, Summary *bar) noexcept nogil
    cdef double largest(self) noexcept nogil
    cdef Py_ssize_t size(self) noexcept nogil
    cdef int save(self) except -1
    cdef int restore(self) except -1
    cdef int forget_saved(self) except -1
    cdef int32_t new_record(self) noexcept nogil
    cdef void free_record_at(self, int32_t record) noexcept nogil
    cdef void issue(self, int spec, int symbol_id, const Record *record, Py_ssize_t row) noexcept nogil
    cdef void make_room(self, TickBatch batch, Py_ssize_t more) noexcept nogil


cdef int64_t LONGEST_NS             # a hundred years
cdef bytes bytes_of(dict parts, str name)
cdef int64_t whole_number(dict parts, str name, object value) except? -1
cdef bint fits(const Summary *bar, int64_t price_factor) noexcept nogil
