#!/usr/bin/python3
"""A QEMU that runs nothing: it holds its pid file, answers on its control socket, and writes what it was told to a console log.

FAKE_QEMU says how it misbehaves: deaf (hears no power button), hung (answers nothing), dies (ends at once, with a complaint),
panics (its guest does), full (it stands still until it is told to go on, and again while there is a file still-full beside its log)."""

import fcntl
import json
import os
import socket
import sys
import threading

words = sys.argv[1:]
mood = os.environ.get("FAKE_QEMU", "")
status = "io-error" if mood == "full" else "running"


def option(name):
    return words[words.index(name) + 1] if name in words else None


def fields(text):
    return dict(part.split("=", 1) for part in text.split(",") if "=" in part)


if mood == "dies":
    print("qemu-system-x86_64: -device nonsense: 'nonsense' is not a valid device model name", file=sys.stderr)
    sys.exit(1)

pid_file = os.open(option("-pidfile"), os.O_RDWR | os.O_CREAT, 0o600)
try:
    fcntl.lockf(pid_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
except OSError:
    print("qemu-system-x86_64: cannot create PID file: Cannot lock pid file", file=sys.stderr)
    sys.exit(1)
os.ftruncate(pid_file, 0)
os.write(pid_file, b"%d\n" % os.getpid())

console = fields(option("-chardev"))
with open(console["logfile"], "a") as log:
    log.write("powered on\n")
    if mood == "panics":
        log.write("[    1.3] Kernel panic - not syncing: VFS: Unable to mount root fs\n")


def end():
    for path in (option("-pidfile"), monitor):
        os.unlink(path)
    os._exit(0)


def serve(connection):
    global status
    stream = connection.makefile("rw")

    def say(message):
        stream.write(json.dumps(message) + "\r\n")
        stream.flush()

    if mood == "hung":
        threading.Event().wait()
    say({"QMP": {"version": {"qemu": {"major": 7}}, "capabilities": []}})
    for line in stream:
        command = json.loads(line)
        name, answer = command["execute"], {}
        if name == "query-uuid":
            answer = {"UUID": option("-uuid")}
        elif name == "query-status":
            answer = {"running": status == "running", "status": status}
        elif name == "cont":
            beside = os.path.dirname(console["logfile"])
            status = "io-error" if os.path.exists(os.path.join(beside, "still-full")) else "running"
        elif name == "system_reset":
            with open(console["logfile"], "a") as log:
                log.write("reset\n")
        elif name == "qom-set":
            with open(console["logfile"], "a") as log:
                log.write("%s %s\n" % (command["arguments"]["path"].split("/")[-1], command["arguments"]["value"]))
        say({"return": answer, "id": command.get("id")})
        if name == "system_reset":
            say({"event": "RESET", "data": {"guest": False}})
            if "pflash" not in " ".join(words):
                # SeaBIOS has it reset again.
                say({"event": "RESET", "data": {"guest": False}})
        if name == "quit" or (name == "system_powerdown" and mood != "deaf"):
            end()


monitor = option("-qmp").split(":", 1)[1].split(",")[0]
if os.path.exists(monitor):
    os.unlink(monitor)
listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
listener.bind(monitor)
listener.listen(8)
while True:
    connection, _ = listener.accept()
    # One client at a time, as QEMU.
    try:
        serve(connection)
    except (OSError, ValueError):
        pass
