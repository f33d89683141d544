"""A process that does what it is told, line by line, so that a test knows exactly what happened when.

count N        N times sched_yield
fail N         N times close(-1)
ask N          N system calls that no kernel has, by N numbers
fork N CODE    N children one after another, each yields 101 times and exits with CODE
spawn          a child that waits for its end
double N       a grandchild whose parent ends at once, yields N times and stays
thread N M     N threads, each yields M times
hold N         N threads that wait, and yield M times on `release M`
nap N          N times asleep for a moment
burn MS        MS of CPU time
exec COMM      becomes this program anew, under another name
texec          the same from a thread that is not the main one
exit CODE
"""

import contextlib
import ctypes
import os
import sys
import threading
import time

gate = threading.Event()
amount = 0
held = []


def yields(count):
    for _ in range(count):
        os.sched_yield()


def wait_released():
    gate.wait()
    yields(amount)


def reborn(name):
    os.execv("/proc/self/exe", [name, "-S", __file__])


def fork(count, code):
    for _ in range(count):
        child = os.fork()
        if child == 0:
            yields(101)
            os._exit(code)
        os.waitpid(child, 0)


def double(count):
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        if os.fork() == 0:
            # the new parent must be seen before the grandchild says that it is there
            while os.getppid() == child:
                pass
            yields(count)
            os.write(write, b"%d" % os.getpid())
            os.close(1)
            os.read(os.pipe()[0], 1)
        os._exit(0)
    os.waitpid(child, 0)
    return os.read(read, 20).decode()


def threads(count, each):
    group = [threading.Thread(target=yields, args=(each,)) for _ in range(count)]
    for thread in group:
        thread.start()
    for thread in group:
        thread.join()


def burn(milliseconds):
    end = time.thread_time() + milliseconds / 1000
    while time.thread_time() < end:
        pass
    return f"{time.thread_time():.6f}"


def main():
    global amount
    ctypes.CDLL(None).prctl(15, os.path.basename(sys.orig_argv[0]).encode()[:15])
    print("ready", flush=True)
    for line in sys.stdin:
        word, *rest = line.split()
        numbers = [int(x) for x in rest if x.lstrip("-").isdigit()]
        answer = "done"
        if word == "count":
            yields(numbers[0])
        elif word == "fail":
            for _ in range(numbers[0]):
                with contextlib.suppress(OSError):
                    os.close(-1)
        elif word == "ask":
            for number in range(numbers[0]):
                ctypes.CDLL(None).syscall(1000 + number)
        elif word == "fork":
            fork(*numbers)
        elif word == "spawn":
            if os.fork() == 0:
                os.close(1)
                time.sleep(60)
        elif word == "double":
            answer = double(*numbers)
        elif word == "thread":
            threads(*numbers)
        elif word == "hold":
            for _ in range(numbers[0]):
                held.append(threading.Thread(target=wait_released))
                held[-1].start()
        elif word == "release":
            amount = numbers[0]
            gate.set()
            for thread in held:
                thread.join()
        elif word == "burn":
            answer = burn(*numbers)
        elif word == "nap":
            for _ in range(numbers[0]):
                time.sleep(0.0005)
        elif word == "exec":
            reborn(rest[0])
        elif word == "texec":
            threading.Thread(target=reborn, args=(rest[0],)).start()
            time.sleep(60)
        elif word == "exit":
            os._exit(numbers[0])
        print(answer, flush=True)


main()
