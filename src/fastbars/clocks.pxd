from libc.stdint cimport int64_t

cpdef int64_t steady_ns() except? -1
cpdef int64_t wall_ns() except? -1
