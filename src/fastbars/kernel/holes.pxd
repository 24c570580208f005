# Holes in the ids of one symbol: a tree in order of ids, so that none of them makes it dearer to find, open, fill or forget another.
#
# Each node also knows what is below it: how far its holes reach in time, and how many ids they are. So the holes that reach
# into a bar are found, and added up, without a look at the others. It is a treap: a node's place in memory decides how high
# it stands, as good as at random, which keeps the tree flat.
#
# Units: times int64 ns since the epoch, UTC.

from libc.stdint cimport int32_t, int64_t, uint8_t

cdef enum:                      # kinds of holes
    MISSING
    UNPUBLISHED                 # the exchange's history leaves these ids out, and nobody asks for them again
    SEAM                        # between two series: how many trades are missing there is not known

cdef struct Hole:               # ids first..last have not been seen; they traded between two times
    int64_t first
    int64_t last
    int64_t since_ns            # time of the trade before the hole
    int64_t until_ns            # time of the trade behind it
    int64_t safe_ns             # no bar that closes later had been let go when it was opened
    int64_t kind

cdef struct Node:
    Hole hole
    int64_t since_ns            # of this hole and all below it: the earliest time that one reaches
    int64_t until_ns            # and the latest
    int64_t missing             # ids
    int64_t unpublished
    int32_t left                # -1: none; of an unused node, the next one
    int32_t right
    uint8_t kinds               # 1 << kind of each

cdef struct Holes:
    Node *nodes
    int32_t root                # -1: there are none
    int32_t free                # unused nodes: a list through Node.left; -1: none
    int32_t count
    int32_t capacity

cdef struct Reaching:           # what the holes come to that reach into a bar
    int64_t missing
    int64_t unpublished
    bint lacking                # some are not of unpublished ids
    bint known                  # none of these reaches over the border of the bar
    bint published              # nor one of unpublished ids


cdef void begin_holes(Holes *holes) noexcept nogil
cdef int32_t find_hole(const Holes *holes, int64_t first) noexcept nogil
cdef bint insert_hole(Holes *holes, Hole hole) noexcept nogil
cdef void replace_hole(Holes *holes, int64_t first, const Hole *hole) noexcept nogil
cdef void remove_hole(Holes *holes, int64_t first) noexcept nogil
cdef int32_t oldest_hole(const Holes *holes, uint8_t kinds) noexcept nogil
cdef bint any_reaches(const Holes *holes, int64_t open_time, int64_t close_time) noexcept nogil
cdef void add_reaching(
    const Holes *holes, int64_t open_time, int64_t close_time, int64_t below, Reaching *found) noexcept nogil
cdef void lower_ids(Holes *holes, int64_t by, int64_t lowest) noexcept nogil
cdef void list_holes(const Holes *holes, Hole *listed) noexcept nogil
cdef bint copy_holes(Holes *copy, const Holes *holes) noexcept nogil


cdef inline uint8_t kinds_of(const Holes *holes) noexcept nogil:
    return 0 if holes.root < 0 else holes.nodes[holes.root].kinds
