"""Machines on this one: each has an address, processes, a home, memory and an sshd of its own.

They are network, process and mount namespaces on a bridge; their files are otherwise this
machine's, so what is to prove that something was copied must look below its home.
"""

import os
import pwd
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

PREFIX = "10.77.0"
BRIDGE_ADDRESS = f"{PREFIX}.1"
HOME = pwd.getpwnam("root").pw_dir
"""Of the machines' administrator."""
INIT = Path(__file__).parent / "host_init.sh"
NEEDED = (
    "ip",
    "nsenter",
    "setpriv",
    "unshare",
    "mount",
    "/usr/sbin/sshd",
    "ssh",
    "ssh-keygen",
    "rsync",
)


def why_not() -> str | None:
    """The reason why there can be no such machines here, if there is one."""
    if os.geteuid() != 0:
        return "needs root, for network namespaces"
    missing = [name for name in NEEDED if shutil.which(name) is None]
    if missing:
        return f"needs {', '.join(missing)}: apt-get install openssh-server rsync iproute2"
    trial = (
        "ip netns add s2r-probe && ip netns exec s2r-probe unshare --mount --pid --fork "
        "--mount-proc sh -c 'mount --make-rprivate / && mount -t tmpfs tmpfs /mnt "
        "&& mkdir /mnt/up /mnt/work && mount -t overlay overlay "
        f"-o lowerdir={HOME},upperdir=/mnt/up,workdir=/mnt/work {HOME}'"
    )
    done = subprocess.run(["sh", "-c", trial], capture_output=True, text=True, check=False)
    subprocess.run(["ip", "netns", "del", "s2r-probe"], capture_output=True, check=False)
    if done.returncode:
        return f"needs namespaces and overlay mounts: {done.stderr.strip()}"
    return None


def run(*command: str | Path) -> str:
    """A command that must succeed."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done
    return done.stdout


@dataclass
class Host:
    """A machine that runs."""

    name: str
    address: str
    process: "subprocess.Popen[bytes]"
    """The parent of its first process; its death is that of all of them."""

    @property
    def init(self) -> int:
        """Its first process, as this machine counts."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return int(children.read_text().split()[0])

    def run(self, command: str) -> "subprocess.CompletedProcess[str]":
        """A command of the machine's administrator."""
        return subprocess.run(
            [
                "nsenter",
                "--target",
                str(self.init),
                "--all",
                "env",
                "-i",
                f"HOME={HOME}",
                "bash",
                "--login",
                "-c",
                command,
            ],
            capture_output=True,
            text=True,
            check=False,
        )

    def files(self, path: str) -> Path:
        """A folder as the machine sees it."""
        return Path(f"/proc/{self.init}/root{path}")


@dataclass
class Hosts:
    """The machines and the bridge between them."""

    folder: Path
    public_key: Path
    """Whose owner may log in to all of them."""
    profile: str = ""
    """What their login shells read."""
    running: dict[str, Host] = field(default_factory=dict)

    def __enter__(self) -> "Hosts":
        _remove_leftovers()
        run("ip", "link", "add", "s2r-br", "type", "bridge")
        run("ip", "addr", "add", f"{BRIDGE_ADDRESS}/24", "dev", "s2r-br")
        run("ip", "link", "set", "s2r-br", "up")
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.folder / "hostkey")
        return self

    def __exit__(self, *exception: object) -> None:
        for name in list(self.running):
            self.destroy(name)
        run("ip", "link", "del", "s2r-br")

    def create(self, name: str, address: str, profile: str = "") -> Host:
        """Switches a machine on.

        Args:
            name: What it calls itself.
            address: Its own, in the bridge's network.
            profile: What its login shells read beside what all do.
        """
        number = address.rpartition(".")[2]
        space, link = f"s2r-{number}", f"s2r-v{number}"
        run("ip", "netns", "add", space)
        run("ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", space)
        run("ip", "link", "set", link, "master", "s2r-br", "up")
        for command in (
            f"addr add {address}/24 dev eth0",
            "link set lo up",
            "link set eth0 up",
            f"route add default via {BRIDGE_ADDRESS}",
        ):
            run("ip", "-n", space, *command.split())
        folder = self.folder / name
        folder.mkdir()
        (folder / "profile").write_text(
            f"export PATH={Path(sys.executable).parent}:$PATH\n"
            # These machines share their processors with others here: no worker gives way.
            f"export RAY_worker_niceness=0\n{self.profile}{profile}"
        )
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                # It ends with this process, however this process ends.
                [
                    "setpriv",
                    "--pdeathsig",
                    "KILL",
                    "ip",
                    "netns",
                    "exec",
                    space,
                    "unshare",
                    "--mount",
                    "--pid",
                    "--uts",
                    "--ipc",
                    "--fork",
                    "--kill-child",
                    "--mount-proc",
                    INIT,
                    name,
                    address,
                    folder,
                    self.folder / "hostkey",
                    self.public_key,
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        host = self.running[name] = Host(name, address, process)
        deadline = time.monotonic() + 30
        while not _listens(address):
            assert process.poll() is None and time.monotonic() < deadline, (
                folder / "log"
            ).read_text()
            time.sleep(0.05)
        return host

    def written_by(self, name: str) -> list[Path]:
        """Where a machine's own files are: its home, and Ray's."""
        return [self.folder / name / "up", self.running[name].files("/tmp/ray")]

    def destroy(self, name: str) -> None:
        """Pulls a machine's plug."""
        host = self.running.pop(name)
        host.process.kill()
        host.process.wait()
        time.sleep(0.3)  # the others' connections are reset, as by a machine that stops
        number = host.address.rpartition(".")[2]
        run("ip", "link", "del", f"s2r-v{number}")  # closing connections keep the space alive
        run("ip", "netns", "del", f"s2r-{number}")


def _listens(address: str) -> bool:
    try:
        socket.create_connection((address, 22), timeout=1).close()
    except OSError:
        return False
    return True


def _remove_leftovers() -> None:
    """What tests that were killed have left; their processes have ended with them."""
    for line in run("ip", "netns", "list").splitlines():
        space = line.split()[0]
        if space.startswith("s2r-"):
            assert not run("ip", "netns", "pids", space), "these tests run already"
            run("ip", "netns", "del", space)
    for line in run("ip", "-brief", "link").splitlines():
        link = line.split()[0].partition("@")[0]
        if link.startswith("s2r-"):  # those of spaces go with them, a little later
            subprocess.run(["ip", "link", "del", link], capture_output=True, check=False)
