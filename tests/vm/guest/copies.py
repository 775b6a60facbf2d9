"""Packets to be mirrored, copies as another host would send them, and what comes out of an interface.

packets ADDRESS COUNT            UDP datagrams to port 4000 of ADDRESS
copies SOURCE DESTINATION COUNT  GUE from SOURCE to port 6080 of DESTINATION, around IPv4 and IPv6 in turn
count INTERFACE FILE             counts what comes in by INTERFACE until SIGTERM, into FILE: a line "ipv4 ipv6 frames"
"""

import os
import signal
import socket
import struct
import sys

MARK = b"traffic-mirror test"
ended = False


def of(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def packets(address, count):
    end = socket.socket(of(address), socket.SOCK_DGRAM)
    for _ in range(int(count)):
        end.sendto(MARK, (address, 4000))


def inner(is_ipv6):
    udp = struct.pack("!HHHH", 1000, 4000, 8 + len(MARK), 0) + MARK
    if is_ipv6:
        ends = socket.inet_pton(socket.AF_INET6, "2001:db8:5::1") + socket.inet_pton(socket.AF_INET6, "2001:db8:5::2")
        return struct.pack("!IHBB", 6 << 28, len(udp), 17, 64) + ends + udp
    ends = socket.inet_aton("10.5.0.1") + socket.inet_aton("10.5.0.2")
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0) + ends
    total = sum(struct.unpack("!10H", header))
    total = (total & 0xFFFF) + (total >> 16)
    return header[:10] + struct.pack("!H", 0xFFFF - ((total & 0xFFFF) + (total >> 16))) + header[12:] + udp


def copies(source, destination, count):
    end = socket.socket(of(destination), socket.SOCK_DGRAM)
    end.bind((source, 0))
    for number in range(int(count)):
        is_ipv6 = number % 2 == 1
        gue = bytes([0, 41 if is_ipv6 else 4, 0, 0])
        end.sendto(gue + inner(is_ipv6), (destination, 6080))


def ask_to_end(*_):
    global ended
    ended = True


def count(interface, file):
    end = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    end.bind((interface, 3))
    end.settimeout(0.5)
    signal.signal(signal.SIGTERM, ask_to_end)
    child = os.fork()
    if child:
        with open(file + ".pid", "w") as told:
            told.write(str(child))
        return
    null = os.open("/dev/null", os.O_RDWR)
    for stream in range(3):
        os.dup2(null, stream)
    found = {4: 0, 6: 0, "frames": 0}
    while True:
        try:
            packet, _ = end.recvfrom(65535)
        except socket.timeout:
            if ended:
                break
            continue
        if MARK not in packet:
            continue
        # behind an Ethernet header, or without any link header
        has_header = packet[12:14] in (b"\x08\x00", b"\x86\xdd")
        found["frames"] += has_header
        packet = packet[14 if has_header else 0 :]
        found[packet[0] >> 4] += 1
    with open(file + ".new", "w") as beside:
        beside.write(f"{found[4]} {found[6]} {found['frames']}\n")
    os.rename(file + ".new", file)


{"packets": packets, "copies": copies, "count": count}[sys.argv[1]](*sys.argv[2:])
