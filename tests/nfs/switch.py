"""The wire between the machines of a bench: frames go where they are addressed, but not from or to what is cut off.

    python switch.py FOLDER

Machines connect to FOLDER/switch.sock. A datagram `cut NAME` or `heal NAME` to FOLDER/control.sock changes who is
reachable. It is also the bench's keeper: when its standard input ends, the process that made the bench is gone, however
that came, and all machines are killed and the folder removed.
"""

from __future__ import annotations

import os
import selectors
import shutil
import socket
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.nfs.machine import Machine

WIRE, CONTROL = "switch.sock", "control.sock"


class Switch:
    """Ports of the machines that are plugged in, and which of them are cut off."""

    def __init__(self) -> None:
        self.ports: dict[socket.socket, str] = {}
        self.cut: set[str] = set()
        self.where: dict[bytes, socket.socket] = {}  # Ethernet address -> port from which it was last heard
        self.selector = selectors.DefaultSelector()
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener.bind(WIRE)
        self.listener.listen()
        self.control = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.control.bind(CONTROL)
        for source in (self.listener, self.control, sys.stdin.buffer):
            self.selector.register(source, selectors.EVENT_READ)

    def serve(self) -> None:
        """Until standard input ends."""
        while True:
            for key, _ in self.selector.select():
                if key.fileobj is self.listener:
                    self.plug_in()
                elif key.fileobj is self.control:
                    verb, name = self.control.recv(256).decode().split()
                    (self.cut.add if verb == "cut" else self.cut.discard)(name)
                elif isinstance(key.fileobj, socket.socket):
                    self.pass_on(key.fileobj)
                elif not os.read(0, 1):
                    return

    def plug_in(self) -> None:
        port, address = self.listener.accept()
        port.setblocking(False)
        self.ports[port] = Path(address).stem  # a machine's own end is NAME.sock
        self.selector.register(port, selectors.EVENT_READ)

    def pass_on(self, port: socket.socket) -> None:
        try:
            frame = port.recv(65536)
        except OSError:
            frame = b""
        if not frame:
            self.selector.unregister(port)
            del self.ports[port]
            port.close()
        elif self.ports[port] not in self.cut:
            target, source = frame[:6], frame[6:12]
            self.where[source] = port
            known = self.where.get(target)
            for other in [known] if known in self.ports else list(self.ports):
                if other is not port and self.ports[other] not in self.cut:
                    deliver(other, frame)


def deliver(port: socket.socket, frame: bytes) -> None:
    try:
        port.send(frame)
    except OSError:
        pass  # full or closing: the frame is lost, as on a real wire


def main() -> None:
    folder = Path(sys.argv[1])
    os.chdir(folder)  # a socket's path may have 107 bytes: so they are relative
    try:
        Switch().serve()
    finally:
        for file in folder.glob("*.pid"):
            Machine(folder, file.stem).kill()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
