"""Decompresses gzip files within bounds: a small file may hold gigabytes of zeros."""

import gzip
import io
import zlib
from collections.abc import Callable

from medisync.errors import ImageError
from medisync.imaging.limits import MAX_BYTES


def first_bytes(data: bytes, count: int) -> bytes:
    """Returns up to `count` bytes of what a gzip file holds. Raises ImageError if it is damaged before them."""
    return _read(data, lambda stream: stream.read(count))


def decompress(data: bytes, size: int | None = None) -> bytes:
    """Returns the first `size` bytes of what a gzip file holds, by default all of them.

    Raises ImageError if there are more than the limit allows, if fewer than `size` are there, or if it is damaged.
    """
    wanted = MAX_BYTES + 1 if size is None else size
    if size is not None and size > MAX_BYTES:
        raise _too_large(f"{size >> 20} MB")
    content = _read(data, lambda stream: _checked(stream, wanted))
    if len(content) > MAX_BYTES:
        raise _too_large("more")
    if size is not None and len(content) < size:
        raise ImageError("the compressed file is incomplete: it ends before its pixels do; copy or download it again")
    return content


def _checked(stream: gzip.GzipFile, count: int) -> bytes:
    """Reads `count` bytes and, if these are all, the checksum; ignores bytes after it as gzip does."""
    content = stream.read(count)
    try:
        stream.read(1)
    except EOFError:  # the checksum was cut off, the content is complete
        pass
    except gzip.BadGzipFile as problem:
        if "Not a gzipped file" not in str(problem):
            raise
    return content


def _too_large(found: str) -> ImageError:
    return ImageError(f"the file has {found} once decompressed, over the limit of {MAX_BYTES >> 20} MB")


def _read(data: bytes, read: Callable[[gzip.GzipFile], bytes]) -> bytes:
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
            return read(stream)
    except EOFError:
        raise ImageError("the compressed file is incomplete: it was cut short; copy or download it again") from None
    except (OSError, zlib.error):
        raise ImageError(
            "the compressed file is damaged: it cannot be decompressed; copy or download it again"
        ) from None
