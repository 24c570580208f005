/* The header of one WebSocket frame, as a client sees it.
 *
 * Source: https://datatracker.ietf.org/doc/html/rfc6455#section-5.2
 */
#ifndef FASTBARS_FRAMES_H
#define FASTBARS_FRAMES_H

#include <stdint.h>

enum {
    FB_CUT,   /* the header is not whole yet */
    FB_WHOLE, /* a message of its own: FIN, text or binary, unmasked, no reserved bit, length as short as it can be */
    FB_OTHER, /* control frame, fragment, compressed, or wrong: `websockets` decides */
};

typedef struct {
    uint8_t first;    /* FIN, reserved bits, opcode */
    uint8_t header;   /* bytes of it */
    uint64_t length;  /* of the payload */
} fb_frame;

static inline int fb_read_frame(const uint8_t *p, const uint8_t *end, fb_frame *frame) {
    if (end - p < 2)
        return FB_CUT;
    uint8_t first = p[0], second = p[1];
    int whole = first == 0x81 || first == 0x82;
    frame->first = first;
    if ((second & 0x80) || (first & 0x07) > 2) { /* masked, or a reserved opcode: no frame follows this one */
        frame->header = 2;
        frame->length = UINT64_MAX;
        return FB_OTHER;
    }
    frame->length = second;
    frame->header = 2;
    if (frame->length == 126) {
        if (end - p < 4)
            return FB_CUT;
        frame->header = 4;
        frame->length = (uint64_t)p[2] << 8 | p[3];
        whole &= frame->length >= 126;
    } else if (frame->length == 127) {
        if (end - p < 10)
            return FB_CUT;
        frame->header = 10;
        frame->length = 0;
        for (int i = 2; i < 10; i++)
            frame->length = frame->length << 8 | p[i];
        whole &= frame->length >= 65536;
    }
    return whole ? FB_WHOLE : FB_OTHER;
}

#endif
