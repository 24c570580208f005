"""What is inside bars: adding trades to it, showing it in issued rows, and its memory.

The levels of a bar are a list in the order of prices, entered at the level of the last trade: the next trade is nearly always
at that level or beside it. Lists of all bars lie in one table, so that they are copied, saved and restored as they are.

Units: as in inside.pxd.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t, uint8_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset

from fastbars.kernel.limits cimport MAX_SCALE, MOST_LEVELS
from fastbars.kernel.passes cimport Columns
from fastbars.kernel.rows cimport Rows, Shown, ShownLevel, ShownTable, grow_table
from fastbars.kernel.scaled cimport (
    HIGHEST, LOWEST, NOTHING, POWER_OF_TEN, add128, add128_int64, add128_product, int128, less128, magnitude,
    parse_number, scale128,
)
from fastbars.kernel.summary cimport Summary

from fastbars.errors import SpecError as _SpecError

cdef enum:
    MOST_ALL_LEVELS = 1 << 24       # of all bars of a kernel: 1 GiB
    MOST_NUMBER = 1 << 30           # in a snapshot

assert sizeof(Level) == 64


cdef int begin_inside(Inside *inside, tuple specs) except -1:
    # Reads what the specs ask for. A spec may be any object.
    cdef int k
    inside.specs = <int>len(specs)
    inside.free_detail = inside.free_level = -1
    if not any(getattr(spec, "features", ()) for spec in specs):
        return 0
    inside.features = <Feature *>calloc(inside.specs, sizeof(Feature))
    inside.of_slots = <int32_t **>calloc(inside.specs, sizeof(int32_t *))
    if inside.features is NULL or inside.of_slots is NULL:
        raise MemoryError
    for k, spec in enumerate(specs):
        for feature in getattr(spec, "features", ()):
            name, _, step = str(feature).partition(":")
            if name == "flow":
                inside.features[k].flow = True
            elif name == "footprint":
                inside.features[k].step, inside.features[k].step_scale = parse_number(step)
                if inside.features[k].step <= 0:
                    raise _SpecError(f"bar spec {spec}: the levels of a footprint have no step {step}")
            else:
                raise _SpecError(f"bar spec {spec}: the kernel knows no feature {feature!r}")
            inside.features[k].asked = True
    return 0


cdef int grow_inside(Inside *inside, int spec, Py_ssize_t symbols, Py_ssize_t capacity) except -1:
    # Room for so many symbols; `symbols` of them are there.
    cdef int32_t *grown
    cdef Py_ssize_t s
    if not asks_inside(inside, spec):
        return 0
    grown = <int32_t *>malloc(capacity * sizeof(int32_t))
    if grown is NULL:
        raise MemoryError
    for s in range(capacity):
        grown[s] = inside.of_slots[spec][s] if s < symbols else -1
    free(inside.of_slots[spec])
    inside.of_slots[spec] = grown
    return 0


cdef void clear_inside(Inside *inside, Py_ssize_t symbols) noexcept:
    # Nothing is inside any bar.
    cdef Py_ssize_t i
    cdef int k
    inside.detail_count = inside.level_count = 0
    inside.lost = 0
    inside.free_detail = inside.free_level = -1
    for i in range(inside.records):
        inside.of_records[i] = -1
    for k in range(inside.specs):
        if asks_inside(inside, k):
            for i in range(symbols):
                inside.of_slots[k][i] = -1


cdef void free_inside(Inside *inside) noexcept:
    cdef int k
    if inside.of_slots is not NULL:
        for k in range(inside.specs):
            free(inside.of_slots[k])
    free(inside.of_slots)
    free(inside.features)
    free(inside.details)
    free(inside.levels)
    free(inside.of_records)


cdef int32_t *place_of_record(Inside *inside, Py_ssize_t r) noexcept nogil:
    cdef Py_ssize_t before = inside.records, i
    if r >= inside.records:
        if not grow_table(<void **>&inside.of_records, &inside.records, sizeof(int32_t), r + 1):
            return NULL
        for i in range(before, inside.records):
            inside.of_records[i] = -1
    return &inside.of_records[r]


# Levels.

cdef int32_t _new_detail(Inside *inside) noexcept nogil:
    cdef int32_t d = inside.free_detail
    cdef Detail *detail
    if d >= 0:
        inside.free_detail = inside.details[d].level
    elif inside.detail_count < inside.detail_capacity or grow_table(
        <void **>&inside.details, &inside.detail_capacity, sizeof(Detail), 0
    ):
        d = inside.detail_count
        inside.detail_count += 1
    else:
        return -1
    detail = &inside.details[d]
    memset(detail, 0, sizeof(Detail))
    detail.level = -1
    detail.order = LOWEST
    return d


cdef void _free_levels(Inside *inside, Detail *detail) noexcept nogil:
    # From the lowest up: one becomes the next unused of the other.
    cdef int32_t at = detail.level, above
    if at >= 0:
        while inside.levels[at].below >= 0:
            at = inside.levels[at].below
    while at >= 0:
        above = inside.levels[at].above
        inside.levels[at].below = inside.free_level
        inside.free_level = at
        at = above
    detail.level = -1
    detail.levels = 0


cdef void release_inside(Inside *inside, int32_t *place) noexcept nogil:
    cdef int32_t d = place[0]
    if d < 0:
        return
    _free_levels(inside, &inside.details[d])
    inside.details[d].level = inside.free_detail
    inside.details[d].order = LOWEST
    inside.free_detail = d
    place[0] = -1


cdef bint _number_of(const Feature *feature, int64_t price, int price_scale, int64_t *number) noexcept nogil:
    # Of the level of a price: the largest whole number of steps that is not above it. False: it does not fit.
    cdef int shift = feature.step_scale - price_scale
    cdef int64_t step = feature.step
    if shift > 0:
        if shift > MAX_SCALE or magnitude(price) > HIGHEST // POWER_OF_TEN[shift]:
            return False
        price *= POWER_OF_TEN[shift]
    elif step > HIGHEST // POWER_OF_TEN[-shift]:
        number[0] = -1 if price < 0 else 0      # the step is larger than any price
        return True
    else:
        step *= POWER_OF_TEN[-shift]
    number[0] = price // step if price >= 0 else -1 - (-1 - price) // step
    return True


cdef int32_t _level_at(Inside *inside, Detail *detail, int64_t number) noexcept nogil:
    # That of this number, made where there is none. -1: there is no room for it, -2: no memory.
    cdef int32_t at = detail.level, below = -1, above = -1, made
    while at >= 0 and inside.levels[at].number < number:
        below, at = at, inside.levels[at].above
    if at < 0 or inside.levels[at].number > number:
        # Behind `below`, or from `at` down.
        while at >= 0 and inside.levels[at].number > number:
            above, at = at, inside.levels[at].below
        if at >= 0 and inside.levels[at].number == number:
            return at
        if at >= 0:
            below = at
        if detail.levels >= MOST_LEVELS:
            return -1
        made = inside.free_level
        if made >= 0:
            inside.free_level = inside.levels[made].below
        elif inside.level_count >= MOST_ALL_LEVELS:
            return -1
        elif inside.level_count < inside.level_capacity or grow_table(
            <void **>&inside.levels, &inside.level_capacity, sizeof(Level), 0
        ):
            made = inside.level_count
            inside.level_count += 1
        else:
            return -2
        memset(&inside.levels[made], 0, sizeof(Level))
        inside.levels[made].number = number
        inside.levels[made].below = below
        inside.levels[made].above = above
        if below >= 0:
            inside.levels[below].above = made
        if above >= 0:
            inside.levels[above].below = made
        detail.levels += 1
        return made
    return at


cdef void _add_product(uint32_t *sum, int128 square, uint64_t size) noexcept nogil:
    # In parts of 32 bits, as one multiplies by hand: no compiler has 256 bits.
    cdef uint64_t[4] parts
    cdef uint64_t carry, low = size & 0xFFFFFFFFU, high = size >> 32
    cdef uint64_t[2] factors
    cdef int i, j
    parts[0], parts[1] = square.lo & 0xFFFFFFFFU, square.lo >> 32
    parts[2], parts[3] = <uint64_t>square.hi & 0xFFFFFFFFU, <uint64_t>square.hi >> 32
    factors[0], factors[1] = low, high
    for j in range(2):
        carry = 0
        for i in range(j, 8):
            carry += sum[i]
            if i - j < 4:
                # At most (2**32 - 1)**2 + 2 * (2**32 - 1), which 64 bits hold.
                carry += parts[i - j] * factors[j]
            sum[i] = <uint32_t>carry
            carry >>= 32


cdef void _multiply(uint32_t *sum, int64_t factor) noexcept nogil:
    cdef uint32_t[8] before
    cdef uint64_t carry, low = <uint64_t>factor & 0xFFFFFFFFU, high = <uint64_t>factor >> 32
    cdef int i
    memcpy(before, sum, sizeof(before))
    carry = 0
    for i in range(8):
        carry += before[i] * low
        sum[i] = <uint32_t>carry
        carry >>= 32
    carry = 0
    for i in range(1, 8):
        carry += before[i - 1] * high + sum[i]
        sum[i] = <uint32_t>carry
        carry >>= 32


cdef bint add_inside(
    Inside *inside, int spec, int32_t *place, const Columns *batch, Py_ssize_t row, int price_scale, int64_t first,
    int64_t last
) noexcept nogil:
    cdef const Feature *feature = &inside.features[spec]
    cdef Detail *detail
    cdef int64_t price = batch.price[row], size = batch.size[row], number
    cdef int side = batch.side[row & batch.side_mask]
    cdef int128 square = NOTHING
    cdef int32_t at
    if place[0] < 0:
        place[0] = _new_detail(inside)
        if place[0] < 0:
            return False
    detail = &inside.details[place[0]]
    if feature.step and not detail.lost:
        at = _level_at(inside, detail, number) if _number_of(feature, price, price_scale, &number) else -1
        if at == -2:
            return False
        if at < 0:
            _free_levels(inside, detail)
            detail.lost = 1
            inside.lost += 1
        else:
            detail.level = at
            add128_int64(&inside.levels[at].volumes[side + 1], size)
    if feature.flow:
        add128_int64(&detail.delta, side * size)
        if detail.order == LOWEST or less128(&detail.highest, &detail.delta):
            detail.highest = detail.delta
        if detail.order == LOWEST or less128(&detail.delta, &detail.lowest):
            detail.lowest = detail.delta
        detail.unordered |= first < detail.order
        add128_product(&square, price, price)
        _add_product(detail.squares, square, <uint64_t>size)
    detail.order = max(detail.order, last)
    return True


cdef void widen_inside(Inside *inside, int32_t d, int64_t price_factor, int64_t size_factor) noexcept nogil:
    # The numbers of levels stay; their volumes fit where those of the bar do.
    cdef Detail *detail
    cdef int32_t at
    cdef int i
    if d < 0:
        return
    detail = &inside.details[d]
    scale128(&detail.delta, size_factor)
    scale128(&detail.highest, size_factor)
    scale128(&detail.lowest, size_factor)
    _multiply(detail.squares, price_factor)
    _multiply(detail.squares, price_factor)
    _multiply(detail.squares, size_factor)
    at = _lowest(inside, detail)
    while at >= 0:
        for i in range(3):
            scale128(&inside.levels[at].volumes[i], size_factor)
        at = inside.levels[at].above


cdef int32_t _lowest(const Inside *inside, const Detail *detail) noexcept nogil:
    cdef int32_t at = detail.level
    if at >= 0:
        while inside.levels[at].below >= 0:
            at = inside.levels[at].below
    return at


cdef void show_inside(const Inside *inside, int spec, int32_t d, Rows *rows) noexcept nogil:
    cdef const Detail *detail = &inside.details[d] if d >= 0 else NULL
    cdef ShownTable *table = &rows.shown
    cdef Shown *shown
    cdef ShownLevel *level
    cdef int32_t at
    cdef Py_ssize_t count = 0 if detail is NULL else detail.levels
    if rows.count == 1:
        table.count = table.level_count = 0     # those of rows that were thrown away
    if (
        table.count == table.capacity
        and not grow_table(<void **>&table.items, &table.capacity, sizeof(Shown), 0)
    ) or (
        table.level_count + count > table.level_capacity
        and not grow_table(<void **>&table.levels, &table.level_capacity, sizeof(ShownLevel), table.level_count + count)
    ):
        rows.no_memory = True
        return
    shown = &table.items[table.count]
    memset(shown, 0, sizeof(Shown))
    shown.first = table.level_count
    shown.count = count if inside.features[spec].step and (detail is NULL or not detail.lost) else -1
    if detail is not NULL:
        shown.delta, shown.highest, shown.lowest = detail.delta, detail.highest, detail.lowest
        memcpy(shown.squares, detail.squares, sizeof(detail.squares))
        shown.unordered = detail.unordered
        at = _lowest(inside, detail)
        while at >= 0:
            level = &table.levels[table.level_count]
            level.number = inside.levels[at].number
            level.volumes = inside.levels[at].volumes
            table.level_count += 1
            at = inside.levels[at].above
    table.count += 1
    rows.items[rows.count - 1].inside = <int32_t>table.count


cdef bint is_sound_inside(
    const Inside *inside, int spec, int32_t d, const Summary *bar, uint8_t *details, uint8_t *levels
) noexcept nogil:
    cdef const Feature *feature = &inside.features[spec]
    cdef const Detail *detail
    cdef int128[3] sums
    cdef int32_t at, below = -1, count = 0
    cdef int i
    if d < -1 or d >= inside.detail_count or (d < 0) != (bar.largest == 0):
        return False
    if d < 0:
        return True
    detail = &inside.details[d]
    if details[d] or detail.lost > 1 or detail.unordered > 1:
        return False
    details[d] = 1
    if not feature.step or detail.lost:
        return detail.level == -1 and detail.levels == 0
    # Down from the last level to the lowest, and up again through all of them.
    at = detail.level
    while at >= 0:
        if at >= inside.level_count or count > MOST_LEVELS:
            return False
        below, at = at, inside.levels[at].below
        count += 1
    if at != -1 or below < 0:
        return False
    at, below, count = below, -1, 0
    sums[0] = sums[1] = sums[2] = NOTHING
    while at >= 0:
        if at >= inside.level_count or levels[at] or inside.levels[at].below != below or (
            below >= 0 and inside.levels[below].number >= inside.levels[at].number
        ):
            return False
        levels[at] = 1
        for i in range(3):
            if inside.levels[at].volumes[i].hi < 0 or add128(&sums[i], &inside.levels[at].volumes[i]):
                return False
        below, at = at, inside.levels[at].above
        count += 1
    # The last level is one of these, and they have what the bar has.
    return at == -1 and levels[detail.level] and count == detail.levels <= MOST_LEVELS and (
        sums[2].lo == bar.sums[1].volume.lo and sums[2].hi == bar.sums[1].volume.hi
        and not add128(&sums[0], &sums[1]) and sums[0].lo == bar.sums[0].volume.lo and sums[0].hi == bar.sums[0].volume.hi)


cdef void unuse_others(Inside *inside, const uint8_t *details, const uint8_t *levels) noexcept nogil:
    cdef int32_t i
    inside.free_detail = inside.free_level = -1
    for i in range(inside.detail_count):
        if not details[i]:
            inside.details[i].level = inside.free_detail
            inside.free_detail = i
    for i in range(inside.level_count):
        if not levels[i]:
            inside.levels[i].below = inside.free_level
            inside.free_level = i


# Undoing a batch, and snapshots.

cdef dict copy_inside(const Inside *inside, Py_ssize_t symbols):
    cdef int k
    cdef Py_ssize_t records = inside.records
    if inside.features is NULL:
        return {}
    while records and inside.of_records[records - 1] < 0:
        records -= 1
    parts = {
        "inside": [
            inside.detail_count, inside.free_detail, inside.level_count, inside.free_level, records, inside.lost],
        "details": PyBytes_FromStringAndSize(<const char *>inside.details, inside.detail_count * sizeof(Detail)),
        "levels": PyBytes_FromStringAndSize(<const char *>inside.levels, inside.level_count * sizeof(Level)),
        "details_of_records": PyBytes_FromStringAndSize(<const char *>inside.of_records, records * sizeof(int32_t)),
    }
    for k in range(inside.specs):
        if inside.features[k].asked:
            parts[f"details{k}"] = PyBytes_FromStringAndSize(
                <const char *>inside.of_slots[k], symbols * sizeof(int32_t))
    return parts


cdef int put_inside(Inside *inside, dict parts, Py_ssize_t symbols) except -1:
    # What `copy_inside` made, or a snapshot: sizes are checked here, contents are not.
    cdef int k
    cdef Py_ssize_t details, levels, records, place
    if inside.features is NULL:
        return 0
    numbers = parts.get("inside")
    if type(numbers) is not list or len(numbers) != 6 or not all(
        type(number) is int and -1 <= number <= MOST_NUMBER for number in numbers
    ) or min(numbers[0], numbers[2], numbers[4], numbers[5]) < 0:
        raise ValueError("the snapshot does not say what is inside its bars")
    details, _, levels, _, records, inside.lost = numbers
    sizes = {"details": details * sizeof(Detail), "levels": levels * sizeof(Level),
             "details_of_records": records * sizeof(int32_t)}
    for k in range(inside.specs):
        if inside.features[k].asked:
            sizes[f"details{k}"] = symbols * sizeof(int32_t)
    for name, size in sizes.items():
        part = parts.get(name)
        if type(part) is not bytes or len(part) != size:
            raise ValueError(f"the snapshot has no {name} of {size} bytes")
    if (inside.detail_capacity < details and not grow_table(
        <void **>&inside.details, &inside.detail_capacity, sizeof(Detail), details
    )) or (inside.level_capacity < levels and not grow_table(
        <void **>&inside.levels, &inside.level_capacity, sizeof(Level), levels
    )) or (records and place_of_record(inside, records - 1) is NULL):
        raise MemoryError
    _put(inside.details, parts["details"])
    _put(inside.levels, parts["levels"])
    _put(inside.of_records, parts["details_of_records"])
    for place in range(records, inside.records):
        inside.of_records[place] = -1
    for k in range(inside.specs):
        if inside.features[k].asked:
            _put(inside.of_slots[k], parts[f"details{k}"])
    inside.detail_count, inside.free_detail, inside.level_count, inside.free_level = numbers[:4]
    return 0


cdef void _put(void *memory, bytes part) noexcept:
    if len(part):
        memcpy(memory, <const char *>part, len(part))
