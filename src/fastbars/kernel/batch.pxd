from libc.stdint cimport int8_t, int32_t, int64_t

from fastbars.kernel.instruments cimport Instruments, Scale
from fastbars.kernel.limits cimport is_time
from fastbars.kernel.scaled cimport HIGHEST

# Integers between these are looked at: fastbars.times tells what unit they seem to have.
cdef int64_t SMALLEST_DOUBTFUL
cdef int64_t LARGEST_DOUBTFUL

cdef enum:
    BYTES_A_ROW = 64            # of all columns

cdef struct Rules:              # what the rows of a batch must keep to
    Py_ssize_t symbols          # ids from here on are unknown
    int64_t largest_contract    # 0: no instrument is inverse
    bint by_id                  # ids tell: a row of size 0 is void, else it breaks a rule
    bint negative_prices        # prices may be zero or negative

cdef class TickBatch:
    # Columns, one entry a trade; a NULL column was not given.
    cdef int64_t *time_ns
    cdef int32_t *symbol_id
    cdef int64_t *price
    cdef int64_t *size
    cdef int8_t *side
    cdef int64_t *first_id
    cdef int64_t *last_id
    cdef int64_t *count
    cdef int64_t *sequence
    cdef readonly Py_ssize_t length
    cdef Py_ssize_t capacity
    # The scales that the rows are written with: those of the instruments at this version of them, but for those symbols
    # that have one of their own here; see scale_of.
    cdef int version
    cdef Scale *own_scales      # by symbol; OF_INSTRUMENT where a symbol has none
    cdef int32_t *own_symbols   # those that have one
    cdef Py_ssize_t own_count   # how many do; 0: all rows are at the instruments' scales
    cdef Py_ssize_t own_capacity    # symbols that both have room for
    cdef bint borrows           # the memory is the caller's, who may change it at any time
    cdef bint folding           # a kernel reads it, without the interpreter lock
    cdef readonly Instruments instruments
    cdef dict _columns          # name -> ndarray that owns the memory
    cdef TickBatch own_copy(self)
    cdef void copy_rows(self, TickBatch batch, char *memory) noexcept
    cdef int catch_up(self) except -1
    cdef int set_scale(self, int symbol_id, Scale scale) except -1
    cdef bint rescale(self, int symbol_id, Scale scale) except -1
    cdef bint bring(self, int symbol_id, int64_t *price, int64_t *size, Scale scale) except -1
    cdef int take_scales(self, TickBatch batch) except -1
    cdef int note_traded(self) except -1
    cdef int count_by_ids(self) except -1
    cdef int check_unused(self) except -1
    cdef int _reserve(self, Py_ssize_t rows) except -1
    cdef double check(self, Rules rules, int64_t *largest_size, bint *voids) noexcept nogil
    cdef bint has_flaw(self, bint by_id) noexcept nogil
    cdef double check_row(self, Rules rules, int64_t *largest_size, bint *voids) noexcept nogil
    cdef bint lacks_size(self, const int32_t *places, Py_ssize_t start, Py_ssize_t stop) noexcept nogil
    cdef int64_t count_voids(self, const int32_t *places, Py_ssize_t start, Py_ssize_t stop) noexcept nogil
    cdef bint is_valid(self, Py_ssize_t row, Py_ssize_t symbols) noexcept nogil
    cdef int refuse(self, Rules rules) except -1
    cdef int _attach(self) except -1
    cdef int no_room(self, int symbol_id, Scale scale, int64_t price, int64_t size, object price_given,
                     object size_given) except -1
    cdef int64_t time_of(self, str symbol, object time_ns, object time_unit) except? -1
    cdef int append_trade(self, str symbol, int64_t time, object price, object size, int sign, object first_id,
                          object last_id, object count, object sequence) except -1
    cpdef int append(self, str symbol, object time_ns, object price, object size, object side=*,
                     object first_id=*, object last_id=*, object count=*, object sequence=*, object time_unit=*) except -1

cdef enum:
    OF_INSTRUMENT = -1          # in TickBatch.own_scales: a symbol's rows are at the instruments' scale


cdef inline Scale scale_of(TickBatch batch, int symbol_id) noexcept nogil:
    # Of the rows of a symbol that the instruments know, in a batch that has caught up.
    if batch.own_count and symbol_id < batch.own_capacity and batch.own_scales[symbol_id].price != OF_INSTRUMENT:
        return batch.own_scales[symbol_id]
    return batch.instruments.table[symbol_id].scale


cdef inline void forget_scales(TickBatch batch) noexcept nogil:
    # Those that only rows had. Not all symbols are looked at: there can be far more than rows.
    while batch.own_count:
        batch.own_count -= 1
        batch.own_scales[batch.own_symbols[batch.own_count]].price = OF_INSTRUMENT


cdef inline void begin(TickBatch batch) noexcept:
    # No rows, and none of the scales that only rows had.
    batch.length = 0
    forget_scales(batch)
    batch.version = batch.instruments.version


cdef int sign_of(object label, object side) except -2


cdef inline void write_row(
    TickBatch batch, Py_ssize_t row, int32_t symbol_id, int64_t time_ns, int64_t price, int64_t size, int8_t side,
    int64_t first_id, int64_t last_id, int64_t count, int64_t sequence
) noexcept nogil:
    # Where every row is written, behind all others: into the columns that the batch has. There is room for it, and the
    # mantissas are at the scale of its symbol.
    batch.time_ns[row] = time_ns
    batch.symbol_id[row] = symbol_id
    batch.price[row] = price
    batch.size[row] = size
    if batch.side is not NULL:
        batch.side[row] = side
    if batch.first_id is not NULL:
        batch.first_id[row] = first_id
        batch.last_id[row] = last_id
    if batch.count is not NULL:
        batch.count[row] = count
    if batch.sequence is not NULL:
        batch.sequence[row] = sequence
    batch.length = row + 1


cdef inline bint is_known(
    int32_t symbol_id, Py_ssize_t symbols, int64_t time_ns, int64_t first_id, int64_t last_id
) noexcept nogil:
    # What a trade that is the next one of an open bar need not be asked for: symbol, time and ids are some that there are.
    return 0 <= symbol_id < symbols and is_time(time_ns) and first_id >= 0 and last_id < HIGHEST


cdef inline bint is_doubtful(int64_t time_ns) noexcept nogil:
    # What `fastbars.times.check_unit` has to look at; times of today lie far beyond.
    return SMALLEST_DOUBTFUL <= time_ns <= LARGEST_DOUBTFUL
