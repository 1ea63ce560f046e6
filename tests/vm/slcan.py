"""A CAN adapter at a serial line, for the kernel's slcan driver: slcan.py FIFO.

It makes a CAN interface and prints its name. Then it prints what the driver tells it, a command a line,
and passes on to the driver what is written into FIFO: frames of the bus, errors, states.
"""

import fcntl
import os
import pty
import select
import struct
import sys
import termios
import tty

N_SLCAN = 17
SIOCGIFNAME = 0x8910


def lines_of(data, rest, end):
    *lines, rest = (rest + data).split(end)
    return lines, rest


def main(fifo):
    adapter, port = pty.openpty()
    tty.setraw(port)
    fcntl.ioctl(port, termios.TIOCSETD, struct.pack("i", N_SLCAN))
    name = fcntl.ioctl(port, SIOCGIFNAME, bytes(16)).split(b"\0")[0]
    os.mkfifo(fifo)
    # Also for writing, so that it does not end when a writer leaves.
    orders = os.open(fifo, os.O_RDWR)
    print(name.decode(), flush=True)
    told, ordered = b"", b""
    while True:
        readable, _, _ = select.select([adapter, orders], [], [])
        if adapter in readable:
            commands, told = lines_of(os.read(adapter, 4096), told, b"\r")
            for command in commands:
                print(command.decode(), flush=True)
        if orders in readable:
            lines, ordered = lines_of(os.read(orders, 4096), ordered, b"\n")
            for line in lines:
                os.write(adapter, line + b"\r")


try:
    main(sys.argv[1])
except KeyboardInterrupt:
    pass
