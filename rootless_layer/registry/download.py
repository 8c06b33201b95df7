"""A blob brought from a registry to a file: compared with its digest, and gone on with where a connection broke off."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
from typing import TYPE_CHECKING

from rootless_layer.errors import InputError
from rootless_layer.system.machine import unwritable

from .client import MOST_DOCUMENT
from .transport import ATTEMPTS, BROKEN, close, pause

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import BinaryIO

    from urllib3.response import BaseHTTPResponse as Response

    from .client import Client

_PART_BYTES = 1 << 18
_OK, _PARTIAL = 200, 206
_RANGE = re.compile(r"bytes (\d+)-\d*/.*")
_DAMAGED = "The registry is damaged, or something between changes what it gives: push the image there again, or ask another."


def download(client: Client, digest: str, size: int, path: str, count: Callable[[int], object]) -> None:
    """Get a blob of ``size`` bytes into a new file, whole or not at all; ``count`` is told of bytes as they come.

    One process at a time gets it; where it is there already nothing is done. Raises :class:`InputError` for bytes that
    are not what the digest says, :class:`SourceError` where the registry does not have them or breaks off again and
    again, and :class:`OutputError` where the file cannot be written.
    """
    with _alone(path):
        if os.path.exists(path):
            return
        aside = f"{path}.part"
        try:
            with open(aside, "wb") as file:
                _get(client, digest, size, file, count)
            os.rename(aside, path)
            os.unlink(f"{path}.lock")  # whoever has opened it finds the file
        except OSError as error:
            raise unwritable(error, path, "a layer of a registry cannot be kept there") from error
        finally:
            with contextlib.suppress(OSError):
                os.unlink(aside)


@contextlib.contextmanager
def _alone(path: str) -> Iterator[None]:
    try:
        lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise unwritable(error, path, "a layer of a registry cannot be kept there") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _get(client: Client, digest: str, size: int, file: BinaryIO, count: Callable[[int], object]) -> None:
    where = f"{client.where}: blob {digest}"
    taken, failures = _Taken(where, digest, size, file, count), 0
    while True:
        answer = client.request("GET", f"blobs/{digest}", {"Range": f"bytes={taken.done}-"} if taken.done else {})
        if taken.done and not _goes_on(answer, taken.done):  # it gives all of it again, or something else
            taken.begin_again()
            if answer.status != _OK:
                close(answer)
                answer = client.request("GET", f"blobs/{digest}")
        client.check(answer, (_OK, _PARTIAL), where)
        before = taken.done
        why = taken.take(answer)
        if taken.done == size:
            answer.release_conn()
            break
        close(answer)
        failures = 1 if taken.done - before > MOST_DOCUMENT else failures + 1
        if failures == ATTEMPTS:
            message = f"{where}: came to {taken.done} of {size} bytes in {ATTEMPTS} attempts: {why:.200}"
            raise client.fault(message, hint="Try again later, or ask whoever runs the registry.")
        pause(failures)
    taken.check()


class _Taken:
    """What has come of a blob."""

    def __init__(self, where: str, digest: str, size: int, file: BinaryIO, count: Callable[[int], object]) -> None:
        self.where, self.digest, self.size, self.file, self.count = where, digest, size, file, count
        self.algorithm = digest.partition(":")[0]
        self.done, self.hashed = 0, hashlib.new(self.algorithm)

    def begin_again(self) -> None:
        self.file.seek(0)
        self.file.truncate()
        self.count(-self.done)
        self.done, self.hashed = 0, hashlib.new(self.algorithm)

    def take(self, answer: Response) -> str:
        """Take what an answer gives, and say why it gives no more; raises :class:`InputError` for more than there is to be."""
        try:
            while part := answer.read(_PART_BYTES, decode_content=False):
                self.done += len(part)
                if self.done > self.size:
                    close(answer)
                    message = f"{self.where}: has more bytes than the {self.size} that the manifest says"
                    raise InputError(message, hint=_DAMAGED)
                self.file.write(part)
                self.hashed.update(part)
                self.count(len(part))
        except BROKEN as error:
            return str(error)
        return "it ended too early"

    def check(self) -> None:
        found = f"{self.algorithm}:{self.hashed.hexdigest()}"
        if found != self.digest:
            message = f"{self.where}: what the registry gives is {found}"
            raise InputError(message, hint=_DAMAGED)


def _goes_on(answer: Response, done: int) -> bool:
    """Say whether an answer goes on behind so many bytes (RFC 9110, section 14.4)."""
    found = _RANGE.fullmatch(answer.headers.get("Content-Range") or "")
    return answer.status == _PARTIAL and found is not None and int(found[1]) == done
