cdef extern from * nogil:
    """
    #include "structmember.h"
    #define fb_slot_offset(descriptor) (((PyMemberDescrObject *)(descriptor))->d_member->offset)
    """
    # Where the objects of a class have a slot, of its member descriptor.
    Py_ssize_t slot_offset "fb_slot_offset" (object)
