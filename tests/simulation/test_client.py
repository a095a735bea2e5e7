"""The simulated file system does what was measured on real NFS, and dead processes do nothing."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from spool_layout.stamps import SharedDisk
from spool_layout.storage import Disk
from tests.simulation import calls, daemons
from tests.simulation.hosts import Host
from tests.simulation.server import Server
from tests.simulation.world import Process, World

FOLDER, FILE, OTHER = f"{calls.ROOT}/pending", f"{calls.ROOT}/pending/a.yaml", f"{calls.ROOT}/pending/b.yaml"


class Bench:
    """Two hosts, a and b, on one server."""

    def __init__(self, version: int = 3, step: int = 10_000_000) -> None:
        self.world = World("client")
        self.server = Server(calls.ROOT, lambda: self.world.now, 0.0, step)
        self.server.mkdir(FOLDER, 0o755, 4242)
        self.hosts = {name: Host(self.world, name, self.server, 60.0, version) for name in "ab"}

    def on(self, name: str, act: Callable[[], object]) -> object:
        """Do something in a process of a host; what comes of it."""
        answer: list[object] = []
        process = Process(self.world, self.hosts[name], "test", lambda: answer.append(act()))
        with daemons.installed(self.world, daemons.Lock(self.world, 60.0)):
            self.world.spawn(process)
            self.world.run(self.world.now + 600)
        assert self.world.faults == []
        return answer[0] if answer else None


def names(disk: Disk) -> list[str]:
    return sorted(entry.name for entry in disk.list(FOLDER))


def test_a_name_once_missing_stays_missing_until_its_directory_is_opened() -> None:
    bench = Bench()
    told: list[object] = []

    def look() -> None:
        told.append(Disk().stat(FILE))
        bench.server.create(FILE, 0o644, 4242)
        told.append(Disk().stat(FILE))
        names(Disk())
        told.append(Disk().stat(FILE))

    bench.on("a", look)
    assert [found is not None for found in told] == [False, False, True]


def test_a_second_change_within_a_step_of_the_server_stays_unseen_but_for_a_shared_disk() -> None:
    found = {}
    for disk in (Disk(), SharedDisk()):
        bench = Bench(step=60_000_000_000)

        def look(bench: Bench = bench, disk: Disk = disk) -> list[str]:
            bench.server.create(FILE, 0o644, 4242)
            names(disk)
            bench.server.create(OTHER, 0o644, 4242)
            return names(disk)

        found[type(disk)] = bench.on("a", look)
    assert found == {Disk: ["a.yaml"], SharedDisk: ["a.yaml", "b.yaml"]}


@pytest.mark.parametrize("version", [3, 4])
def test_an_open_file_that_is_replaced_is_stale_on_version_3_alone(version: int) -> None:
    bench = Bench(version)

    def look() -> bytes:
        Disk().publish(FILE, b"one")
        client = bench.hosts["a"].client
        opened = client.open(FILE, os.O_RDONLY, 0)
        bench.server.create(OTHER, 0o644, 4242)
        bench.server.rename(OTHER, FILE)
        try:
            return opened.read(10)
        except OSError as error:
            return os.strerror(error.errno or 0).encode()

    assert bench.on("a", look) == (b"Stale file handle" if version == 3 else b"one")


def test_a_reply_that_is_lost_is_no_failure_of_a_move_and_of_a_new_file() -> None:
    bench = Bench()
    bench.hosts["a"].client.lossy = 1.0

    def act() -> list[bool]:
        disk = Disk()
        bench.world.current.rng.random = lambda: 0.9  # type: ignore[union-attr, method-assign]  # never remembered
        bench.hosts["a"].client.lossy = 0.95
        made = disk.publish_new(FILE, b"text")
        inode = bench.server.lookup(FILE).number
        return [made, disk.move(FILE, OTHER, inode), disk.move(FILE, OTHER, inode + 1)]

    assert bench.on("a", act) == [True, True, False]
    assert list(bench.server.folder(FOLDER).entries or ()) == ["b.yaml"]


def test_a_killed_process_gets_no_further_and_its_written_data_stays() -> None:
    bench = Bench()
    reached: list[str] = []

    def act() -> None:
        process = bench.world.current
        assert process is not None
        process.fuse, process.blow = 6, lambda: bench.world.end(process)
        try:
            Disk().publish(FILE, b"text")
            reached.append("end")
        finally:
            Disk().remove(FILE)
            reached.append("tidied up")

    bench.on("a", act)
    assert reached == []


def test_a_host_that_is_cut_off_waits_and_a_soft_mount_gives_up() -> None:
    bench = Bench()

    def act() -> list[object]:
        client, began = bench.hosts["a"].client, bench.world.now
        client.cut_until = began + 100
        names(Disk())
        waited = bench.world.now - began
        client.cut_until, client.soft = bench.world.now + 100, 5.0
        with pytest.raises(OSError):
            names(Disk())
        return [waited > 100, bench.world.now - began - waited < 10]

    assert bench.on("a", act) == [True, True]
