"""A process that talks over sockets as it is told, line by line, and answers how many calls that took.

listen KIND           answers where: KIND is tcp4 tcp6 udp4 udp6 unix unixdgram
connect KIND WHERE    once, and keeps the connection
accept                one connection, and keeps it
send N SIZE           N calls of SIZE bytes
receive N             N bytes of a stream
datagrams N           N datagrams
peek                  looks at what waits to be received
sendfile N            N bytes of a file
splice N              N bytes of a file through a pipe to the socket
unsplice N            N bytes of the socket through a pipe
sendmmsg N SIZE       N datagrams by one system call
recvmmsg N            N datagrams by one system call
refused KIND N        N connections to a port where nobody listens
visits KIND WHERE N   N connections, opened and closed
welcome N             N connections accepted and closed
deafen / hear         the kernel drops what comes for the connection, or no longer
retransmitted         segments that this connection sent again, as the kernel tells
segments in|out       all segments of this connection, as the kernel tells
hang_up               the connection is closed
child N SIZE          a child sends N times SIZE bytes and ends
other N               N requests to the routing socket
"""

import ctypes
import os
import socket
import struct
import sys
import tempfile

FAMILIES = {
    "tcp4": (socket.AF_INET, socket.SOCK_STREAM, "127.0.0.1"),
    "tcp6": (socket.AF_INET6, socket.SOCK_STREAM, "::1"),
    "udp4": (socket.AF_INET, socket.SOCK_DGRAM, "127.0.0.1"),
    "udp6": (socket.AF_INET6, socket.SOCK_DGRAM, "::1"),
    "unix": (socket.AF_UNIX, socket.SOCK_STREAM, ""),
    "unixdgram": (socket.AF_UNIX, socket.SOCK_DGRAM, ""),
}
TOTAL_RETRANS_AT, SEGMENTS_AT = 100, {"out": 136, "in": 140}  # struct tcp_info of include/uapi/linux/tcp.h
SO_ATTACH_FILTER, SO_DETACH_FILTER, SO_RCVBUFFORCE = 26, 27, 33

libc = ctypes.CDLL(None, use_errno=True)


class Iovec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


class Message(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint32),
        ("iov", ctypes.POINTER(Iovec)),
        ("iov_length", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
        ("unused", ctypes.c_uint32),
        ("length", ctypes.c_uint32),
    ]


def messages(count, size):
    buffer = ctypes.create_string_buffer(count * size)
    iovecs = [Iovec(ctypes.addressof(buffer) + i * size, size) for i in range(count)]
    out = (Message * count)()
    for message, iovec in zip(out, iovecs, strict=True):
        message.iov, message.iov_length = ctypes.pointer(iovec), 1
    return out, (buffer, iovecs)


class Talker:
    def __init__(self):
        self.listener = None
        self.peer = None

    def listen(self, kind):
        family, style, host = FAMILIES[kind]
        self.listener = socket.socket(family, style)
        # no datagram may get lost
        self.listener.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 256 << 20)
        self.listener.bind(f"\0osdetectord-test-{os.getpid()}" if family == socket.AF_UNIX else (host, 0))
        if style == socket.SOCK_STREAM:
            self.listener.listen(256)
        else:
            self.peer = self.listener
        name = self.listener.getsockname()
        return name[1:].decode() if family == socket.AF_UNIX else name[1]

    def address(self, kind, where):
        family, style, host = FAMILIES[kind]
        return family, style, "\0" + where if family == socket.AF_UNIX else (host, int(where))

    def connect(self, kind, where):
        family, style, address = self.address(kind, where)
        self.peer = socket.socket(family, style)
        self.peer.connect(address)
        return 1

    def accept(self):
        self.peer, _ = self.listener.accept()
        return 1

    def send(self, count, size):
        calls, data = 0, b"x" * int(size)
        for _ in range(int(count)):
            at = 0
            while at < len(data):
                at += self.peer.send(data[at:])
                calls += 1
            if not data:
                self.peer.send(data)
                calls += 1
        return calls

    def receive(self, count):
        calls, left = 0, int(count)
        while left:
            left -= len(self.peer.recv(min(left, 65536)))
            calls += 1
        return calls

    def datagrams(self, count):
        for _ in range(int(count)):
            self.peer.recv(65536)
        return count

    def peek(self):
        return len(self.peer.recv(65536, socket.MSG_PEEK))

    def file(self, count):
        file = tempfile.TemporaryFile()  # noqa: SIM115 - for the caller to close
        file.truncate(count)
        return file

    def sendfile(self, count):
        calls, at = 0, 0
        with self.file(int(count)) as file:
            while at < int(count):
                at += os.sendfile(self.peer.fileno(), file.fileno(), at, int(count) - at)
                calls += 1
        return calls

    def splice(self, count):
        calls, left = 0, int(count)
        out, into = os.pipe()
        with self.file(left) as file:
            while left:
                held = os.splice(file.fileno(), into, min(left, 65536))
                left -= held
                while held:
                    held -= os.splice(out, self.peer.fileno(), held)
                    calls += 1
        return calls

    def unsplice(self, count):
        calls, left = 0, int(count)
        out, into = os.pipe()
        while left:
            held = os.splice(self.peer.fileno(), into, min(left, 65536))
            left -= held
            calls += 1
            while held:
                held -= len(os.read(out, held))
        return calls

    def sendmmsg(self, count, size):
        some, _kept = messages(int(count), int(size))
        return libc.sendmmsg(self.peer.fileno(), some, len(some), 0)

    def recvmmsg(self, count):
        some, _kept = messages(int(count), 2048)
        return libc.recvmmsg(self.peer.fileno(), some, len(some), 0, None)

    def refused(self, kind, count):
        family, style, host = FAMILIES[kind]
        with socket.socket(family, style) as held:
            held.bind((host, 0))
            for _ in range(int(count)):
                with socket.socket(family, style) as attempt:
                    attempt.connect_ex((host, held.getsockname()[1]))
        return count

    def visits(self, kind, where, count):
        family, style, address = self.address(kind, where)
        for _ in range(int(count)):
            with socket.socket(family, style) as visit:
                visit.connect(address)
        return count

    def welcome(self, count):
        for _ in range(int(count)):
            self.listener.accept()[0].close()
        return count

    def deafen(self):
        # BPF_RET | BPF_K with 0: sk_filter() lets nothing through
        self.instruction = ctypes.create_string_buffer(struct.pack("=HBBI", 0x06, 0, 0, 0))
        program = struct.pack("@HP", 1, ctypes.addressof(self.instruction))
        self.peer.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)
        return 1

    def hear(self):
        self.peer.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)
        return 1

    def retransmitted(self):
        told = self.peer.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
        return struct.unpack_from("=I", told, TOTAL_RETRANS_AT)[0]

    def segments(self, direction):
        told = self.peer.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
        return struct.unpack_from("=I", told, SEGMENTS_AT[direction])[0]

    def hang_up(self):
        self.peer.close()
        return 1

    def child(self, count, size):
        child = os.fork()
        if child == 0:
            self.send(count, size)
            os._exit(0)
        os.waitpid(child, 0)
        return child

    def other(self, count):
        # RTM_GETLINK of the loopback device: rtnetlink(7)
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as routes:
            question = struct.pack("=IHHIIBBHiII", 32, 18, 1, 1, 0, 0, 0, 0, 1, 0, 0)
            for _ in range(int(count)):
                routes.send(question)
        return len(question)


def main():
    talker = Talker()
    print("ready", flush=True)
    for line in sys.stdin:
        word, *rest = line.split()
        print(getattr(talker, word)(*rest), flush=True)


main()
