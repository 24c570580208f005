from libc.stdint cimport int64_t, uint64_t

cdef extern from "int128.h" nogil:
    ctypedef struct int128 "fb_int128":
        uint64_t lo
        int64_t hi
    const int128 NOTHING "fb_nothing"
    bint add128 "fb_add"(int128 *acc, const int128 *b)
    bint add128_int64 "fb_add_int64"(int128 *acc, int64_t b)
    void add128_uint64 "fb_add_uint64"(int128 *acc, uint64_t b)
    bint add128_product "fb_add_product"(int128 *acc, int64_t a, int64_t b)
    bint scale128 "fb_scale"(int128 *acc, int64_t factor)
    bint less128 "fb_less"(const int128 *a, const int128 *b)
    int128 less_by128 "fb_less_by"(const int128 *a, int128 b)
    int64_t quotient128 "fb_quotient"(const int128 *a, int64_t b)
    ctypedef struct wide "fb_wide":     # a 128-bit sum in registers
        pass
    wide wide_zero "fb_wide_zero"()
    wide wide_product "fb_wide_product"(int64_t a, int64_t b)
    wide wide_sum "fb_wide_sum"(wide a, wide b)
    wide wide_difference "fb_wide_difference"(wide a, wide b)
    void add128_wide "fb_add_wide"(int128 *acc, wide b)
    double double128 "fb_double"(const int128 *a)
    int64_t floor_mod "fb_floor_mod"(int64_t a, int64_t n)
    void prefetch "FB_PREFETCH"(const void *address)

cdef extern from *:
    const int64_t LOWEST "INT64_MIN"
    const int64_t HIGHEST "INT64_MAX"


cdef inline int64_t magnitude(int64_t mantissa) noexcept nogil:
    # Without its sign. Of the lowest, which no number is read as, it is the highest.
    return mantissa if mantissa >= 0 else -max(mantissa, -HIGHEST)


cdef enum ParseStatus:
    PARSED
    MALFORMED
    TOO_MANY_DECIMALS
    TOO_LARGE

cdef extern from "kernel_limits.h" nogil:
    const int64_t *POWER_OF_TEN "fb_power_of_ten"   # up to that of MAX_SCALE

cdef extern from "decimal_text.h" nogil:
    enum:
        DECIMAL_ROOM "FB_DECIMAL_ROOM"      # bytes that `write_decimal` may write to
        MOST_DECIMALS "FB_MOST_DECIMALS"
    char *write_decimal "fb_write_decimal"(char *out, const int128 *value, int scale)   # returns its end

cdef enum:
    MOST_EXPONENT = 256         # of a Written, on either side of 0

cdef struct Written:            # a number as it was given
    int64_t mantissa
    int scale                   # the smallest that holds it
    int exponent                # of the Decimal that it is: "1.50" is 150 x 10**-2, and 15 at scale 1

cdef ParseStatus parse_text(const char *text, Py_ssize_t length, int64_t *mantissa, int *scale) noexcept nogil
cdef bint read_written(object value, Written *number) except -1
cdef object decimal_of_written(const Written *number)
cdef (int64_t, int) parse_number(object value) except *
cdef object decimal_of(const int128 *value, int scale)  # 0 <= scale <= MOST_DECIMALS
cdef object int128_to_int(const int128 *value)
cdef int int128_from_int(object value, int128 *result) except -1
