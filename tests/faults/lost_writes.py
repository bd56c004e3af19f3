"""A power cut: of a job's folder what it had put on the disk is sure to be left; the rest is there, or half of it, or nothing.

POSIX promises no more than this: the content of a file as of its last fsync, the names in a folder as of the folder's last fsync.
"""

import os
import random
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.watched_calls import Call

Names = dict[str, int]
"""Name -> inode, of what is in a folder."""


@dataclass
class Disk:
    """What would be left of a folder. It must see each call that changes the folder, before it is made."""

    root: Path
    names: dict[int, list[Names]] = field(default_factory=dict)
    """Inode of a folder -> its names as they were at its last fsync, and after each change since then."""
    synced: dict[int, bytes] = field(default_factory=dict)
    """Inode of a file -> its content as of its last fsync."""
    _held: dict[int, int] = field(default_factory=dict)
    """Inode -> a descriptor, so that the file stays readable when it is deleted, and no other gets its number."""

    def __post_init__(self) -> None:
        """All that is there now is on the disk."""
        for folder, _, files in os.walk(self.root):
            self.names[self._hold(Path(folder))] = []
            self._note(Path(folder))
            for path in (Path(folder, name) for name in files):
                self.synced[path.stat().st_ino] = path.read_bytes()

    def see(self, call: Call) -> None:
        """Notes what this call is about to put on the disk, or to change."""
        if call.operation == "fsync":
            path = call.paths[0]
            if path.is_dir():
                self.names[self._hold(path)] = []
            elif path.exists():
                self.synced[self._hold(path)] = path.read_bytes()
        for path in call.paths:
            self._note(path if path.is_dir() else path.parent)

    def lose(self, chance: random.Random) -> None:
        """Makes the folder what a power cut now might leave. Whose folder it is must be dead."""
        for folder, _, _ in os.walk(self.root):
            self._note(Path(folder))
        all_lost, left = chance.random() < 0.3, self.root.with_name(f"{self.root.name}.left")
        self._restore(self.root.stat().st_ino, left, chance, all_lost)
        shutil.rmtree(self.root)
        left.rename(self.root)

    def close(self) -> None:
        for descriptor in self._held.values():
            os.close(descriptor)

    def _restore(self, inode: int, target: Path, chance: random.Random, all_lost: bool) -> None:
        descriptor = self._held.get(inode)
        if inode in self.names:
            target.mkdir()
            states = self.names[inode]
            for name, inner in (states[0] if all_lost else chance.choice(states)).items():
                self._restore(inner, target / name, chance, all_lost)
        elif descriptor is not None:
            os.lseek(descriptor, 0, os.SEEK_SET)
            now, synced = os.read(descriptor, os.fstat(descriptor).st_size), self.synced.get(inode, b"")
            sure = synced if now.startswith(synced) else b""  # what is only appended to stays
            half, empty = now[: chance.randrange(len(sure), len(now) + 1)], sure + bytes(len(now) - len(sure))
            left = [now] if now == synced else [synced, now, half, empty]
            target.write_bytes(synced if all_lost else chance.choice(left))

    def _note(self, folder: Path) -> None:
        """Notes the names in `folder`, if they changed."""
        try:
            with os.scandir(folder) as entries:
                names = {entry.name: self._hold(Path(entry.path)) for entry in entries}
            states = self.names.setdefault(self._hold(folder), [{}])  # a new one, and that it is empty may be all that is left
        except OSError:  # another thread of the job deletes it
            return
        if not states or states[-1] != names:
            states.append(names)

    def _hold(self, path: Path) -> int:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        inode = os.fstat(descriptor).st_ino
        if self._held.setdefault(inode, descriptor) != descriptor:
            os.close(descriptor)
        return inode
