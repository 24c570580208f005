from libc.stdint cimport int64_t

from fastbars.kernel.amend cimport BarRecords

cdef int check_bars(BarRecords kernel) except -1
cdef int check_times(
    BarRecords kernel, int64_t watermark_ns, int64_t down_since_ns, int64_t down_until_ns, int64_t arrivals, int64_t healed
) except -1
cdef int follow_scales(BarRecords kernel) except -1
