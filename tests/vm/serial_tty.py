"""What programs do on a tty: serial_tty.py WHAT TTY FAR, where FAR is the other end of the cable."""

import array
import errno
import fcntl
import os
import select
import struct
import sys
import termios
import threading
import time

import serial

TIOCGICOUNT = 0x545D
TIOCMIWAIT = 0x545C
TCGETS2 = 0x802C542A


def expect(what, wanted, found):
    if wanted != found:
        raise SystemExit(f"{what}: expected {wanted!r}, found {found!r}")


def name_of(call, *args):
    """The error that a call ends with, or what it returns."""
    try:
        return call(*args)
    except OSError as error:
        return errno.errorcode[error.errno]


def bytes_and_times(port, far):
    far.write(b"hello")
    expect("five bytes", b"hello", port.read(5))
    port.timeout = 0.3
    begin = time.monotonic()
    expect("a read that times out", b"", port.read(1))
    if time.monotonic() - begin < 0.25:
        raise SystemExit("a read did not wait")
    port.timeout = 10
    expect("a write", 256, port.write(bytes(range(256))))
    port.flush()
    expect("every byte", bytes(range(256)), far.read(256))


def queues(port, far):
    far.write(b"waiting")
    wait_until("bytes in the queue", lambda: port.in_waiting == 7)
    port.reset_input_buffer()
    expect("after a flush", 0, port.in_waiting)
    port.write(b"out")
    port.flush()
    expect("what is not sent", 0, port.out_waiting)
    expect("what was written", b"out", far.read(3))


def lines(port):
    for dtr in (False, True):
        port.dtr = dtr
        expect("DTR", dtr, bool(modem(port) & termios.TIOCM_DTR))
    for rts in (False, True):
        port.rts = rts
        expect("RTS", rts, bool(modem(port) & termios.TIOCM_RTS))
    # QEMU's UART has all three without a cable.
    expect("CTS, DSR, carrier", (True, True, True), (port.cts, port.dsr, port.cd))


def modem(port):
    return struct.unpack("I", fcntl.ioctl(port.fd, termios.TIOCMGET, bytes(4)))[0]


def others(port, far):
    port.send_break(0.1)
    port.break_condition = True
    port.break_condition = False
    counts = array.array("i", [0] * 20)
    fcntl.ioctl(port.fd, TIOCGICOUNT, counts)
    if counts[5] == 0:
        raise SystemExit("nothing was counted")
    port.set_low_latency_mode(True)
    expect("a controlling terminal", "ENOTTY", name_of(fcntl.ioctl, port.fd, termios.TIOCSCTTY, 0))
    expect("a window", bytes(8), fcntl.ioctl(port.fd, termios.TIOCGWINSZ, bytes(8)))
    settings = struct.unpack("4I20B2I", fcntl.ioctl(port.fd, TCGETS2, bytes(44)))
    expect("speeds", (115200, 115200), settings[-2:])
    expect("isatty", True, os.isatty(port.fd))
    far.reset_input_buffer()


def ways_to_wait(path, far):
    file = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_NOCTTY)
    expect("a read that does not wait", "EAGAIN", name_of(os.read, file, 1))
    poll = select.poll()
    poll.register(file, select.POLLIN)
    expect("nothing to read", [], poll.poll(200))
    threading.Timer(0.3, far.write, [b"x"]).start()
    expect("something to read", [(file, select.POLLIN)], poll.poll(20000))
    expect("a read after poll", b"x", os.read(file, 9))
    epoll = select.epoll()
    epoll.register(file, select.EPOLLIN | select.EPOLLOUT)
    expect("room to write", [(file, select.EPOLLOUT)], epoll.poll(20))
    os.close(file)


def wait_until(what, come):
    end = time.monotonic() + 20
    while not come():
        if time.monotonic() > end:
            raise SystemExit(f"{what} did not come")
        time.sleep(0.05)


def calls(path, far_path):
    with serial.Serial(far_path, 115200, timeout=10) as far:
        with serial.Serial(path, 115200, timeout=10) as port:
            bytes_and_times(port, far)
            queues(port, far)
            lines(port)
            others(port, far)
            ways_to_wait(path, far)


def keep(path, _):
    serial.Serial(path, 115200, exclusive=True)
    file = os.open(path, os.O_RDWR | os.O_NOCTTY)
    fcntl.ioctl(file, termios.TIOCEXCL)
    print("kept", flush=True)
    time.sleep(600)


def hang_up(path, _):
    file = os.open(path, os.O_RDWR | os.O_NOCTTY)
    print("reading", flush=True)
    got = len(os.read(file, 1))
    written = name_of(os.write, file, b"x")
    settings = name_of(fcntl.ioctl, file, termios.TIOCMGET, bytes(4))
    poll = select.poll()
    poll.register(file, select.POLLIN | select.POLLOUT)
    said = poll.poll(0)[0][1]
    print(f"read {got}, write {written}, ioctl {settings}, poll {said:x}", flush=True)


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
