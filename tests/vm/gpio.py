#!/usr/bin/env python3
"""What the tools of libgpiod 1 cannot do: many quick changes of one line, and debouncing."""

import fcntl
import os
import statistics
import struct
import sys
import time

GET_LINE = 0xC250B407  # GPIO_V2_GET_LINE_IOCTL
SET_VALUES = 0xC010B40F  # GPIO_V2_LINE_SET_VALUES_IOCTL
GET_INFO = 0xC100B405  # GPIO_V2_GET_LINEINFO_IOCTL
INPUT = 1 << 2  # GPIO_V2_LINE_FLAG_INPUT
OUTPUT = 1 << 3  # GPIO_V2_LINE_FLAG_OUTPUT
BOTH_EDGES = 3 << 4  # GPIO_V2_LINE_FLAG_EDGE_RISING and _FALLING
DEBOUNCE = 3  # GPIO_V2_LINE_ATTR_ID_DEBOUNCE
LIMIT = 20


def requested(chip, line, flags, debounce_us=0):
    """A line of a chip; outputs are low."""
    offsets = struct.pack("64I", line, *[0] * 63)
    attributes = struct.pack("IIQQ", DEBOUNCE, 0, debounce_us, 1) if debounce_us else b""
    config = struct.pack("QI5I", flags, int(debounce_us > 0), *[0] * 5) + attributes.ljust(240, b"\0")
    request = bytearray(offsets + b"lab".ljust(32, b"\0") + config + struct.pack("II5Ii", 1, 0, *[0] * 5, 0))
    with open(chip, "rb") as file:
        fcntl.ioctl(file, GET_LINE, request)
    return struct.unpack("i", request[-4:])[0]


def output(chip, line):
    return requested(chip, line, OUTPUT)


def drive(line, level):
    fcntl.ioctl(line, SET_VALUES, struct.pack("QQ", level, 1))


def until(path, level):
    """Waits until a file says so."""
    end = time.monotonic() + LIMIT
    while True:
        with open(path) as file:
            if file.read().strip() == str(level):
                return
        if time.monotonic() > end:
            sys.exit(f"{path} did not become {level} within {LIMIT} s")
        time.sleep(0.0005)


def toggle(pull, trace, log, count):
    """The owner's input goes up and down, as fast as its kernel sees it and, give or take what the
    kernel keeps for a monitor that is slow, as fast as a monitor writes its four bytes a line."""
    with open(trace) as seen:
        for number in range(int(count)):
            end = time.monotonic() + LIMIT
            while os.stat(log).st_size < 4 * (number - 8):
                if time.monotonic() > end:
                    sys.exit(f"the monitor stopped after {os.stat(log).st_size // 4} edges")
                time.sleep(0.001)
            with open(pull, "w") as file:
                file.write("pull-down" if number % 2 else "pull-up")
            seen.readline()


def pulses(chip, line, count):
    """As fast as a program can."""
    handle = output(chip, int(line))
    for number in range(int(count)):
        drive(handle, 1 - number % 2)
    sys.stdin.readline()


def watch(chip, line, debounce_us):
    """Waits for the edges of an input, for ever."""
    requested(chip, int(line), INPUT | BOTH_EDGES, int(debounce_us))
    sys.stdin.readline()


def debounce(chip, line):
    """Says for how many microseconds a line must be stable."""
    info = bytearray(struct.pack("32s32sI", b"", b"", int(line)).ljust(256, b"\0"))
    with open(chip, "rb") as file:
        fcntl.ioctl(file, GET_INFO, info)
    count = struct.unpack_from("I", info, 68)[0]
    attributes = [struct.unpack_from("II I", info, 80 + 16 * number) for number in range(count)]
    print(*[us for kind, _, us in attributes if kind == DEBOUNCE])


def latency(chip, line, value, count):
    """From the ioctl here to the level there."""
    handle = output(chip, int(line))
    took = []
    for number in range(int(count)):
        level = 1 - number % 2
        begin = time.monotonic()
        drive(handle, level)
        until(value, level)
        took.append(time.monotonic() - begin)
    print(f"output latency: median {statistics.median(took) * 1000:.1f} ms, "
          f"worst {max(took) * 1000:.1f} ms of {count} (emulated)")
    os.close(handle)


if __name__ == "__main__":
    TOOLS = {"toggle": toggle, "pulses": pulses, "watch": watch, "debounce": debounce, "latency": latency}
    TOOLS[sys.argv[1]](*sys.argv[2:])
