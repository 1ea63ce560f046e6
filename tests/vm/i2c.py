"""What programs call on an I2C bus: i2c.py WHAT NODE [MORE]."""

import ctypes
import errno
import fcntl
import os
import struct
import sys

import ioctl32

SLAVE = 0x0703
TENBIT = 0x0704
FUNCS = 0x0705
SLAVE_FORCE = 0x0706
RDWR = 0x0707
PEC = 0x0708
SMBUS = 0x0720
READ = 1

STRICT = 0x30
CHECKED = 0x40
BROKEN = 0x41
EEPROM = 0x50
WRONG = 0xEE


def expect(what, wanted, found):
    if wanted != found:
        raise SystemExit(f"{what}: expected {wanted!r}, found {found!r}")


def name_of(call, *args):
    """The error that a call ends with, or what it returns."""
    try:
        return call(*args)
    except OSError as error:
        return errno.errorcode[error.errno]


class Message(ctypes.Structure):
    _fields_ = [("addr", ctypes.c_uint16), ("flags", ctypes.c_uint16), ("len", ctypes.c_uint16), ("buf", ctypes.c_void_p)]


def transfer(node, *messages):
    """Address, flags, length and data or an address of memory, each; what is there afterwards."""
    buffers = [ctypes.create_string_buffer(m[3], m[2]) if isinstance(m[3], bytes) else m[3] for m in messages]
    address = lambda buffer: buffer if isinstance(buffer, int) else ctypes.addressof(buffer)
    array = (Message * len(messages))(*[(*m[:3], address(b)) for m, b in zip(messages, buffers)])
    header = struct.pack("QI4x", ctypes.addressof(array), len(messages))
    expect("the number of messages", len(messages), fcntl.ioctl(node, RDWR, header and bytearray(header)))
    return [b.raw for b in buffers if not isinstance(b, int)]


def smbus(node, read, command, size, data=b""):
    union = ctypes.create_string_buffer(data, 34)
    fcntl.ioctl(node, SMBUS, struct.pack("BBxxIQ", read, command, size, ctypes.addressof(union)))
    return union.raw


def calls(path):
    node = os.open(path, os.O_RDWR)
    register = lambda value: value ^ 0x5A
    both = transfer(node, (STRICT, 0, 1, b"\x07"), (STRICT, READ, 1, b"\0"), (STRICT, READ, 1, b"\0"))
    expect("a transaction in one", [b"\x07", bytes([register(7)]), bytes([register(8)])], both)
    expect("nobody", "ENXIO", name_of(transfer, node, (0x11, READ, 1, b"\0")))
    funcs = bytearray(8)
    fcntl.ioctl(node, FUNCS, funcs)
    expect("the functionality of an adapter", 1, struct.unpack("Q", funcs)[0] & 1)

    fcntl.ioctl(node, SLAVE, CHECKED)
    fcntl.ioctl(node, PEC, 1)
    smbus(node, 0, 5, 2, b"\x77")
    expect("a byte with PEC", 0x77, smbus(node, 1, 5, 2)[0])
    fcntl.ioctl(node, SLAVE, BROKEN)
    expect("a wrong PEC", "EBADMSG", name_of(smbus, node, 1, 5, 2))
    fcntl.ioctl(node, PEC, 0)
    expect("the same without PEC", 0, smbus(node, 1, 5, 2)[0])

    fcntl.ioctl(node, SLAVE, EEPROM)
    expect("write", 3, os.write(node, b"\x80AB"))
    expect("write", 1, os.write(node, b"\x80"))
    expect("read", b"AB", os.read(node, 2))
    expect("an I2C block", b"\x02AB", smbus(node, 1, 0x80, 8, b"\x02")[:3])
    expect("an address of eight bits", "EINVAL", name_of(fcntl.ioctl, node, SLAVE, 0x80))
    expect("no such call", "ENOTTY", name_of(fcntl.ioctl, node, 0x0709, 0))
    hostile(node)
    as_32_bits(node)


def hostile(node):
    """Pointers that lead nowhere, counts and lengths that cannot be."""
    wild = 0x1000
    header = lambda at, count: struct.pack("QI4x", at, count)
    expect("a wild header", "EFAULT", name_of(raw, node, RDWR, wild))
    expect("a wild structure", "EFAULT", name_of(raw, node, SMBUS, wild))
    expect("a wild number", "EFAULT", name_of(raw, node, FUNCS, wild))
    expect("wild messages", "EFAULT", name_of(fcntl.ioctl, node, RDWR, header(wild, 1)))
    expect("too many messages", "EINVAL", name_of(fcntl.ioctl, node, RDWR, header(wild, 43)))
    expect("no messages", "EINVAL", name_of(fcntl.ioctl, node, RDWR, header(wild, 0)))
    expect("a wild buffer", "EFAULT", name_of(transfer, node, (EEPROM, READ, 1, wild)))
    expect("wild data", "EFAULT", name_of(transfer, node, (EEPROM, 0, 1, wild)))
    expect("a long message", "EINVAL", name_of(transfer, node, (EEPROM, READ, 8193, bytes(8193))))
    expect("a block of 33", "EINVAL", name_of(smbus, node, 0, 0, 5, b"\x21" * 34))
    expect("no such protocol", "EINVAL", name_of(smbus, node, 0, 0, 9))


def raw(node, number, address):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.ioctl(node, ctypes.c_ulong(number), ctypes.c_void_p(address)) < 0:
        raise OSError(ctypes.get_errno(), "ioctl")


def as_32_bits(node):
    """Pointers of four bytes; what they point to lies behind the argument."""
    base = ioctl32.PLACE + ioctl32.ARGUMENT
    header, message = 8, 12
    data = base + header + 2 * message
    argument = struct.pack("II", base + header, 2)
    argument += struct.pack("HHHxxI", STRICT, 0, 1, data) + struct.pack("HHHxxI", STRICT, READ, 2, data + 1)
    after = ioctl32.ioctl(node, RDWR, argument + b"\x21\xAA\xAA\xAA")
    expect("what was there and what was read", b"\x21" + bytes([0x21 ^ 0x5A, 0x22 ^ 0x5A]) + b"\xAA", after[-4:])
    after = ioctl32.ioctl(node, SMBUS, struct.pack("BBxxII", 1, 0x80, 3, base + 12) + b"\xAA" * 4)
    expect("a word", b"AB\xAA\xAA", after[-4:])
    expect("a word of functionality", b"\xAA" * 4, ioctl32.ioctl(node, FUNCS, b"\xAA" * 8)[4:])
    wild = struct.pack("II", 0x1000, 1)
    expect("wild messages", "EFAULT", name_of(ioctl32.ioctl, node, RDWR, wild))


def say(path, *wanted):
    """Reads a register of the EEPROM with SMBus over and over; says each answer that differs from the last."""
    node = os.open(path, os.O_RDWR)
    number = SLAVE_FORCE if "force" in wanted else SLAVE
    last = None
    fcntl.ioctl(node, number, EEPROM)
    while True:
        answer = name_of(smbus, node, 1, 0, 2)
        answer = answer if isinstance(answer, str) else "ok"
        if answer != last:
            print(answer, flush=True)
        last = answer
        if answer in wanted:
            return


def stress(path, first, count):
    """Each transaction says a register and reads it; what comes between would show."""
    node = os.open(path, os.O_RDWR)
    for number in range(int(count)):
        value = (int(first) + number) & 0xFF
        read = transfer(node, (STRICT, 0, 1, bytes([value])), (STRICT, READ, 1, b"\0"))[1]
        expect(f"register {value}", bytes([value ^ 0x5A]), read)


if __name__ == "__main__":
    {"calls": calls, "say": say, "stress": stress}[sys.argv[1]](*sys.argv[2:])
