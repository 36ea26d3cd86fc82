"""Codecs of events, states and messages: JSON in the journal, for operators to read; MessagePack between processes."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import msgspec

from .behaviour import UnknownEventError
from .money import Msat

T = TypeVar("T")


def _encode(value: Any) -> Any:
    if isinstance(value, Msat):
        return value.value
    raise TypeError(f"no encoding for {type(value).__name__}")


def _decode(kind: type, value: Any) -> Any:
    if kind is Msat:
        return Msat(value)
    raise TypeError(f"no decoding for {kind.__name__}")


class JournalCodec(Generic[T]):
    """JSON codec for values of one type, or of a union of types."""

    def __init__(self, kind: Any) -> None:
        self._encoder = msgspec.json.Encoder(enc_hook=_encode)
        self._decoder: msgspec.json.Decoder[T] = msgspec.json.Decoder(kind, dec_hook=_decode)

    def encode(self, value: T) -> bytes:
        """Encode the value as JSON."""
        return self._encoder.encode(value)

    def decode(self, data: bytes) -> T:
        """Decode a value from JSON. Raises `UnknownEventError` for one that this version can't read."""
        try:
            return self._decoder.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise UnknownEventError(f"the journal holds what this version can't read: {error}") from error


class MessageCodec(Generic[T]):
    """MessagePack codec for batches of messages of one type, or of a union of types."""

    def __init__(self, kind: Any) -> None:
        self._encoder = msgspec.msgpack.Encoder(enc_hook=_encode)
        self._decoder: msgspec.msgpack.Decoder[list[T]] = msgspec.msgpack.Decoder(list[kind], dec_hook=_decode)
        self._one: msgspec.msgpack.Decoder[T] = msgspec.msgpack.Decoder(kind, dec_hook=_decode)
        self._raw = msgspec.msgpack.Decoder(list[msgspec.Raw])

    def encode(self, batch: list[T]) -> bytes:
        """Encode the batch."""
        return self._encoder.encode(batch)

    def decode(self, data: bytes) -> list[T]:
        """Decode a batch."""
        return self._decoder.decode(data)

    def decode_known(self, data: bytes) -> tuple[list[T], list[msgspec.Raw]]:
        """Decode what this version knows of a batch; return the other messages as they came.

        Raises `MsgspecError` for what is not a batch.
        """
        known, unknown = [], []
        for raw in self._raw.decode(data):
            try:
                known.append(self._one.decode(raw))
            except msgspec.ValidationError:
                unknown.append(raw)
        return known, unknown
