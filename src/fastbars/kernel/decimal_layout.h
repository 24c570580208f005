/* The value of a Decimal, read where CPython keeps it: text is the only other way, and takes ten times as long.
 *
 * Source: PyDecObject in Modules/_decimal/_decimal.c and mpd_t in libmpdec/mpdecimal.h, CPython 3.11 to 3.14, 64 bits.
 * Nobody has promised that layout: `scaled.pyx` tries it when it is imported, and goes by text where it is another one.
 * Only bytes inside the object are read, and no pointer is followed.
 */
#ifndef FASTBARS_DECIMAL_LAYOUT_H
#define FASTBARS_DECIMAL_LAYOUT_H

#include <Python.h>
#include <stdint.h>

#define FB_NEGATIVE 1
#define FB_NOT_FINITE (2 | 4 | 8)

typedef struct {
    PyObject_HEAD
    Py_hash_t hash;
    uint8_t flags;
    int64_t exponent;
    int64_t digits;
    int64_t length; /* words in use, of 19 digits each */
    int64_t allocated;
    const uint64_t *data; /* `words`, unless they were too few */
    uint64_t words[4];
} fb_decimal;

/* 0: it is not finite, or has more digits than one word. */
static inline int fb_read_decimal(PyObject *value, uint64_t *coefficient, int64_t *exponent, int *negative) {
    const fb_decimal *own = (const fb_decimal *)value;
    if (own->flags & FB_NOT_FINITE || own->length != 1 || own->data != own->words)
        return 0;
    *coefficient = own->words[0];
    *exponent = own->exponent;
    *negative = own->flags & FB_NEGATIVE;
    return 1;
}

#endif
