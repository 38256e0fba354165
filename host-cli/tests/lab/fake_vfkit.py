#!/usr/bin/python3
"""A vfkit that runs nothing: it answers on its REST socket as vfkit's usage page says, and writes its arguments and what it was told
to its machine's console log. Unlike QEMU it keeps no pid file.

FAKE_VFKIT says how it misbehaves: deaf (its guest hears no Stop), dies (ends at once, with a complaint)."""

import json
import os
import socket
import sys

words = sys.argv[1:]
mood = os.environ.get("FAKE_VFKIT", "")


def option(name):
    return words[words.index(name) + 1]


def device(kind):
    found = [word for word in words if word.split(",")[0] == kind]
    return dict(part.partition("=")[::2] for part in found[0].split(",")[1:])


if mood == "dies":
    print('level=error msg="unable to open disk image"', file=sys.stderr)
    sys.exit(1)


def log(line):
    with open(device("virtio-serial")["logFilePath"], "a") as console:
        console.write(line + "\n")


log(json.dumps(words))
path = option("--restful-uri").removeprefix("unix://")
listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
listener.bind(path)
listener.listen(8)
while True:
    connection, _ = listener.accept()
    head, _, body = connection.recv(65536).decode().partition("\r\n\r\n")
    method, target, _ = head.split("\r\n")[0].split(" ")
    answer = {}
    if (method, target) == ("GET", "/vm/state"):
        answer = {"state": "VirtualMachineStateRunning", "canStop": True}
    elif (method, target) == ("POST", "/vm/state"):
        answer = json.loads(body)
        log(answer["state"])
    text = json.dumps(answer)
    connection.sendall(("HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(text), text)).encode())
    connection.close()
    if answer.get("state") == "HardStop" or (answer.get("state") == "Stop" and mood != "deaf"):
        os.unlink(path)
        sys.exit(0)
