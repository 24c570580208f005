from libc.stdint cimport int8_t, int32_t, int64_t

from fastbars.kernel.instruments cimport Instruments
from fastbars.kernel.scaled cimport HIGHEST

# Years 1824 to 2115: every interval that holds such a time (100 years at most), and the difference of any two such
# times, lie within int64 nanoseconds.
cdef extern from * nogil:
    """
    #define FASTBARS_LATEST_NS 4600000000000000000LL
    """
    const int64_t LATEST_NS "FASTBARS_LATEST_NS"
    const int64_t EARLIEST_NS "-FASTBARS_LATEST_NS"

# Those of fastbars.times.
cdef extern from * nogil:
    """
    #define FASTBARS_SMALLEST_DOUBTFUL 631152000LL
    #define FASTBARS_LARGEST_DOUBTFUL 4102444800000000LL
    """
    const int64_t SMALLEST_DOUBTFUL "FASTBARS_SMALLEST_DOUBTFUL"
    const int64_t LARGEST_DOUBTFUL "FASTBARS_LARGEST_DOUBTFUL"

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
    cdef readonly int rescaled  # instruments.rescaled that the mantissas of these rows stand for
    cdef Py_ssize_t capacity
    cdef bint borrows           # the memory is the caller's, who may change it at any time
    cdef bint folding           # a kernel reads it, without the interpreter lock
    cdef readonly Instruments instruments
    cdef dict _columns          # name -> ndarray that owns the memory
    cdef TickBatch own_copy(self)
    cdef void copy_rows(self, TickBatch batch, char *memory) noexcept
    cdef void _note_largest(self) noexcept
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
    cdef int _fit(self, int symbol_id, int64_t *price, int price_scale, int64_t *size, int size_scale,
                  object price_given, object size_given) except -1
    cdef int64_t time_of(self, str symbol, object time_ns, object time_unit) except? -1
    cdef int append_trade(self, str symbol, int64_t time, object price, object size, int sign, object first_id,
                          object last_id, object count, object sequence) except -1
    cpdef int append(self, str symbol, object time_ns, object price, object size, object side=*,
                     object first_id=*, object last_id=*, object count=*, object sequence=*, object time_unit=*) except -1

cdef int sign_of(object label, object side) except -2


cdef inline bint is_known(
    int32_t symbol_id, Py_ssize_t symbols, int64_t time_ns, int64_t first_id, int64_t last_id
) noexcept nogil:
    # What a trade that is the next one of an open bar need not be asked for: symbol, time and ids are some that there are.
    return 0 <= symbol_id < symbols and EARLIEST_NS <= time_ns <= LATEST_NS and first_id >= 0 and last_id < HIGHEST


cdef inline bint is_doubtful(int64_t time_ns) noexcept nogil:
    # What `fastbars.times.check_unit` has to look at; times of today lie far beyond.
    return SMALLEST_DOUBTFUL <= time_ns <= LARGEST_DOUBTFUL
