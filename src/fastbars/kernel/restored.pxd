from libc.stdint cimport int64_t

from fastbars.kernel.table cimport BarTable

cdef int check_bars(BarTable bars) except -1
cdef int check_times(BarTable bars, int64_t arrivals, int64_t healed) except -1
cdef int follow_scales(BarTable bars) except -1
# After a restart: above all that the process before may have issued since the snapshot.
cdef void raise_revisions(BarTable bars) noexcept
