from libc.stdint cimport int8_t, int32_t, int64_t

cdef enum:
    MOST_WAITING = 16           # trades that may begin a new series, of a symbol
    MOST_SERIES = 16            # older series that are told apart, of a symbol

cdef struct Waiting:            # a trade that may begin a new series: its row, at the scales of its symbol's bars
    int64_t first               # what the ledger counts
    int64_t last
    int64_t time_ns
    int64_t price
    int64_t size
    int64_t first_id
    int64_t last_id
    int64_t count
    int64_t arrival
    int32_t symbol_id
    int8_t side
    int8_t price_scale          # of a stray: its own
    int8_t size_scale

cdef struct Series:             # an older one. Its ids are kept as keys, below those of all later series
    int64_t offset              # id - key
    int64_t limit               # the highest key that it can have
    int64_t bar_offset          # likewise, of the ids in bars, where the ledger counts messages
    int64_t bar_limit
    int64_t since_ns            # time of its first trade; LOWEST of the symbol's first series
    int64_t newest_ns           # time of its newest id

cdef struct Anew:               # a symbol whose ids began anew, or may be about to
    int64_t since_ns            # time of the first trade of its latest series; LOWEST where it has had only one
    int64_t safe_ns             # as in Hole: when the first of the waiting trades came
    int64_t number              # how many series of all symbols had begun anew with its latest
    int64_t old_id              # the newest id before, and the first one of the latest series
    int64_t new_id
    int32_t passed              # trades of the old series that have come since
    int32_t waiting_count
    int32_t series_count
    Series[MOST_SERIES] series  # the oldest first
    Waiting[MOST_WAITING] waiting   # by id

cdef struct Renewed:            # all of those symbols
    Anew **of                   # [symbol], mostly NULL
    int32_t count               # that are not
    int32_t waiting             # symbols with trades that wait
    int64_t begun               # how often the ids of a symbol began anew
    Waiting *strays             # trades that waited in vain, or too long, since the last take
    Py_ssize_t stray_count
    Py_ssize_t stray_capacity


cdef inline Anew *anew_of(const Renewed *renewed, int32_t symbol_id) noexcept nogil:
    return renewed.of[symbol_id] if renewed.count else NULL


cdef inline bint is_waiting(const Renewed *renewed, int32_t symbol_id) noexcept nogil:
    return renewed.waiting and renewed.of[symbol_id] is not NULL and renewed.of[symbol_id].waiting_count > 0


cdef Anew *new_anew(Renewed *renewed, int32_t symbol_id) noexcept nogil     # NULL: there is no memory
cdef bint add_stray(Renewed *renewed, Waiting stray) noexcept nogil         # False: likewise
cdef int64_t id_of_key(const Renewed *renewed, int32_t symbol_id, int64_t key) noexcept nogil
cdef bint is_sound(const Anew *anew, Py_ssize_t symbol_id) noexcept nogil
cdef void free_all(Anew **anew, Py_ssize_t symbols) noexcept
