"""A smart card for QEMU's ccid-card-passthru: card.py PORT FILE

Speaks the vscard protocol (libcacard, vscard_common.h) on a port of this guest. The card answers
READ BINARY with what FILE holds and everything else with "instruction not supported".
"""

import os
import struct
import sys

INIT, ERROR, READER_ADD, ATR, APDU = 1, 2, 3, 5, 7
VERSION = 2
READER = 0

# Direct convention, no interface bytes (so T=0), seven historical bytes.
ANSWER_TO_RESET = b"\x3b\x07" + b"labcard"


def main(port, file):
    line = os.open(port, os.O_RDWR)
    with open(file, "rb") as content:
        memory = content.read()
    send(line, INIT, b"VSCD" + struct.pack(">II", VERSION, 0))
    send(line, READER_ADD, b"")
    send(line, ATR, ANSWER_TO_RESET)
    print("card inserted, ATR", ANSWER_TO_RESET.hex(), flush=True)
    while True:
        kind, _, length = struct.unpack(">III", exactly(line, 12))
        payload = exactly(line, length)
        print("received", kind, payload.hex(), flush=True)
        if kind == APDU:
            send(line, APDU, answer(memory, payload))


def answer(memory, apdu):
    # READ BINARY: offset in P1 and P2, expected length behind them, 0 for 256.
    if apdu[:2] == b"\0\xb0" and len(apdu) == 5:
        offset, length = struct.unpack(">HB", apdu[2:])
        return memory[offset:][: length or 256] + b"\x90\0"
    return b"\x6d\0"


def send(line, kind, payload):
    message = struct.pack(">III", kind, READER, len(payload)) + payload
    while message:
        message = message[os.write(line, message) :]


def exactly(line, length):
    data = b""
    while len(data) < length:
        more = os.read(line, length - len(data))
        if not more:
            sys.exit("the reader is gone")
        data += more
    return data


main(*sys.argv[1:])
