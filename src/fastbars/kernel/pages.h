/* Large blocks of memory. */
#ifndef FASTBARS_PAGES_H
#define FASTBARS_PAGES_H

#include <stddef.h>
#include <stdint.h>

#if defined(__linux__)
#include <sys/mman.h>
#endif

/* Asks for large pages where they are worth it: to be given a page of 4 KiB costs up to two microseconds. */
static inline void fb_use_large_pages(void *memory, size_t size) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    const size_t least = (size_t)4 << 20, page = 4096;
    size_t before = (page - (size_t)memory % page) % page;
    if (size >= least) madvise((char *)memory + before, (size - before) / page * page, MADV_HUGEPAGE);
#else
    (void)memory;
    (void)size;
#endif
}

/* The contents of these pages are of no use any more. They stay with this process, so that writing to them costs nothing, until
   the operating system needs them for something else. False: it cannot be told so. */
static inline int fb_offer_pages(void *memory, size_t size) {
#if defined(__linux__) && defined(MADV_FREE)
    const size_t page = 4096;
    size_t before = (page - (size_t)memory % page) % page;
    return size < page || madvise((char *)memory + before, (size - before) / page * page, MADV_FREE) == 0;
#else
    (void)memory;
    (void)size;
    return 0;
#endif
}

#endif
