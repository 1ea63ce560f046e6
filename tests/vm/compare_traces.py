"""Compares what usbmon saw of one device at its owner and at the machine that uses it.

    compare_traces.py TRACE OWNER-BUS OWNER-DEVICE USER-BUS USER-DEVICE ENDPOINT...

TRACE is usbmon's text of all buses ("0u") while the device was used. Each ENDPOINT (its address in
hexadecimal) must have been used. For every endpoint both sides must show the same transfers in the
same order: set-up packet, interval, length asked for, status, length moved, first 32 bytes. What may
differ is in ONE_SIDED and PAIRED, and nothing else.
"""

import sys

SET_ADDRESS = ("00", "05")
# -ENOENT and -ECONNRESET: killed and unlinked.
TAKEN_BACK = {-2, -104}


class Transfer:
    """A submission and, once it has come, its completion."""

    def __init__(self, time, endpoint, setup, interval, length, data):
        self.time, self.endpoint, self.setup = time, endpoint, setup
        self.interval, self.length, self.data = interval, length, data
        self.status = self.moved = None

    def complete(self, status, moved, data):
        self.status, self.moved = status, moved
        self.data = self.data or data

    def __str__(self):
        what = " ".join(self.setup) if self.setup else f"every {self.interval}"
        end = "outstanding" if self.status is None else f"{self.status}, {self.moved} bytes"
        return f"{self.endpoint:02x} [{what}] {self.length}: {end} {self.data}"


def vhci_sets_the_address(side, transfer):
    """vhci answers SET_ADDRESS itself: the owner's device has an address already."""
    return side == "user" and transfer.setup is not None and transfer.setup[:2] == SET_ADDRESS


def taken_back(owner, user):
    """A transfer that the user takes back can end by itself at the owner before the word is there."""
    return user.status in TAKEN_BACK and owner.moved == user.moved and owner.status in {0, *TAKEN_BACK}


def under_way(owner, user):
    """A transfer that is under way when the trace ends has no end on one side."""
    return owner.status is None or user.status is None


# The whole of what may differ: transfers that only one side has, and two that are not quite the same.
ONE_SIDED = [vhci_sets_the_address]
PAIRED = [taken_back, under_way]


def same(owner, user):
    if (owner.setup, owner.interval, owner.length) != (user.setup, user.interval, user.length):
        return False
    ends = [(side.status, side.moved, side.data) for side in (owner, user)]
    return ends[0] == ends[1] or any(reason(owner, user) for reason in PAIRED)


def read(path, bus, devices):
    """The transfers of one device, per endpoint, in the order of their submission."""
    endpoints, running = {}, {}
    with open(path, encoding="ascii") as trace:
        for line in trace:
            tag, time, event, address, *rest = line.split()
            kind, its_bus, device, number = address.split(":")
            if int(its_bus) != bus or int(device) not in devices:
                continue
            setup = None
            if rest[0] == "s":
                setup, rest = tuple(rest[1:6]), rest[5:]
            status, length = rest[0], int(rest[1])
            data = "".join(rest[3:]) if rest[2:3] == ["="] else ""
            endpoint = int(number) | (0x80 if kind[1] == "i" else 0)
            if kind[0] == "C":
                endpoint = 0
            if event == "S":
                interval = ":".join(status.split(":")[1:])
                transfer = Transfer(int(time), endpoint, setup, interval, length, data)
                endpoints.setdefault(endpoint, []).append(transfer)
                running[tag] = transfer
            elif tag in running:
                running.pop(tag).complete(int(status.split(":")[0]), length, data)
    return endpoints


def compare(owner, user, used):
    """Prints every difference that has no reason; true when there is none."""
    clean = True
    for endpoint in sorted(owner.keys() | user.keys()):
        theirs, ours = owner.get(endpoint, []), user.get(endpoint, [])
        equal = 0
        while theirs or ours:
            if theirs and ours and same(theirs[0], ours[0]):
                theirs.pop(0), ours.pop(0)
                equal += 1
            elif ours and excused("user", ours[0]):
                ours.pop(0)
            elif theirs and excused("owner", theirs[0]):
                theirs.pop(0)
            else:
                clean = False
                print(f"endpoint {endpoint:02x}, after {equal} equal transfers:")
                for name, side in (("owner", theirs), ("user", ours)):
                    for transfer in side[:5]:
                        print(f"  {name}: {transfer}")
                break
        print(f"endpoint {endpoint:02x}: {equal} transfers are the same")
        if endpoint in used and not equal:
            clean = False
            print(f"endpoint {endpoint:02x} was to be used")
    return clean


def excused(side, transfer):
    for reason in ONE_SIDED:
        if reason(side, transfer):
            print(f"  {side} only: {transfer}\n    {reason.__doc__}")
            return True
    return False


def main(path, owner_bus, owner_device, user_bus, user_device, *used):
    # Until it has an address the device is number 0 of its bus.
    user = read(path, int(user_bus), {0, int(user_device)})
    owner = read(path, int(owner_bus), {int(owner_device)})
    if not user:
        sys.exit("the user's side of the trace is empty")
    # What the owner's drivers did before the device was attached is none of the user's.
    begin = min(transfers[0].time for transfers in user.values())
    for transfers in owner.values():
        transfers[:] = [transfer for transfer in transfers if transfer.time >= begin]
    sys.exit(0 if compare(owner, user, {int(endpoint, 16) for endpoint in used}) else 1)


main(*sys.argv[1:])
