"""The frame walker against `websockets`' own parser, without a socket."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import example, given, settings, strategies as st
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.frames import Frame, Opcode
from websockets.protocol import CLIENT, OPEN, Protocol

from examples import examples
from fastbars.wire.walker import FrameWalker
from servers import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, frame

MAX_SIZE = 2000


class Reader:
    """What a connection makes of the bytes: payloads in order, and the state of the protocol at the end."""

    def __init__(self, max_size: int | None = MAX_SIZE, *, walking: bool = True) -> None:
        self.protocol = Protocol(CLIENT, state=OPEN, max_size=max_size)
        self.payloads: list[bytes] = []
        self.in_place = 0
        self.handed_on = b""
        self._fragments: list[bytes] = []
        self.walker = FrameWalker(self._on_message, self.hand_on, max_size=max_size) if walking else None

    def feed(self, data: bytes) -> None:
        if self.walker is None:
            self.hand_on(data)
        else:
            self.walker.feed(data)

    def _on_message(self, payload: bytes) -> None:
        self.in_place += 1
        self.payloads.append(payload)

    def hand_on(self, data: bytes) -> bool:
        self.handed_on += data
        self.protocol.receive_data(data)
        for event in self.protocol.events_received():
            assert isinstance(event, Frame)
            if event.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
                self._fragments.append(bytes(event.data))
                if event.fin:
                    self.payloads.append(b"".join(self._fragments))
                    self._fragments.clear()
        return self.protocol.state is OPEN

    def outcome(self) -> tuple[object, ...]:
        sent = b"".join(self.protocol.data_to_send())
        opcodes = [byte & 0x0F for byte in sent[:1]]
        return self.payloads, self.protocol.state, repr(self.protocol.parser_exc), opcodes, self.protocol.close_sent


def walked(chunks: Sequence[bytes], max_size: int | None = MAX_SIZE) -> Reader:
    reader = Reader(max_size)
    for chunk in chunks:
        reader.feed(chunk)
    return reader


def as_websockets(stream: bytes, max_size: int | None = MAX_SIZE) -> tuple[object, ...]:
    reader = Reader(max_size, walking=False)
    reader.feed(stream)
    return reader.outcome()


def long_form(payload: bytes, width: int) -> bytes:
    """A text frame whose length takes more bytes than it needs."""
    head = (
        b"\x81\x7e" + struct.pack(">H", len(payload)) if width == 2 else b"\x81\x7f" + struct.pack(">Q", len(payload))
    )
    return head + payload


ODD = {
    "ping": frame(b"hello", PING),
    "pong": frame(b"", PONG),
    "empty close": frame(b"", CLOSE),
    "close with reason": frame(b"\x03\xe8bye", CLOSE),
    "close with half a code": frame(b"\x03", CLOSE),
    "two fragments": frame(b"ab", TEXT, final=False) + frame(b"cd", CONTINUATION),
    "fragments around a ping": frame(b"ab", BINARY, final=False) + frame(b"!", PING) + frame(b"cd", CONTINUATION),
    "text within fragments": frame(b"ab", TEXT, final=False) + frame(b"cd", TEXT),
    "continuation of nothing": frame(b"ab", CONTINUATION),
    "masked": b"\x81\x82\x00\x00\x00\x00hi",
    "masked and long": b"\x81\xfe\x00\x80\x00\x00\x00\x00" + b"x" * 128,
    "compressed": b"\xc1\x02hi",
    "reserved bit 2": b"\xa1\x02hi",
    "reserved bit 3": b"\x92\x02hi",
    "reserved opcode 3": b"\x83\x02hi",
    "reserved opcode 11": b"\x8b\x02hi",
    "length of 2^63": b"\x81\x7f\x80" + b"\x00" * 7 + b"hi",
    "length of 2^64-1": b"\x82\x7f" + b"\xff" * 8 + b"hi",
    "over max_size": frame(b"x" * (MAX_SIZE + 1)),
    "fragments over max_size": frame(b"x" * 1500, final=False) + frame(b"y" * 600, CONTINUATION),
    "16-bit length of 3": long_form(b"abc", 2),
    "64-bit length of 3": long_form(b"abc", 8),
    "64-bit length of 300": long_form(b"z" * 300, 8),
    "fragmented ping": frame(b"x", PING, final=False),
    "long ping": frame(b"x" * 126, PING),
}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
@pytest.mark.parametrize("size", [1, 2, 3, 7, 10_000])
def test_an_odd_frame_between_messages_ends_as_with_websockets(odd: bytes, size: int) -> None:
    stream = frame(b"before") + odd + frame(b"after", BINARY) + frame(b"y" * 200) + frame(b"last")
    reader = walked([stream[start : start + size] for start in range(0, len(stream), size)])
    assert reader.outcome() == as_websockets(stream)
    assert reader.payloads[0] == b"before"


def test_frames_of_every_length_form_are_read_in_place() -> None:
    messages = [b"", b"x" * 125, b"x" * 126, b"x" * 65_535, b"x" * 65_536, b"x" * 70_000]
    reader = walked([b"".join(frame(message, BINARY) for message in messages)], None)
    assert reader.payloads == messages
    assert (reader.in_place, reader.handed_on) == (len(messages), b"")


def test_other_frames_are_handed_on_byte_for_byte() -> None:
    fragments = frame(b"a", TEXT, final=False) + frame(b"b", CONTINUATION)
    others = [frame(b"ping", PING), fragments, long_form(b"abc", 8)]
    stream = b"".join(frame(b"%d" % number) + other for number, other in enumerate(others))
    reader = walked([stream])
    assert reader.handed_on == b"".join(others)
    assert reader.payloads == [b"0", b"1", b"ab", b"2", b"abc"]


def test_nothing_is_read_in_place_after_a_close() -> None:
    reader = walked([frame(b"one") + frame(b"\x03\xe8", CLOSE) + frame(b"two"), frame(b"three")])
    assert (reader.payloads, reader.in_place) == ([b"one"], 1)
    assert reader.handed_on.endswith(frame(b"two") + frame(b"three"))


def test_a_frame_of_the_largest_size_is_read_in_place_and_a_longer_one_is_not() -> None:
    assert walked([frame(b"x" * MAX_SIZE)]).in_place == 1
    longer = walked([frame(b"x" * (MAX_SIZE + 1))])
    assert (longer.in_place, longer.protocol.close_sent and longer.protocol.close_sent.code) == (0, 1009)


def test_an_announced_length_reserves_no_memory() -> None:
    walker = walked([b"\x82\x7f" + struct.pack(">Q", 1 << 40) + b"x" * 10], None).walker
    assert walker is not None
    assert (walker.kept_bytes, walker.buffer_bytes) == (20, 256)


def test_the_buffer_of_a_long_cut_frame_shrinks_again() -> None:
    message = b"x" * 1_000_000
    reader = Reader(None)
    stream = frame(message)
    reader.feed(stream[:-1])
    assert reader.walker is not None
    assert reader.walker.buffer_bytes >= 1_000_000
    reader.feed(stream[-1:])
    assert (reader.payloads, reader.walker.buffer_bytes, reader.walker.kept_bytes) == ([message], 0, 0)


def test_stop_hands_on_what_is_kept_and_all_that_follows() -> None:
    reader = Reader()
    stream = frame(b"one") + frame(b"two")
    reader.feed(stream[:7])
    assert reader.walker is not None
    reader.walker.stop()
    reader.feed(stream[7:])
    assert (reader.payloads, reader.handed_on) == ([b"one", b"two"], frame(b"two"))


def test_an_error_in_a_callback_comes_out_of_feed() -> None:
    def fail(payload: bytes) -> None:
        raise RuntimeError(payload)

    with pytest.raises(RuntimeError, match="boom"):
        FrameWalker(fail, lambda _: True).feed(frame(b"boom"))
    walker = FrameWalker(fail, lambda _: True)
    walker.feed(frame(b"boom")[:3])
    with pytest.raises(RuntimeError, match="boom"):
        walker.feed(memoryview(frame(b"boom")[3:]))
    assert walker.kept_bytes == 0


def test_a_compressed_frame_is_left_to_the_extension_and_the_walker_goes_on() -> None:
    factory = ClientPerMessageDeflateFactory()
    sender = factory.process_response_params([], [])
    compressed = Frame(Opcode.TEXT, b"hello " * 20).serialize(mask=False, extensions=[sender])
    reader = Reader()
    reader.protocol.extensions = [factory.process_response_params([], [])]
    reader.feed(frame(b"plain") + compressed + frame(b"again"))
    assert (reader.payloads, reader.in_place) == ([b"plain", b"hello " * 20, b"again"], 2)
    assert reader.handed_on == compressed


FRAMES = st.one_of(
    st.builds(frame, st.binary(max_size=20), st.sampled_from([TEXT, BINARY])),
    st.builds(frame, st.integers(100, 2100).map(lambda n: b"m" * n), st.sampled_from([TEXT, BINARY])),
    st.builds(frame, st.binary(max_size=130), st.sampled_from([PING, PONG])),
    st.sampled_from(list(ODD.values())),
    st.binary(max_size=12),
)


@given(st.lists(FRAMES, max_size=12).map(b"".join), st.lists(st.integers(0, 6000), max_size=10))
@example(frame(b"") + b"\x81", [2])
@example(b"\x03~", [])
@settings(max_examples=examples(400))
def test_any_cut_of_any_bytes_gives_what_websockets_makes_of_them(stream: bytes, cuts: list[int]) -> None:
    bounds = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    reader = walked([stream[start:stop] for start, stop in pairwise(bounds)])
    expected = as_websockets(stream)
    if reader.walker is not None and not reader.walker.done:
        kept = reader.walker.kept_bytes  # of a frame that is not whole yet; `websockets` would hold it as well
        assert kept <= MAX_SIZE + 10
    assert reader.outcome() == expected
