"""Numbered datagrams: who sends them, who receives them, and the comparison.

send FILE [COUNT]    sends one each millisecond, until SIGTERM or so many
receive FILE         receives until SIGTERM, and then until nothing has come for a while
judge DIRECTORY all|none

The first two go on in the background once they are ready, with their process number in FILE.pid; at the end the numbers
are in FILE.
"""

import os
import signal
import socket
import struct
import sys
import time

EDGE = ("10.0.0.254", 4000)
# without any datagram that may be on its way
QUIET_S = 0.5

asked_to_end = False


def ask_to_end(*_):
    global asked_to_end
    asked_to_end = True


def go_on_in_background(file):
    """The caller may go on, too."""
    signal.signal(signal.SIGTERM, ask_to_end)
    child = os.fork()
    if child:
        write(file + ".pid", str(child))
        os._exit(0)
    null = os.open("/dev/null", os.O_RDWR)
    for stream in range(3):
        os.dup2(null, stream)


def write(file, text):
    with open(file + ".new", "w") as beside:
        beside.write(text)
    os.rename(file + ".new", file)


def write_numbers(file, numbers):
    write(file, "".join(f"{number}\n" for number in numbers))


def send(file, count=None):
    end = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    go_on_in_background(file)
    number = 0
    while not asked_to_end and (count is None or number < int(count)):
        end.sendto(struct.pack("!I", number), EDGE)
        number += 1
        time.sleep(0.001)
    write_numbers(file, range(number))


def receive(file):
    end = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    end.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)  # SO_RCVBUFFORCE: nothing may be lost here
    end.bind(EDGE)
    end.settimeout(QUIET_S)
    go_on_in_background(file)
    numbers = []
    while True:
        try:
            numbers.append(struct.unpack("!I", end.recv(100))[0])
        except socket.timeout:
            if asked_to_end:
                break
    write_numbers(file, numbers)


def judge(directory, wanted):
    def read(name):
        with open(os.path.join(directory, name)) as file:
            return [int(line) for line in file]

    sent = read("sent")
    right = bool(sent)
    print(f"note: {len(sent)} datagrams")
    for name, numbers in [("arrived", sent), ("copied", sent if wanted == "all" else [])]:
        found = read(name)
        missing = sorted(set(numbers) - set(found))
        print(f"{len(found)} {name}, {len(found) - len(set(found))} of them again, {len(missing)} missing {missing[:10]}")
        right = right and sorted(found) == numbers
    sys.exit(0 if right else 1)


{"send": send, "receive": receive, "judge": judge}[sys.argv[1]](*sys.argv[2:])
