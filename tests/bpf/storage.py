"""A process that uses storage and memory as it is told, line by line.

direct FILE N SIZE    N writes of SIZE bytes past the page cache
read FILE N SIZE      N reads of SIZE bytes past the page cache
fsync FILE N SIZE     N writes of SIZE bytes, each followed by fsync
buffered FILE SIZE    SIZE bytes that the kernel writes back when it likes
child FILE N SIZE     a child does `direct`
map N SIZE            N times SIZE bytes mapped; unmap N SIZE gives them back
remap SIZE SIZE       a mapping of the first size becomes one of the second
break BYTES           the heap's end moves by so much
refused N             N mappings of no bytes, which fail
"""

import ctypes
import mmap
import os
import sys

PRIVATE_ANONYMOUS = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
MREMAP_MAYMOVE = 1

libc = ctypes.CDLL(None, use_errno=True)
for function in (libc.mmap, libc.mremap, libc.sbrk):
    function.restype = ctypes.c_void_p
libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long)
libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
libc.mremap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int)
libc.sbrk.argtypes = (ctypes.c_ssize_t,)
libc.brk.argtypes = (ctypes.c_void_p,)

mapped = []
page = mmap.mmap(-1, 1 << 20)


def transfer(path, count, size, flags, step):
    file = os.open(path, os.O_CREAT | os.O_RDWR | flags, 0o600)
    for index in range(count):
        step(file, memoryview(page)[:size], index * size)
    os.close(file)


def write(file, data, at):
    os.pwrite(file, data, at)


def read(file, data, at):
    os.preadv(file, [data], at)


def write_and_sync(file, data, at):
    os.pwrite(file, data, at)
    os.fsync(file)


def child(path, count, size):
    number = os.fork()
    if number == 0:
        transfer(path, count, size, os.O_DIRECT, write)
        os._exit(0)
    os.waitpid(number, 0)
    return number


def map_anonymous(size):
    return libc.mmap(None, size, mmap.PROT_READ | mmap.PROT_WRITE, PRIVATE_ANONYMOUS, -1, 0)


def obey(word, rest):
    path = rest[0] if rest else ""
    numbers = [int(x) for x in rest if x.lstrip("-").isdigit()]
    if word == "direct":
        transfer(path, *numbers, os.O_DIRECT, write)
    elif word == "read":
        transfer(path, *numbers, os.O_DIRECT, read)
    elif word == "fsync":
        transfer(path, *numbers, 0, write_and_sync)
    elif word == "buffered":
        transfer(path, 1, *numbers, 0, write)
    elif word == "child":
        return child(path, *numbers)
    elif word == "map":
        mapped.extend(map_anonymous(numbers[1]) for _ in range(numbers[0]))
    elif word == "unmap":
        for _ in range(numbers[0]):
            libc.munmap(mapped.pop(), numbers[1])
    elif word == "remap":
        libc.mremap(map_anonymous(numbers[0]), *numbers, MREMAP_MAYMOVE)
    elif word == "break":
        libc.sbrk(numbers[0])
    elif word == "refused":
        for _ in range(numbers[0]):
            map_anonymous(0)
    return "done"


def main():
    print("ready", flush=True)
    for line in sys.stdin:
        word, *rest = line.split()
        print(obey(word, rest), flush=True)


main()
