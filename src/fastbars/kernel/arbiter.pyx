"""The arbiter of redundant lines: passes on the first arrival of each trade, in the order of ids.

Two connections carry the same trades. An id that jumps ahead on one of them is held back, for at most `wait_ns`, until
what lies before it comes over another one; so that a hole of one line is no hole. Once every line has gone past the
missing ids, or the time is over, what was held goes on, and the ledger sees the hole. All times are those given, so that
the same calls give the same trades.

Units: times int64 ns of a steady clock.
"""

import cython
import numpy as np

from libc.stdint cimport int8_t, int32_t, int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memmove

from fastbars.kernel.batch cimport TickBatch, begin, scale_of, write_row
from fastbars.kernel.instruments cimport Scale, are_equal
from fastbars.kernel.limits cimport MAX_SCALE
from fastbars.kernel.scaled cimport HIGHEST, LOWEST

cdef enum:
    WINDOW = 256                # latest trades of a symbol of which arrivals are compared
    MOST_HELD = 65_536          # rows of a symbol that can be held back
    SAVED = 12                  # numbers of a row that is saved
    UNCLEAR = 0                 # what `_judge` returns
    DROPPED = 1
    GOES_ON = 2

cdef int64_t UNSEEN = LOWEST

MOST_LINES = LINES

cdef int64_t LONGEST_NS = 1 << 61


cdef int _check_now(int64_t now_ns) except -1:
    if not -LONGEST_NS < now_ns < LONGEST_NS:
        raise ValueError(f"{now_ns} ns is no time of a steady clock")
    return 0


cdef Held _row_of(TickBatch batch, Py_ssize_t row, int64_t first, int64_t last, int64_t now_ns) noexcept:
    cdef Held held
    held.since_ns = now_ns
    held.time_ns, held.price, held.size = batch.time_ns[row], batch.price[row], batch.size[row]
    held.first, held.last = first, last
    held.first_id, held.last_id = batch.first_id[row], batch.last_id[row]
    held.count = batch.count[row] if batch.count is not NULL else 1
    held.side = batch.side[row] if batch.side is not NULL else 0
    held.scale = scale_of(batch, batch.symbol_id[row])
    return held


def check_held(content, Py_ssize_t symbols):
    _saved_rows(content, symbols)


cdef object _saved_rows(object content, Py_ssize_t symbols):
    # What `dump` returned, checked; prices, sizes and times are for the kernel to refuse.
    if type(content) is not bytes or len(content) % (SAVED * sizeof(int64_t)):
        raise ValueError("the snapshot's held trades are not rows of 12 numbers of 64 bits")
    rows = np.frombuffer(content, np.int64).reshape(-1, SAVED)
    for name, column, least, most in (
        ("symbol", 0, 0, symbols - 1), ("first id", 4, 0, HIGHEST - 1), ("last id", 5, 0, HIGHEST - 1),
        ("count", 8, 1, HIGHEST), ("price scale", 9, 0, MAX_SCALE), ("size scale", 10, 0, MAX_SCALE), ("side", 11, -1, 1),
    ):
        wrong = (rows[:, column] < least) | (rows[:, column] > most)
        if wrong.any():
            raise ValueError(f"the snapshot holds a trade with a {name} {rows[wrong][0, column]} outside {least} to {most}")
    if (rows[:, 5] < rows[:, 4]).any():
        raise ValueError("the snapshot holds a trade whose last id is below its first")
    if len(rows) and np.bincount(rows[:, 0]).max() > MOST_HELD:
        raise ValueError(f"the snapshot holds more than {MOST_HELD} trades of a symbol")
    return rows


@cython.final
cdef class Arbiter:
    def __cinit__(self, TickBatch out not None, int lines, int64_t wait_ns):
        if not 2 <= lines <= LINES:
            raise ValueError(f"lines must be 2 to {LINES}, got {lines}")
        if not 0 <= wait_ns < LONGEST_NS:
            raise ValueError(f"wait {wait_ns} ns is outside 0 to {LONGEST_NS}")
        if out.first_id is NULL:
            raise ValueError("redundant lines need trade ids, and the batch has no first_id column")
        self.out = out
        self.symbols = NULL
        self.capacity = 0
        self.lines = lines
        self.all_seen = (<uint32_t>1 << lines) - 1
        self.wait_ns = wait_ns
        self.waiting = []
        self.turned = set()

    def __dealloc__(self):
        cdef Py_ssize_t i
        for i in range(self.capacity):
            free(self.symbols[i].arrivals)
            free(self.symbols[i].held)
        free(self.symbols)

    cdef int _reserve(self, Py_ssize_t symbols) except -1:
        cdef Py_ssize_t i, capacity
        cdef Symbol *grown
        cdef int line
        if symbols > self.capacity:
            capacity = max(symbols, 2 * self.capacity)
            grown = <Symbol *>realloc(self.symbols, capacity * sizeof(Symbol))
            if grown is NULL:
                raise MemoryError
            self.symbols = grown
            for i in range(self.capacity, capacity):
                grown[i].expected = UNSEEN
                grown[i].since_ns = LOWEST
                for line in range(LINES):
                    grown[i].passed[line] = UNSEEN
                grown[i].arrivals = NULL
                grown[i].held = NULL
                grown[i].held_start = grown[i].held_count = grown[i].held_capacity = 0
            self.capacity = capacity
        return 0

    cpdef TickBatch take(self, TickBatch batch, int line, int64_t now_ns):
        cdef Py_ssize_t i, passed = 0
        cdef int judged = UNCLEAR
        if batch is None:
            raise TypeError("a batch is needed, not None")
        if batch.instruments is not self.out.instruments:
            raise ValueError("the batch belongs to other instruments than this arbiter")
        if not 0 <= line < self.lines:
            raise ValueError(f"line {line} is outside 0 to {self.lines - 1}")
        if batch is self.out or batch.first_id is NULL:
            raise ValueError("a batch is needed that has a first_id column and is not what this arbiter returns")
        if batch.borrows:
            batch = batch.own_copy()
        batch.catch_up()
        _check_now(now_ns)
        self._begin(batch.length)
        # A line that is ahead brings nothing but rows that are next: they go on as they are.
        while passed < batch.length:
            judged = self._judge(batch, passed, line, now_ns)
            if judged != GOES_ON:
                break
            passed += 1
        if passed == batch.length and not self.waiting:
            return batch
        for i in range(passed):
            self._copy(batch, i)
        for i in range(passed, batch.length):
            if i > passed:
                judged = self._judge(batch, i, line, now_ns)
            if judged == GOES_ON:
                self._copy(batch, i)
            elif judged == UNCLEAR:
                self._place(batch, i, line, now_ns)
        if self.waiting:
            self._release(now_ns)
        return self.out

    cpdef TickBatch expire(self, int64_t now_ns):
        _check_now(now_ns)
        self._begin(0)
        self._release(now_ns)
        return self.out

    def flush(self):
        self._begin(0)
        self._release(HIGHEST)
        return self.out

    cpdef int begin_anew(self, int symbol_id, int64_t expected, int64_t since_ns) except -1:
        cdef Symbol *symbol
        cdef int line
        if symbol_id < 0:
            raise IndexError(f"there is no symbol {symbol_id}")
        self._reserve(symbol_id + 1)
        symbol = &self.symbols[symbol_id]
        symbol.expected, symbol.since_ns = expected, since_ns
        for line in range(LINES):
            symbol.passed[line] = UNSEEN
        free(symbol.arrivals)
        symbol.arrivals = NULL
        return 0

    cpdef bint holds(self, int symbol_id) noexcept:
        return 0 <= symbol_id < self.capacity and self.symbols[symbol_id].held_count > 0

    def dump(self):
        # In the order of their ids. Where they stand among other ids is for whoever loads them to find out.
        rows = np.empty((self.held, SAVED), np.int64)
        cdef int64_t[:, ::1] out = rows
        cdef const Held *held
        cdef Py_ssize_t row = 0
        cdef int32_t i, symbol_id
        for s in sorted(self.waiting):
            symbol_id = s
            for i in range(self.symbols[symbol_id].held_count):
                held = &self.symbols[symbol_id].held[self.symbols[symbol_id].held_start + i]
                out[row, 0], out[row, 1], out[row, 2], out[row, 3] = symbol_id, held.time_ns, held.price, held.size
                out[row, 4], out[row, 5], out[row, 6], out[row, 7] = held.first, held.last, held.first_id, held.last_id
                out[row, 8], out[row, 9], out[row, 10] = held.count, held.scale.price, held.scale.size
                out[row, 11] = held.side
                row += 1
        return rows.tobytes()

    def load(self, bytes content not None):
        cdef Held held
        cdef Py_ssize_t i, symbols = self.out.instruments.count
        cdef const int64_t[:, ::1] rows = _saved_rows(content, symbols)
        if self.held:
            raise ValueError("trades can be loaded only into an arbiter that holds none")
        self._begin(len(rows))
        for i in range(len(rows)):
            held.since_ns = 0
            held.time_ns, held.price, held.size = rows[i, 1], rows[i, 2], rows[i, 3]
            held.first, held.last, held.first_id, held.last_id = rows[i, 4], rows[i, 5], rows[i, 6], rows[i, 7]
            held.count = rows[i, 8]
            held.scale = Scale(<int8_t>rows[i, 9], <int8_t>rows[i, 10])
            held.side = <int8_t>rows[i, 11]
            self._hold(&self.symbols[rows[i, 0]], <int32_t>rows[i, 0], held)

    @property
    def next_release_ns(self):
        cdef int64_t earliest = HIGHEST
        cdef Symbol *symbol
        for s in self.waiting:
            symbol = &self.symbols[<int>s]
            earliest = min(earliest, symbol.held[symbol.held_start].since_ns + self.wait_ns)
        return earliest

    def counted(self, int line):
        if not 0 <= line < self.lines:
            raise ValueError(f"line {line} is outside 0 to {self.lines - 1}")
        count = &self.counts[line]
        return count.first, count.again, count.missed, count.led, count.lead_ns

    cdef int _begin(self, Py_ssize_t rows) except -1:
        self.out.check_unused()
        begin(self.out)
        self.deferred = False
        self.out._reserve(rows + self.held)
        self._reserve(self.out.instruments.count)
        return 0

    cdef int _judge(self, TickBatch batch, Py_ssize_t row, int line, int64_t now_ns) except -1:
        # What most rows come to: one that goes on at once and unchanged, and no other with it; or one that was dropped, as
        # it has arrived before. UNCLEAR, with nothing done: `_place` has to look.
        cdef Symbol *symbol
        cdef int64_t first, last
        cdef bint is_next
        if batch.own_count or self.out.own_count or not batch.is_valid(row, self.capacity):
            return UNCLEAR
        symbol = &self.symbols[batch.symbol_id[row]]
        first, last = batch.first_id[row], batch.last_id[row]
        if batch.sequence is not NULL:
            first = last = batch.sequence[row]
        if first < 0 or last < first or last == HIGHEST or (batch.sequence is NULL) != (self.out.sequence is NULL):
            return UNCLEAR
        is_next = symbol.expected == UNSEEN or first == symbol.expected
        if first > symbol.expected and not is_next or is_next and symbol.held_count:
            return UNCLEAR
        symbol.passed[line] = max(symbol.passed[line], last)
        if not self._arrives(symbol, first, last, batch.time_ns[row], line, now_ns):
            self.duplicates += 1
            return DROPPED
        # An id below `expected` is too old to judge here, or fills a hole: the ledger knows.
        if is_next:
            symbol.expected = last + 1
        return GOES_ON

    cdef int _place(self, TickBatch batch, Py_ssize_t row, int line, int64_t now_ns) except -1:
        cdef int32_t s = batch.symbol_id[row]
        cdef Symbol *symbol
        cdef Held arrived
        cdef int64_t first = (batch.sequence if batch.sequence is not NULL else batch.first_id)[row]
        cdef int64_t last = (batch.sequence if batch.sequence is not NULL else batch.last_id)[row]
        if first < 0 or last < first or last == HIGHEST or not batch.is_valid(row, self.capacity):
            self._copy(batch, row)  # the kernel will refuse it
            return 0
        symbol = &self.symbols[s]
        if batch.time_ns[row] < symbol.since_ns and symbol.expected != UNSEEN and first > symbol.expected:
            # Of an older series of ids, on a line that is behind: the ledger knows.
            arrived = _row_of(batch, row, first, last, now_ns)
            if not self._put(s, &arrived):
                self._hold(symbol, s, arrived)
            return 0
        if not self._arrives(symbol, first, last, batch.time_ns[row], line, now_ns):
            self.duplicates += 1
        else:
            arrived = _row_of(batch, row, first, last, now_ns)
            # An id below `expected` is too old to judge here, or fills a hole: the ledger knows.
            if (symbol.expected != UNSEEN and first > symbol.expected) or not self._put(s, &arrived):
                self._hold(symbol, s, arrived)
            elif symbol.expected == UNSEEN or first == symbol.expected:
                symbol.expected = last + 1
                if symbol.held_count:
                    self._follow(symbol, s)
        symbol.passed[line] = max(symbol.passed[line], last)
        return 0

    cdef bint _arrives(
        self, Symbol *symbol, int64_t first, int64_t last, int64_t time_ns, int line, int64_t now_ns
    ) except -1:
        # False: it has arrived before.
        cdef Arrival *arrival
        cdef int64_t trades = last - first + 1
        cdef int i
        if symbol.arrivals is NULL:
            symbol.arrivals = <Arrival *>calloc(WINDOW, sizeof(Arrival))
            if symbol.arrivals is NULL:
                raise MemoryError
        arrival = &symbol.arrivals[<uint64_t>first % WINDOW]
        if arrival.seen and arrival.id == first and arrival.time_ns == time_ns:
            if not (arrival.seen >> line) & 1:
                arrival.seen |= <uint32_t>1 << line
                self.counts[line].again += trades
                self.counts[arrival.line].led += 1
                self.counts[arrival.line].lead_ns += now_ns - arrival.at_ns
            return False
        if arrival.seen and arrival.id > first:
            return True
        if arrival.seen and arrival.seen != self.all_seen:
            for i in range(self.lines):
                if not (arrival.seen >> i) & 1:
                    self.counts[i].missed += 1
        arrival.id, arrival.time_ns = first, time_ns
        arrival.at_ns = now_ns
        arrival.line = line
        arrival.seen = <uint32_t>1 << line
        self.counts[line].first += trades
        return True

    cdef int _hold(self, Symbol *symbol, int32_t s, Held held) except -1:
        cdef int32_t place, capacity
        cdef Held *grown
        if symbol.held_count == MOST_HELD:
            self._next(symbol, s)
            self._follow(symbol, s)
        if symbol.held_start + symbol.held_count == symbol.held_capacity:
            if symbol.held_start > symbol.held_count:
                memmove(symbol.held, &symbol.held[symbol.held_start], symbol.held_count * sizeof(Held))
                symbol.held_start = 0
            else:
                capacity = max(16, 2 * symbol.held_capacity)
                grown = <Held *>realloc(symbol.held, capacity * sizeof(Held))
                if grown is NULL:
                    raise MemoryError
                symbol.held = grown
                symbol.held_capacity = capacity
        place = symbol.held_start + symbol.held_count
        while place > symbol.held_start and symbol.held[place - 1].first > held.first:
            place -= 1
        memmove(&symbol.held[place + 1], &symbol.held[place],
                (symbol.held_start + symbol.held_count - place) * sizeof(Held))
        symbol.held[place] = held
        if symbol.held_count == 0:
            self.waiting.append(s)
            self.turned.add(s)
        symbol.held_count += 1
        self.held += 1
        return 0

    cdef int _release(self, int64_t now_ns) except -1:
        # Passes on the rows that have waited long enough, or in vain.
        cdef Symbol *symbol
        cdef int line
        cdef bint passed
        for s in list(self.waiting):
            symbol = &self.symbols[<int>s]
            if (symbol.since_ns > LOWEST and not self._pass_older(symbol, s)) or not self._follow(symbol, s):
                continue
            while symbol.held_count:
                passed = True
                for line in range(self.lines):
                    passed = passed and symbol.passed[line] >= symbol.expected
                if not passed and now_ns != HIGHEST and now_ns - symbol.held[symbol.held_start].since_ns < self.wait_ns:
                    break
                if not self._next(symbol, s) or not self._follow(symbol, s):
                    break
        return 0

    cdef bint _pass_older(self, Symbol *symbol, int32_t s) except -1:
        # Passes on what is held of older series of ids. False: a row was deferred.
        cdef int32_t i, kept = 0
        cdef bint fits = True
        cdef Held held
        for i in range(symbol.held_count):
            held = symbol.held[symbol.held_start + i]
            fits = fits and (held.time_ns >= symbol.since_ns or self._put(s, &held))
            if not fits or held.time_ns >= symbol.since_ns:
                symbol.held[symbol.held_start + kept] = held
                kept += 1
        self.held -= symbol.held_count - kept
        if kept == 0 and symbol.held_count:
            symbol.held_start = 0
            self.waiting.remove(s)
            self.turned.add(s)
        symbol.held_count = kept
        return fits

    cdef bint _follow(self, Symbol *symbol, int32_t s) except -1:
        # Passes on the rows that were waiting for this one. False: a row was deferred.
        while symbol.held_count and symbol.held[symbol.held_start].first <= symbol.expected:
            if not self._next(symbol, s):
                return False
        return True

    cdef bint _next(self, Symbol *symbol, int32_t s) except -1:
        # Passes on the row with the lowest id held. False: it was deferred.
        cdef Held *held = &symbol.held[symbol.held_start]
        if not self._put(s, held):
            return False
        symbol.expected = max(symbol.expected, held.last + 1)
        symbol.held_start += 1
        symbol.held_count -= 1
        self.held -= 1
        if symbol.held_count == 0:
            symbol.held_start = 0
            self.waiting.remove(s)
            self.turned.add(s)
        return True

    cdef bint _put(self, int32_t s, const Held *held) except -1:
        # False: no scale fits both it and the rows of its symbol before it in the batch. The kernel may refuse those, so
        # this one waits for the next batch.
        cdef TickBatch out = self.out
        cdef Py_ssize_t row = out.length
        cdef int64_t price = held.price, size = held.size
        out._reserve(row + 1)
        if (out.own_count or not are_equal(held.scale, out.instruments.table[s].scale)) and not (
            out.bring(s, &price, &size, held.scale)
        ):
            if row:
                self.deferred = True
                return False
            price = size = LOWEST   # beside what its symbol's scale was widened to since; which no kernel takes
        write_row(
            out, row, s, held.time_ns, price, size, held.side, held.first_id, held.last_id, held.count, held.first)
        return True

    cdef int _copy(self, TickBatch batch, Py_ssize_t i) except -1:
        # A row as it is.
        cdef TickBatch out = self.out
        cdef Py_ssize_t row = out.length
        out._reserve(row + 1)
        write_row(
            out, row, batch.symbol_id[i], batch.time_ns[i], batch.price[i], batch.size[i],
            0 if batch.side is NULL else batch.side[i], batch.first_id[i], batch.last_id[i],
            1 if batch.count is NULL else batch.count[i], (batch.first_id if batch.sequence is NULL else batch.sequence)[i])
        return 0
