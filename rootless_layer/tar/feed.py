"""A tar on its way from whoever makes or decompresses it to whoever reads it: a thread and a pipe."""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Self

from rootless_layer.errors import MachineError
from rootless_layer.system.machine import enough, unreadable

if TYPE_CHECKING:
    from types import TracebackType

Consume = Callable[[memoryview], object]
Give = Callable[[Consume], object]
"""What gives the bytes of a tar, a part at a time, as :meth:`LayerBlob.copy_plain` does."""

READ_BYTES = 1 << 20


class Feed:
    """The bytes that ``give`` gives, to be read from the descriptor ``reading`` in a ``with`` block.

    ``last`` is where the last byte ends that is not zero, ``where`` what messages call the tar. What
    ``give`` raises is raised at the end of the block, instead of what the reader made of the cut
    stream; an :class:`OSError` of its as the error of the file that could not be read.
    """

    def __init__(self, give: Give, where: str) -> None:
        """Start the thread; raises :class:`MachineError` where there can be no thread or no pipe."""
        self.give, self.where = give, where
        self.passed = self.last = 0
        self.failure: BaseException | None = None
        try:
            self.reading, self.writing = os.pipe()
        except OSError as error:
            raise unreadable(error, where) from error
        with contextlib.suppress(OSError):  # a user may have only so many bytes in pipes
            fcntl.fcntl(self.writing, fcntl.F_SETPIPE_SZ, READ_BYTES)
        self.thread = threading.Thread(target=self._run, daemon=True)
        try:
            with enough(f"{where}: cannot be read"):
                self.thread.start()
        except MachineError:
            os.close(self.reading)
            os.close(self.writing)
            raise

    def _run(self) -> None:
        try:
            self.give(self._write)
        except BrokenPipeError:
            pass  # the reader gave up, and says why
        except BaseException as error:  # noqa: BLE001 - it is raised again, by the other thread
            self.failure = error
        finally:
            os.close(self.writing)

    def _write(self, part: memoryview) -> None:
        meant = len(part) if not part or part[-1] else len(bytes(part).rstrip(b"\0"))
        if meant:
            self.last = self.passed + meant
        self.passed += len(part)
        while part:
            part = part[os.write(self.writing, part) :]

    def drain(self) -> None:
        """Pass over what is left: what stands behind the archive's end counts for the digest."""
        while os.read(self.reading, READ_BYTES):
            pass

    def __enter__(self) -> Self:
        """Give the feed itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """End the thread."""
        os.close(self.reading)
        self.thread.join()
        if isinstance(self.failure, OSError):
            raise unreadable(self.failure, self.where) from self.failure
        if self.failure is not None:
            raise self.failure
