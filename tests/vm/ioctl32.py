"""An ioctl as a program of 32 bits makes it: by the system call gate of such programs, from a 64-bit one."""

import ctypes
import mmap

PAGE = 4096
# Where in the page the argument is; the code is at its begin.
ARGUMENT = 2048
MAP_32BIT = 0x40

# push rbx; mov eax, 54 (ioctl); mov ebx, edi; mov ecx, esi; int 0x80; pop rbx; ret. The third argument
# is in edx on both sides.
CODE = bytes.fromhex("53 b836000000 89fb 89f1 cd80 5b c3")

libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]


def _page():
    protection = mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_32BIT
    page = libc.mmap(None, PAGE, protection, flags, -1, 0)
    ctypes.memmove(page, CODE, len(CODE))
    return page


PLACE = _page()
CALL = ctypes.CFUNCTYPE(ctypes.c_int, *[ctypes.c_uint] * 3)(PLACE)


def ioctl(file, number, argument):
    """The argument as the kernel left it; what is behind it stays in sight of who is compared."""
    ctypes.memmove(PLACE + ARGUMENT, argument, len(argument))
    result = CALL(file, number, PLACE + ARGUMENT)
    if result < 0:
        raise OSError(-result, f"ioctl {number:#x}")
    return ctypes.string_at(PLACE + ARGUMENT, len(argument))
