"""A U2F security key on a HID gadget: u2f_key.py /dev/hidgN DIRECTORY

CTAPHID (FIDO CTAP 2.1, 11.2) with U2F messages only (FIDO U2F raw message formats 1.2), the user
always present. The P-256 keys and signatures are openssl's, in DIRECTORY.
"""

import errno
import hashlib
import os
import struct
import subprocess
import sys
import time

REPORT = 64
PING, MSG, INIT, FAULT = 0x81, 0x83, 0x86, 0xBF
INVALID_COMMAND = b"\x01"
# Protocol version 2, device version 1.0.0, no WINK and no CBOR.
VERSION = bytes([2, 1, 0, 0, 0])

REGISTER, AUTHENTICATE, GET_VERSION = 1, 2, 3
OK, NOT_SATISFIED, WRONG_DATA, NO_INSTRUCTION = 0x9000, 0x6985, 0x6A80, 0x6D00
CHECK_ONLY = 7
PRESENT = b"\x01"


def main(device, directory):
    line = os.open(device, os.O_RDWR)
    os.chdir(directory)
    certificate = attestation()
    print("key ready", flush=True)
    counter = 0
    while True:
        channel, command, payload = receive(line)
        print("command", hex(command), len(payload), flush=True)
        if command == INIT:
            send(line, channel, INIT, payload[:8] + b"\0\0\0\x01" + VERSION)
        elif command == PING:
            send(line, channel, PING, payload)
        elif command == MSG:
            counter += 1
            data, status = u2f(payload, certificate, counter)
            send(line, channel, MSG, data + struct.pack(">H", status))
        else:
            send(line, channel, FAULT, INVALID_COMMAND)


def u2f(apdu, certificate, counter):
    instruction, mode = apdu[1:3]
    # Extended length: 0, two bytes of length, then the data.
    data = apdu[7 : 7 + struct.unpack(">H", apdu[5:7])[0]] if len(apdu) > 7 else b""
    if instruction == GET_VERSION:
        return b"U2F_V2", OK
    if instruction == REGISTER and len(data) == 64:
        return register(data[:32], data[32:], certificate), OK
    if instruction == AUTHENTICATE and len(data) > 65:
        challenge, application, handle = data[:32], data[32:64], data[65 : 65 + data[64]]
        key = key_file(application, handle)
        if not os.path.exists(key):
            return b"", WRONG_DATA
        if mode == CHECK_ONLY:
            return b"", NOT_SATISFIED
        count = struct.pack(">I", counter)
        return PRESENT + count + sign(key, application + PRESENT + count + challenge), OK
    return b"", NO_INSTRUCTION


def register(challenge, application, certificate):
    handle = os.urandom(64)
    key = key_file(application, handle)
    openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", key)
    # The uncompressed point ends the SubjectPublicKeyInfo.
    public = openssl("pkey", "-in", key, "-pubout", "-outform", "DER")[-65:]
    signed = b"\0" + application + challenge + handle + public
    signature = sign("attestation.pem", signed)
    return b"\x05" + public + bytes([len(handle)]) + handle + certificate + signature


def key_file(application, handle):
    return hashlib.sha256(application + handle).hexdigest() + ".pem"


def attestation():
    return openssl(
        *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
        *("-subj", "/CN=security key", "-keyout", "attestation.pem", "-outform", "DER"),
    )


def sign(key, data):
    return openssl("dgst", "-sha256", "-sign", key, data=data)


def openssl(*arguments, data=b""):
    run = ["openssl", *arguments]
    return subprocess.run(run, input=data, stdout=subprocess.PIPE, check=True).stdout


def receive(line):
    """One message: a first report, then as many as its length needs."""
    report = read(line)
    while not report[4] & 0x80:
        report = read(line)
    channel, command, length = report[:4], report[4], struct.unpack(">H", report[5:7])[0]
    payload = report[7:]
    while len(payload) < length:
        payload += read(line)[5:]
    return channel, command, payload[:length]


def read(line):
    """The next report; a reset of the device ends a read, and the device is configured again."""
    while True:
        try:
            return os.read(line, REPORT)
        except OSError as error:
            if error.errno != errno.ESHUTDOWN:
                raise
            time.sleep(0.02)


def send(line, channel, command, payload):
    head = channel + bytes([command]) + struct.pack(">H", len(payload))
    report, rest, sequence = head + payload[:57], payload[57:], 0
    os.write(line, report.ljust(REPORT, b"\0"))
    while rest:
        report, rest = channel + bytes([sequence]) + rest[:59], rest[59:]
        os.write(line, report.ljust(REPORT, b"\0"))
        sequence += 1


main(*sys.argv[1:])
