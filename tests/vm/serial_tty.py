"""What programs do on a tty: serial_tty.py WHAT TTY FAR [MORE], where FAR is the other end of the cable."""

import array
import errno
import fcntl
import os
import select
import signal
import struct
import sys
import termios
import threading
import time

import serial

import ioctl32

TIOCCBRK = 0x5428
TIOCGETD = 0x5424
TIOCGEXCL = 0x80045440
TIOCGICOUNT = 0x545D
TIOCGRS485 = 0x542E
TIOCGSERIAL = 0x541E
TIOCGSID = 0x5429
TIOCGSOFTCAR = 0x5419
TIOCMIWAIT = 0x545C
TIOCM_LOOP = 0x8000
TIOCSBRK = 0x5427
TIOCSSERIAL = 0x541F
TCGETS2 = 0x802C542A
TCSBRKP = 0x5425
# DTR, RTS, CTS, carrier, RI, DSR: what the drivers of UARTs say besides is their own.
LINES = 0x1E6


def expect(what, wanted, found):
    if wanted != found:
        raise SystemExit(f"{what}: expected {wanted!r}, found {found!r}")


def name_of(call, *args):
    """The error that a call ends with, or what it returns."""
    try:
        return call(*args)
    except OSError as error:
        return errno.errorcode[error.errno]


def opened(path, flags=0):
    return os.open(path, os.O_RDWR | os.O_NOCTTY | flags)


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
    for action, sent in ((termios.TCIOFF, b"\x13"), (termios.TCION, b"\x11")):
        termios.tcflow(port.fd, action)
        expect("what stops and starts the far end", sent, far.read(1))
    termios.tcflow(port.fd, termios.TCOOFF)
    threading.Thread(target=port.write, args=[b"held"]).start()
    far.timeout = 0.5
    expect("what a port sends that is stopped", b"", far.read(4))
    far.timeout = 10
    termios.tcflow(port.fd, termios.TCOON)
    expect("what it sends when it goes on", b"held", far.read(4))


def modem(file):
    return struct.unpack("I", fcntl.ioctl(file, termios.TIOCMGET, bytes(4)))[0]


def others(port, far):
    port.send_break(0.1)
    port.break_condition = True
    port.break_condition = False
    # Five and seven came; 256, three, four and two for the far end's flow were sent.
    expect("bytes received and sent", [12, 265], list(counted(port.fd)[4:6]))
    port.set_low_latency_mode(True)
    settings = struct.unpack("4I20B2I", fcntl.ioctl(port.fd, TCGETS2, bytes(44)))
    expect("speeds", (115200, 115200), settings[-2:])
    expect("isatty", True, os.isatty(port.fd))
    far.reset_input_buffer()


def counted(file):
    counts = array.array("i", [0] * 20)
    fcntl.ioctl(file, TIOCGICOUNT, counts)
    return counts


def same_answers(port, far):
    """Each of these ends on the remote UART as it does on one of this machine."""
    calls = [(TCSBRKP, 0), (termios.TCSBRK, 0), (termios.TCSBRK, 1), (termios.TCFLSH, 7), (0x54FF, 0)]
    calls += [(termios.TCFLSH, which) for which in range(3)]
    calls += [(termios.TCXONC, 0), (termios.TCXONC, 1), (termios.TCXONC, 9)]
    calls += [(number, 0) for number in (TIOCSBRK, TIOCCBRK, termios.TIOCNXCL)]
    calls += [(number, bytes(4)) for number in (termios.FIONREAD, termios.TIOCOUTQ, TIOCGSOFTCAR, TIOCGETD)]
    calls += [(number, bytes(4)) for number in (TIOCGEXCL, TIOCGSID, termios.TIOCGPGRP)]
    calls += [(termios.TIOCGWINSZ, bytes(8)), (TIOCGRS485, bytes(32))]
    for number, argument in calls:
        real = name_of(fcntl.ioctl, far.fd, number, argument)
        expect(f"ioctl {number:#x} {argument!r}", real, name_of(fcntl.ioctl, port.fd, number, argument))
    expect("the lines", modem(far.fd) & LINES, modem(port.fd))
    expect("a controlling terminal", "ENOTTY", name_of(fcntl.ioctl, port.fd, termios.TIOCSCTTY, 0))


def of_32_bits(port):
    """Programs of 32 bits have a shorter serial_struct; all else is the same for them."""
    for number, size in ((termios.TCGETS, 36), (TCGETS2, 44), (termios.TIOCMGET, 4)):
        expect(
            f"ioctl {number:#x} of 32 bits",
            fcntl.ioctl(port.fd, number, bytes(size)),
            ioctl32.ioctl(port.fd, number, bytes(size)),
        )
    behind = bytes([0xEE] * 12)
    short = ioctl32.ioctl(port.fd, TIOCGSERIAL, bytes(60) + behind)
    expect("what is behind a short structure", behind, short[60:])
    whole = fcntl.ioctl(port.fd, TIOCGSERIAL, bytes(72))
    expect("the same in both structures", whole[:40], short[:40])
    ioctl32.ioctl(port.fd, TIOCSSERIAL, short[:60])
    expect("the same afterwards", whole, fcntl.ioctl(port.fd, TIOCGSERIAL, bytes(72)))
    expect("no such call", "ENOTTY", name_of(ioctl32.ioctl, port.fd, TIOCGSID, bytes(4)))


def ways_to_wait(path, far):
    file = opened(path, os.O_NONBLOCK)
    # pyserial has set VMIN to 0, with which no read waits.
    expect("a read of nothing", b"", os.read(file, 1))
    attributes = termios.tcgetattr(file)
    attributes[6][termios.VMIN] = 1
    termios.tcsetattr(file, termios.TCSANOW, attributes)
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


def two_openers(path, far):
    first, second = opened(path), opened(path)
    threading.Timer(0.3, os.write, [second, b"from the second"]).start()
    expect("what one opener wrote", b"from the second", far.read(15))
    threading.Timer(0.3, far.write, [b"y"]).start()
    expect("what the other one reads, which waits", b"y", os.read(first, 9))
    settings = termios.tcgetattr(first)
    settings[6][termios.VTIME] = 1
    settings[6][termios.VMIN] = 0
    termios.tcsetattr(first, termios.TCSANOW, settings)
    expect("settings of the other one", settings, termios.tcgetattr(second))
    os.close(first)
    expect("a read of who is left", b"", os.read(second, 1))
    os.close(second)


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
            others(port, far)
            same_answers(port, far)
            of_32_bits(port)
            ways_to_wait(path, far)
        two_openers(path, far)


def close_alone(path, far_path, hub):
    """The owner's daemon stands still while the tty is closed."""
    with serial.Serial(far_path, 115200, timeout=20) as far:
        file = opened(path)
        os.kill(int(hub), signal.SIGSTOP)
        try:
            os.write(file, b"last words")
            os.close(file)
        finally:
            os.kill(int(hub), signal.SIGCONT)
        expect("what was written before the close", b"last words", far.read(10))


def keep(path, _):
    serial.Serial(path, 115200, exclusive=True)
    fcntl.ioctl(opened(path), termios.TIOCEXCL)
    print("kept", flush=True)
    time.sleep(600)


def wait_for_lines(path, _):
    fcntl.ioctl(opened(path), TIOCMIWAIT, 0x1E0)


def reset(path, _):
    """A boot loader's way into it, as programs do it that change both lines at once."""
    port = serial.Serial(path, 115200)
    for lines in (termios.TIOCM_RTS, termios.TIOCM_DTR, 0):
        fcntl.ioctl(port.fd, termios.TIOCMSET, struct.pack("I", lines))
        time.sleep(0.05)
    expect("DTR and RTS", 0, modem(port.fd) & (termios.TIOCM_DTR | termios.TIOCM_RTS))
    port.send_break(0.1)


def loop(path, near):
    """The owner's UART is made to see its own outputs: RTS is its CTS then, DTR its DSR."""
    real = opened(near, os.O_NONBLOCK)
    fcntl.ioctl(real, termios.TIOCMBIS, struct.pack("I", TIOCM_LOOP))
    with serial.Serial(path, 115200) as port:
        for rts, dtr in ((False, False), (False, True), (True, False), (True, True)):
            port.rts, port.dtr = rts, dtr
            expect("CTS and DSR", (rts, dtr), (port.cts, port.dsr))
            expect("the owner's lines", modem(real) & LINES, modem(port.fd))
    fcntl.ioctl(real, termios.TIOCMBIC, struct.pack("I", TIOCM_LOOP))


def take_break(path, _):
    """A break that comes is a zero among the bytes, and is counted."""
    file = opened(path)
    before = counted(file)[9]
    print("waiting", flush=True)
    expect("what stands for a break", b"\0", os.read(file, 9))
    wait_until("the count of a break", lambda: counted(file)[9] == before + 1)
    print("counted", flush=True)


def base(path, speed):
    """The highest speed of a UART."""
    file = opened(path, os.O_NONBLOCK)
    settings = bytearray(fcntl.ioctl(file, TIOCGSERIAL, bytes(72)))
    struct.pack_into("i", settings, 28, int(speed))
    fcntl.ioctl(file, TIOCSSERIAL, bytes(settings))


def lost(*paths):
    """Nothing was lost for want of room, nor received wrong: frame, overrun, parity, break, buffer."""
    for path in paths:
        expect(f"errors of {path}", [0] * 5, list(counted(opened(path, os.O_NONBLOCK))[6:11]))


def hang_up(path, _):
    file = opened(path)
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
