# Groups of symbols for which time passes together: those that the same connections carry.
#
# Each symbol is in one group, 0 where nobody says otherwise, and can move at any time. What one group's watermark or clock
# closes costs nothing in the others. A symbol's event time never falls: where it moves to a group that is behind, the
# watermark that it has seen stays its floor.
#
# Units: times int64 ns since the epoch, UTC.

from libc.stdint cimport int32_t, int64_t, uint8_t

from fastbars.kernel.scaled cimport HIGHEST, LOWEST

cdef enum:
    MOST_GROUPS = 1 << 20

cdef struct Group:
    int64_t watermark_ns    # LOWEST before the first
    int64_t next_close_ns   # no open time bar of its symbols ends before
    int32_t first           # its symbols that traded, in the order of their first trades: a list through Member.next; -1: none
    int32_t last

cdef struct Member:         # a symbol
    int64_t floor_ns        # the latest watermark that it has seen in other groups
    int32_t group
    int32_t next            # -1: none
    uint8_t held            # trades of it wait elsewhere for earlier ones: no time passes for it
    uint8_t[7] unused

cdef struct Groups:
    Group *items
    Py_ssize_t count
    Member *members         # [symbol]
    bint unlinked           # the lists are to be made anew


cdef inline int64_t watermark_of(const Groups *groups, Py_ssize_t symbol_id) noexcept nogil:
    cdef const Member *member = &groups.members[symbol_id]
    return max(groups.items[member.group].watermark_ns, member.floor_ns)


cdef inline void expect_close(Groups *groups, Py_ssize_t symbol_id, int64_t close_time) noexcept nogil:
    # Something of this symbol is to be closed, or issued, once time has passed `close_time`.
    cdef Group *group = &groups.items[groups.members[symbol_id].group]
    group.next_close_ns = min(group.next_close_ns, close_time)


cdef inline void append_member(Groups *groups, int32_t symbol_id) noexcept nogil:
    # It has traded for the first time.
    cdef Group *group = &groups.items[groups.members[symbol_id].group]
    groups.members[symbol_id].next = -1
    if group.last < 0:
        group.first = symbol_id
    else:
        groups.members[group.last].next = symbol_id
    group.last = symbol_id


cdef inline void link_members(Groups *groups, const int32_t *appeared, Py_ssize_t count) noexcept nogil:
    cdef Py_ssize_t i
    groups.unlinked = False
    for i in range(groups.count):
        groups.items[i].first = groups.items[i].last = -1
    for i in range(count):
        append_member(groups, appeared[i])


cdef inline int64_t earliest_close(const Groups *groups) noexcept nogil:
    cdef int64_t earliest = HIGHEST
    cdef Py_ssize_t i
    for i in range(groups.count):
        earliest = min(earliest, groups.items[i].next_close_ns)
    return earliest


cdef inline void expect_all_at_once(Groups *groups, int64_t close_time) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(groups.count):
        groups.items[i].next_close_ns = close_time
