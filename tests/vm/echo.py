"""What a program does on the device of tests/vm/echo.rs: echo.py CALLS NODE"""

import array
import errno
import fcntl
import os
import select
import signal
import struct
import sys

STATUS, FILL, REVERSE, GATHER, NUMBER, UNKNOWN = 0x4501, 0x4502, 0x4503, 0x4504, 0x4505, 0x4506
# Longer than one request carries.
LONG = 300_000


def read_bytes(node):
    device = os.open(node, os.O_RDWR)
    echo(device, b"hello")
    sent = bytes(at % 251 for at in range(LONG))
    equal(os.write(device, sent), LONG)
    got = b""
    while len(got) < LONG:
        got += os.read(device, 50_000)
    equal(got == sent, True)
    # It is no file: there are no positions.
    equal(os.lseek(device, 5, os.SEEK_SET), 0)
    waiting = os.open(node, os.O_RDWR | os.O_NONBLOCK)
    fails(errno.EAGAIN, os.read, waiting, 10)
    equal(events(waiting), select.POLLOUT)
    os.write(device, b"two")
    equal(events(waiting), select.POLLIN | select.POLLOUT)
    equal(os.read(waiting, 10), b"two")
    # The flag may change while the file is open.
    os.set_blocking(device, False)
    fails(errno.EAGAIN, os.read, device, 10)


def poller(node):
    """Waits until there is something to read, whoever else reads meanwhile."""
    device = os.open(node, os.O_RDWR | os.O_NONBLOCK)
    watch = select.epoll()
    watch.register(device, select.EPOLLIN)
    while True:
        equal([found for _, found in watch.poll()], [select.EPOLLIN])
        try:
            print("woke for", os.read(device, 100).decode().strip())
            return
        except BlockingIOError:
            pass


def signals(node):
    device = os.open(node, os.O_RDWR)

    class Rang(Exception):
        pass

    def ring(*_):
        raise Rang

    signal.signal(signal.SIGALRM, ring)
    for _ in range(3):
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        try:
            os.read(device, 10)
            sys.exit("a read ended without a signal")
        except Rang:
            pass
        echo(device, b"afterwards")


def ioctls(node):
    device = os.open(node, os.O_RDWR)
    equal(fcntl.ioctl(device, NUMBER, 42), 42)
    fails(errno.ENOTTY, fcntl.ioctl, device, UNKNOWN, 0)
    fails(errno.EINVAL, fcntl.ioctl, device, NUMBER, -1)

    status = bytearray(b"\xff" * 5001)
    fcntl.ioctl(device, FILL, bytes(range(36)))
    fcntl.ioctl(device, STATUS, status)
    equal(status, struct.pack("Q", 36) + bytes(4992) + b"\xff")
    equal(os.read(device, 100), bytes(range(36)))

    both = bytearray(b"0123456789abcdef")
    fcntl.ioctl(device, REVERSE, both)
    equal(both, b"fedcba9876543210")
    # Addresses that are not the caller's.
    for command in STATUS, FILL, REVERSE, GATHER:
        fails(errno.EFAULT, fcntl.ioctl, device, command, 0x1000)
    gather(device)


def gather(device):
    sources = [array.array("B", data) for data in (b"abc", b"", b"Z", bytes(range(256)) * 300)]
    targets = [array.array("B", bytes(len(source))) for source in sources]
    segments = array.array("B")
    for source, target in zip(sources, targets):
        segments.frombytes(struct.pack("QQII", at(source), at(target), len(source), 0))
    header = struct.pack("QII", at(segments), len(sources), 0)
    equal(fcntl.ioctl(device, GATHER, bytearray(header)), len(sources))
    for source, target in zip(sources, targets):
        equal(target.tobytes() == source.tobytes()[::-1], True)
    # More segments than an ioctl can have pieces, and more bytes.
    many = array.array("B", segments.tobytes()[:24] * 129)
    for block, count in (many, 129), (many, 0xFFFF_FFFF):
        header = struct.pack("QII", at(block), count, 0)
        fails(errno.ENOMEM, fcntl.ioctl, device, GATHER, bytearray(header))
    header = struct.pack("QII", 0x1000, 1, 0)
    fails(errno.EFAULT, fcntl.ioctl, device, GATHER, bytearray(header))


def orphan(node):
    """A call that waits when the device goes, and later ones."""
    device = os.open(node, os.O_RDWR)
    words = []
    try:
        os.read(device, 10)
    except OSError as error:
        words.append(errno.errorcode[error.errno])
    if events(device) & select.POLLERR:
        words.append("POLLERR")
    try:
        os.write(device, b"x")
    except OSError as error:
        words.append(errno.errorcode[error.errno])
    os.close(device)
    print(*words)


def echo(device, data):
    equal(os.write(device, data), len(data))
    equal(os.read(device, 1000), data)


def events(device):
    watch = select.poll()
    watch.register(device, select.POLLIN | select.POLLOUT)
    found = watch.poll(0)
    return found[0][1] if found else 0


def at(block):
    return block.buffer_info()[0]


def fails(number, call, *arguments):
    try:
        result = call(*arguments)
    except OSError as error:
        equal(errno.errorcode[error.errno], errno.errorcode[number])
    else:
        raise AssertionError(f"no error but {result!r}")


def equal(found, wanted):
    assert found == wanted, f"{found!r} instead of {wanted!r}"


CALLS = {
    "bytes": read_bytes,
    "ioctls": ioctls,
    "orphan": orphan,
    "poller": poller,
    "signals": signals,
}
CALLS[sys.argv[1]](sys.argv[2])
