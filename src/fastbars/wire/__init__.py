"""Bytes from the socket, as whole messages."""

from fastbars.wire.connection import PayloadConnection

__all__ = ["PayloadConnection"]
