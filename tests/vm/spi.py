"""Calls on an SPI device. `calls` says what came of each and what reached the controller, in words that
are the same for the kernel's own device and for a remote one."""

import ctypes
import errno
import fcntl
import hashlib
import os
import struct
import sys

import ioctl32

LOG = "/sys/kernel/debug/spi-lab/log"

libc = ctypes.CDLL(None, use_errno=True)


def ior(nr, size):
    return 2 << 30 | size << 16 | ord("k") << 8 | nr


def iow(nr, size):
    return 1 << 30 | size << 16 | ord("k") << 8 | nr


SETTINGS = {"mode": (1, 1), "lsb": (2, 1), "bits": (3, 1), "hz": (4, 4), "mode32": (5, 4)}
SPACE = {1: "B", 2: "H", 4: "I"}


def controller():
    """What reached the controller since it was asked last."""
    with open(LOG, "r+") as log:
        text = log.read().splitlines()
        log.write("x")
    if len(text) > 6:
        whole = "\n".join(text)
        return [f"{len(text)} lines {hashlib.sha256(whole.encode()).hexdigest()}", text[-1]]
    return text


def say(what, came):
    print(what, "->", came)
    for line in controller():
        print("   ", line)


def told(call, *arguments):
    """The result of a call, or the name of its errno."""
    try:
        return call(*arguments)
    except OSError as error:
        return errno.errorcode[error.errno]


def raw(fd, number, address):
    result = libc.ioctl(fd, ctypes.c_ulong(number), ctypes.c_void_p(address))
    if result < 0:
        raise OSError(ctypes.get_errno(), "ioctl")
    return result


def get(fd, name):
    nr, size = SETTINGS[name]
    return struct.unpack(SPACE[size], fcntl.ioctl(fd, ior(nr, size), bytes(size)))[0]


def put(fd, name, value):
    nr, size = SETTINGS[name]
    fcntl.ioctl(fd, iow(nr, size), struct.pack(SPACE[size], value))
    return get(fd, name)


def shown(fd):
    return " ".join(f"{name}={get(fd, name)}" for name in SETTINGS)


class Part:
    """One transfer: bytes to send or None, whether to receive, and the other fields."""

    def __init__(self, tx=None, rx=False, length=None, **fields):
        self.tx = ctypes.create_string_buffer(tx, max(len(tx), 1)) if tx is not None else None
        self.length = len(tx) if length is None else length
        self.rx = ctypes.create_string_buffer(b"\x55" * (self.length + 1)) if rx else None
        self.fields = fields

    def packed(self):
        at = lambda buffer: ctypes.addressof(buffer) if buffer is not None else 0
        more = [self.fields.get(key, 0) for key in ("hz", "delay", "bits", "cs", "txn", "rxn", "word")]
        tx, rx = self.fields.get("at_tx", at(self.tx)), self.fields.get("at_rx", at(self.rx))
        return struct.pack("=QQIIHBBBBBB", tx, rx, self.length, *more, 0)


def message(fd, parts):
    """The result, and what was received; the byte behind each buffer is still what it was."""
    array = ctypes.create_string_buffer(b"".join(part.packed() for part in parts))
    count = raw(fd, iow(0, 32 * len(parts)), ctypes.addressof(array))
    received = b""
    for part in parts:
        if part.rx is not None:
            received += part.rx.raw[: part.length]
            assert part.rx.raw[part.length :][:1] == b"\x55", "more was written than there is room for"
    if len(received) > 16:
        return count, hashlib.sha256(received).hexdigest()
    return count, received.hex()


def pattern(length):
    return bytes((17 * n + n // 256) & 0xFF for n in range(length))


def settings(fd):
    say("at first", shown(fd))
    for name, value in [
        ("mode", 1), ("mode", 0x0B), ("mode", 0x80), ("mode32", 0x503), ("mode", 2), ("mode32", 0x1000),
        ("mode32", 0x2000), ("mode32", 1 << 31), ("mode32", 0x30), ("lsb", 2), ("lsb", 0), ("bits", 0),
        ("bits", 9), ("bits", 3), ("bits", 33), ("hz", 0), ("hz", 1_000_000), ("hz", 60_000_000),
        ("hz", 500_000), ("mode", 0), ("bits", 8),
    ]:
        say(f"{name} {value:#x}", told(put, fd, name, value))
        say("now", shown(fd))


def messages(fd):
    for what, parts in [
        ("both", [Part(pattern(5), True)]),
        ("sent", [Part(b"abc")]),
        ("received", [Part(rx=True, length=3)]),
        ("neither", [Part(length=7)]),
        ("nothing", [Part(length=0)]),
        ("command", [Part(b"\x9f"), Part(rx=True, length=3)]),
        ("fields", [Part(pattern(8), hz=1234567, delay=65535, bits=9, cs=1),
                    Part(rx=True, length=8, bits=32, cs=200, word=255), Part(b"x", True, delay=1)]),
        ("wires", [Part(b"x", txn=1), Part(rx=True, length=1, rxn=1)]),
        ("two wires", [Part(b"x", txn=2)]),
        ("three wires", [Part(b"x", txn=3)]),
        ("odd words", [Part(b"abc", bits=16)]),
        ("bad words", [Part(b"abc", bits=33)]),
        ("largest", [Part(pattern(4096), True)]),
        ("too large", [Part(pattern(4097), True)]),
        ("together too large", [Part(pattern(4000)), Part(pattern(97))]),
        ("small ones", [Part(b"x") for _ in range(255)]),
        ("rounded too large", [Part(pattern(1365)) for _ in range(3)]),
        ("many", [Part(pattern(32), True) for _ in range(127)]),
        ("long", [Part(length=1 << 31)]),
        ("long together", [Part(length=0x7fffffff), Part(length=1)]),
        ("wild to send", [Part(length=4, at_tx=8)]),
        ("wild to receive", [Part(b"ok"), Part(length=4, at_rx=1 << 60)]),
        ("wild and too large", [Part(length=1 << 20, at_tx=8)]),
    ]:
        say(f"message {what}", told(message, fd, parts))
    side = ctypes.create_string_buffer(pattern(511 * 8), 511 * 8)
    room = ctypes.create_string_buffer(511 * 8)
    base, into = ctypes.addressof(side), ctypes.addressof(room)
    parts = [Part(length=8, at_tx=base + 8 * n, at_rx=into + 8 * n) for n in range(511)]
    say("message of 511", told(message, fd, parts))
    say("received", hashlib.sha256(room.raw).hexdigest())
    put(fd, "mode32", 0x503)
    for what, parts in [
        ("two wires", [Part(b"xy", txn=2)]),
        ("four wires", [Part(rx=True, length=2, rxn=4)]),
    ]:
        say(f"message {what}", told(message, fd, parts))
    put(fd, "mode32", 0x10)
    say("message both over one wire", told(message, fd, [Part(b"xy", True)]))
    put(fd, "mode32", 0)


def numbers(fd):
    memory = ctypes.create_string_buffer(1024)
    address = ctypes.addressof(memory)
    for number in [
        iow(0, 0), iow(0, 31), iow(0, 33), iow(0, 16383), ior(0, 32), 3 << 30 | iow(0, 32), iow(6, 32), ior(1, 2),
        iow(4, 8), iow(5, 1), 0x5401, 0, iow(1, 0),
    ]:
        say(f"ioctl {number:#x}", told(raw, fd, number, address))
    for number in [iow(0, 32), ior(5, 4), iow(5, 4), iow(1, 1)]:
        say(f"ioctl {number:#x} of nobody's memory", told(raw, fd, number, 8))


def plain(fd):
    for size in (1, 4096, 4097, 200_000):
        got = told(os.read, fd, size)
        say(f"read {size}", got if isinstance(got, str) else (len(got), set(got)))
        say(f"write {size}", told(os.write, fd, pattern(size)))
    say("write of nobody's memory", libc.write(fd, ctypes.c_void_p(8), 4))


def small(fd):
    """A program of 32 bits, whose pointers have another half that means nothing."""
    place = ioctl32.PLACE + ioctl32.ARGUMENT
    high = 0xDEAD << 32
    part = struct.pack("=QQIIHBBBBBB", high | place + 64, high | place + 96, 8, 0, 0, 0, 0, 0, 0, 0, 0)
    argument = part.ljust(64, b"\0") + b"32 bits!".ljust(32, b"\0") + b"\x55" * 32
    left = told(ioctl32.ioctl, fd, iow(0, 32), argument)
    say("32 bits", left if isinstance(left, str) else left[96:])
    wild = struct.pack("=QQIIHBBBBBB", 8, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0)
    say("32 bits wild", told(ioctl32.ioctl, fd, iow(0, 32), wild))
    say("32 bits odd", told(ioctl32.ioctl, fd, iow(0, 33), wild))


def calls(node):
    controller()
    fd = os.open(node, os.O_RDWR)
    settings(fd)
    messages(fd)
    numbers(fd)
    plain(fd)
    small(fd)
    other = os.open(node, os.O_RDWR)
    put(fd, "hz", 250_000)
    say("the other", shown(other))
    os.close(fd)
    say("the other after the first left", shown(other))
    os.close(other)
    fd = os.open(node, os.O_RDWR)
    say("after all left", shown(fd))
    os.close(fd)


def told_by(node):
    """What each kind of call is told now."""
    fd = os.open(node, os.O_RDWR)
    print("opened", flush=True)
    for line in sys.stdin:
        what = line.strip()
        if what == "set":
            came = told(put, fd, "mode32", 0x205), told(put, fd, "bits", 16), told(put, fd, "hz", 123_456)
        elif what == "settings":
            came = told(shown, fd)
        elif what == "calls":
            came = (told(message, fd, [Part(b"hello!", True)]), told(os.read, fd, 2), told(os.write, fd, b"ab"),
                    told(put, fd, "lsb", 0))
        else:
            break
        print(what, came, flush=True)


{"calls": calls, "told": told_by}[sys.argv[1]](sys.argv[2])
