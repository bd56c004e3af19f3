"""Whoever forked a job is asked by the kernel before each of its system calls on files, by seccomp: its libraries' calls as well.

A call is then let through, or fails with an error; the job knows nothing of it. Linux on x86-64, no privilege needed.
"""

import contextlib
import ctypes
import fcntl
import os
import platform
import select
import socket
import struct
from dataclasses import dataclass
from pathlib import Path

LIBC = ctypes.CDLL(None, use_errno=True)
IS_POSSIBLE = platform.system() == "Linux" and platform.machine() == "x86_64"
SECCOMP, PR_SET_NO_NEW_PRIVS, FILTER, NEW_LISTENER, GO_ON = 317, 38, 1, 8, 1
RECEIVE, SEND = 0xC0502100, 0xC0182101
ALLOW, ASK = 0x7FFF0000, 0x7FC00000
LOAD, EQUALS, RETURN, AT_NUMBER = 0x20, 0x15, 0x06, 0
FOLDER_AT, CREATES, WRITES = ctypes.c_uint32(-100).value, os.O_CREAT, os.O_WRONLY | os.O_RDWR
PATH_MAX = 4096

CALLS = {
    1: ("write", "f"), 18: ("write", "f"), 20: ("write", "f"), 40: ("write", "f"), 326: ("write", "__f"), 77: ("write", "f"),
    74: ("fsync", "f"), 75: ("fsync", "f"), 73: ("flock", "f"), 2: ("open", "p"), 257: ("open", "dp"),
    82: ("rename", "pp"), 264: ("rename", "dpdp"), 316: ("rename", "dpdp"), 83: ("mkdir", "p"), 258: ("mkdir", "dp"),
    87: ("unlink", "p"), 84: ("unlink", "p"), 263: ("unlink", "dp"), 90: ("chmod", "p"), 91: ("chmod", "f"), 268: ("chmod", "dp"),
}  # fmt: skip
"""Number -> what it does, and its arguments: f a file's descriptor, p a path, d the folder that the path after it starts from."""


@dataclass(frozen=True)
class Call:
    """A system call that a job is about to make."""

    operation: str
    paths: tuple[Path, ...]
    """Of what it works on; a rename's are the old and the new."""
    creates: bool = False
    """Whether an `open` makes the file if it is not there."""
    writes: bool = False
    """Whether an `open` is for writing."""


def ask_first(channel: socket.socket) -> None:
    """Has the kernel ask who holds the other end of `channel` before each of CALLS, of this process and those that it forks."""
    checks = [(EQUALS, 0, len(CALLS) - place, number) for place, number in enumerate(CALLS)]
    steps = [(LOAD, 0, 0, AT_NUMBER)]
    steps += [(code, left, 0, number) for code, _, left, number in checks] + [(RETURN, 0, 0, ALLOW), (RETURN, 0, 0, ASK)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    program = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(steps), ctypes.addressof(code)))
    LIBC.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    listener = LIBC.syscall(SECCOMP, FILTER, NEW_LISTENER, program)
    if listener < 0:
        raise OSError(ctypes.get_errno(), "seccomp")
    socket.send_fds(channel, [b"x"], [listener])
    os.close(listener)


class Listener:
    """Answers the kernel's questions about one job."""

    def __init__(self, channel: socket.socket) -> None:
        self.descriptor = socket.recv_fds(channel, 1, 1)[1][0]
        self._poll = select.poll()
        self._poll.register(self.descriptor, select.POLLIN)

    def next(self, timeout_ms: int) -> tuple[int, Call] | None:
        """The number of a question and the call it is about; None if there is none for so long."""
        if not any(event & select.POLLIN for _, event in self._poll.poll(timeout_ms)):
            return None
        question = bytearray(80)
        try:
            fcntl.ioctl(self.descriptor, RECEIVE, question)
        except OSError:  # who asked was killed meanwhile
            return None
        number, process, _, call, _, _, *arguments = struct.unpack("QIIiIQ6Q", question)
        try:
            return number, _read_call(process, call, arguments)
        except OSError:
            return number, Call("gone", ())

    def answer(self, number: int, error: int = 0) -> None:
        """Lets the call through, or makes it fail with this error."""
        with contextlib.suppress(OSError):  # who asked was killed meanwhile
            fcntl.ioctl(self.descriptor, SEND, struct.pack("QqiI", number, 0, -error, 0 if error else GO_ON))

    def close(self) -> None:
        os.close(self.descriptor)


def _read_call(process: int, number: int, arguments: list[int]) -> Call:
    (operation, kinds), of_process = CALLS[number], Path(f"/proc/{process}")
    paths, start = list[Path](), of_process / "cwd"
    for kind, argument in zip(kinds, arguments, strict=False):
        descriptor = argument & 0xFFFFFFFF
        if kind == "f":
            paths.append((of_process / "fd" / str(descriptor)).readlink())
        elif kind == "d":
            start = of_process / ("cwd" if descriptor == FOLDER_AT else f"fd/{descriptor}")
        elif kind == "p":
            paths.append(Path(os.path.normpath(start.readlink() / _text(process, argument))))
    flags = arguments[len(kinds)] if operation == "open" else 0
    return Call(operation, tuple(paths), bool(flags & CREATES), bool(flags & (WRITES | CREATES)))


def _text(process: int, address: int) -> str:
    """The text at this address in the memory of a process."""
    with open(f"/proc/{process}/mem", "rb", buffering=0) as memory:  # noqa: PTH123
        memory.seek(address)
        return os.fsdecode(memory.read(PATH_MAX).partition(b"\0")[0])
