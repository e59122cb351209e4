"""A Debian package of a program: installed, its service started, fed, stopped and removed.

    python3 tests/field/package.py target/release/strandline

The package is made by docs/packages/build.sh. It is installed by dpkg in a copy of this machine's
root that systemd has booted: an overlay in a container, so that nothing of it stays. Reads are
renamed into the folder of /etc/strandline.toml. Their calls must be those of a run on files, over
restarts and an upgrade too. The disk is made to hang (fdatasync waits): the watchdog must end the
service, and each read come out once. What the sandbox forbids must fail, wrong settings must not be
tried again, and after a purge nothing may be left but what is documented.

Needs root, and a C compiler, man-db, binutils, systemd and systemd-container as Debian has them.
zsh, fish and mandoc are used where they are there. Exits with 1 where something is not as it should
be.
"""

import argparse
import gzip
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NAME = "strandline"
SETTINGS = "etc/strandline.toml"
STATE = "var/lib/strandline"
UNIT = "usr/lib/systemd/system/strandline.service"
FILES = 5

HANGING_DISK = """
#include <unistd.h>
int fdatasync(int file) {
    while (access("/opt/hang", F_OK) == 0) usleep(10000);
    return fsync(file);
}
"""

# A shorter patience than the unit's, and a disk that can hang.
TRIAL = """
[Service]
WatchdogSec=2
RestartSec=100ms
Environment=LD_PRELOAD=/opt/hang.so
"""

# What dpkg, systemd and the accounts keep of every package that was there once.
KEPT = re.compile(
    r"etc/(passwd|group|shadow|gshadow|subuid|subgid)-?|etc/\.(pwd|updated)\S*|etc/ld\.so\.cache"
    r"|var/(cache|log|lib/dpkg|lib/apt|lib/systemd|tmp)/.*|root/strandline\.deb"
)


def check(good, what):
    if not good:
        sys.exit(f"not so: {what}")


def texts():
    """The sample reads, as the texts of a few files."""
    with gzip.open(ROOT / "tests/data/reads.fastq.gz", "rt") as file:
        lines = file.read().splitlines(keepends=True)
    records = ["".join(lines[i : i + 4]) for i in range(0, len(lines), 4)]
    step = len(records) // FILES
    return ["".join(records[i * step : (i + 1) * step]) for i in range(FILES)]


def build(program):
    """The package of a program."""
    architecture = subprocess.run(
        ["dpkg", "--print-architecture"], capture_output=True, text=True, check=True
    ).stdout.strip()
    made = ROOT / "target/debian"
    shutil.rmtree(made, ignore_errors=True)
    subprocess.run([ROOT / "docs/packages/build.sh", architecture, program], check=True)
    [package] = made.glob("*.deb")
    return package


def check_pages():
    """The man pages and completions that build.sh has laid out."""
    laid_out = ROOT / "target/package"
    pages = sorted((laid_out / "man").iterdir())
    check(len(pages) > 15, f"{len(pages)} man pages")
    for page in pages:
        said = subprocess.run(
            ["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", page],
            capture_output=True,
            text=True,
            env={**os.environ, "MANROFFSEQ": "", "MANWIDTH": "80"},
            check=False,
        )
        check(said.returncode == 0 and not said.stderr, f"{page.name}: {said.stderr}")
    tried = [f"{len(pages)} man pages"]
    completions = laid_out / "completions"
    for command, file in (
        (["mandoc", "-T", "lint", "-W", "error"], None),
        (["bash", "-n"], "strandline.bash"),
        (["zsh", "-n"], "_strandline"),
        (["fish", "--no-execute"], "strandline.fish"),
    ):
        if not shutil.which(command[0]):
            print(f"{command[0]}: is not there, and was not tried")
            continue
        files = [completions / file] if file else pages
        said = subprocess.run([*command, *files], capture_output=True, text=True, check=False)
        check(said.returncode == 0, f"{command}: {said.stdout}{said.stderr}")
        tried.append(command[0])
    print(f"pages and completions: {', '.join(tried)}")


class Machine:
    """A copy of this machine's root, of which only the changes take room, booted by systemd."""

    def __init__(self, scratch):
        mount("-t", "tmpfs", "none", scratch)
        self.changes, work, self.root = scratch / "changes", scratch / "work", scratch / "root"
        for folder in (self.changes, work, self.root):
            folder.mkdir()
        layers = f"lowerdir=/,upperdir={self.changes},workdir={work}"
        mount("-t", "overlay", "overlay", "-o", layers, self.root)
        # Its own name, for a journal of its own; and no container's ban on services.
        (self.root / "etc/machine-id").write_text("")
        (self.root / "usr/sbin/policy-rc.d").unlink(missing_ok=True)
        self.container = subprocess.Popen(
            [
                "systemd-nspawn", "-q", "-D", self.root, "--register=no", "--keep-unit",
                "--private-network", "--boot", "--", "--unit=basic.target",
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        wait_for(self.first_process, "a container")
        self.init = self.first_process()
        wait_for(lambda: self.state("basic.target", "ActiveState") == "active", "systemd is up")
        self.before = self.files()

    def first_process(self):
        """The number that the container's process 1 has outside of it."""
        processes = [self.container.pid]
        for process in processes:
            folder = Path(f"/proc/{process}")
            try:
                status = (folder / "status").read_text()
                children = (folder / f"task/{process}/children").read_text()
            except OSError:
                # One that only started others.
                continue
            numbers = re.search(r"^NSpid:(.*)$", status, re.MULTILINE)
            if numbers and numbers.group(1).split()[1:] == ["1"]:
                return process
            processes.extend(map(int, children.split()))
        return None

    def run(self, *words, code=0):
        """Runs a command in it; what it printed."""
        ran = subprocess.run(
            ["nsenter", "-t", str(self.init), "-a", "--", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive"},
            timeout=60,
            check=False,
        )
        expected = code is None or ran.returncode == code
        check(expected, f"{words} ended with {ran.returncode}: {ran.stdout}")
        return ran.stdout.strip()

    def state(self, unit, name):
        """A property of a unit; nothing where systemd does not answer yet."""
        return self.run("systemctl", "show", "--value", "-p", name, unit, code=None)

    def log(self):
        """What systemd and the service have said of it."""
        return self.run("journalctl", "-u", NAME, "-o", "cat", "--no-pager")

    def __truediv__(self, path):
        return self.root / path

    def files(self):
        """The files that are there and are not this machine's own."""
        paths = [path for path in self.changes.rglob("*") if path.is_file()]
        return {str(path.relative_to(self.changes)) for path in paths}

    def left(self):
        """Files that were not there before, but for those that are kept of every package."""
        return sorted(path for path in self.files() - self.before if not KEPT.fullmatch(path))

    def end(self):
        self.container.terminate()
        self.container.wait()


def mount(*words):
    subprocess.run(["mount", *words], check=True)


def wait_for(good, what):
    end = time.monotonic() + 60
    while not good():
        check(time.monotonic() < end, what)
        time.sleep(0.05)


class Calls:
    """The folder and the output of the settings, and what the output should be."""

    def __init__(self, machine, texts):
        self.machine, self.texts = machine, texts
        self.incoming, self.output = machine / STATE / "incoming", machine / STATE / "calls.tsv"

    def bring(self, number):
        """A file comes as a basecaller has it come: it gets its name when it is whole."""
        begun = self.incoming / f"{number}.fastq.part"
        begun.write_text(self.texts[number])
        begun.rename(self.incoming / f"{number}.fastq")

    def lines(self):
        return Counter(self.output.read_text().splitlines())

    def wait_for(self, count):
        """Waits until there is exactly what a run on the first files gives."""
        (self.machine / "opt/reads.fastq").write_text("".join(self.texts[:count]))
        wanted = self.machine.run("strandline", "-q", "annotate", "/opt/reads.fastq")
        wanted = Counter(wanted.splitlines())
        check(len(wanted) > 5 * count, f"{len(wanted)} calls")
        wait_for(lambda: self.lines() == wanted, f"the calls of {count} files")


def install(machine, package):
    shutil.copy(package, machine / "root/strandline.deb")
    machine.run("dpkg", "-i", "/root/strandline.deb")
    check(machine.run("systemctl", "is-enabled", NAME, code=1) == "disabled", "disabled")
    check(machine.state(NAME, "ActiveState") == "inactive", "inactive")
    said = machine.run("systemd-analyze", "verify", f"/{UNIT}")
    check(NAME not in said, said)
    said = machine.run(
        "systemd-analyze", "security", "--offline=true", "--threshold=30", f"/{UNIT}"
    )
    print(said.splitlines()[-1].removeprefix("→ "))
    said = machine.run("strandline", "--version")
    check(re.fullmatch(r"strandline \d+\.\d+\.\d+", said), said)
    # Somebody else gets at neither reads nor calls.
    machine.run("setpriv", "--reuid=nobody", "--clear-groups", "ls", f"/{STATE}", code=2)


def serve(machine, calls):
    """Starts the service, feeds it, stops it, starts it again, installs it again."""
    # This returns when the service has said that it is ready.
    machine.run("systemctl", "enable", "--now", NAME)
    said = machine.state(NAME, "StatusText")
    check("0 reads in" in said, f"status: {said}")
    for number in (0, 1):
        calls.bring(number)
    calls.wait_for(2)
    calls.bring(2)
    calls.wait_for(3)
    check(calls.output.stat().st_mode & 0o777 == 0o640, "calls are for the group to read")
    machine.run("systemctl", "stop", NAME)
    check(machine.state(NAME, "Result") == "success", "a stop is a good end")
    before = calls.output.read_bytes()
    (calls.incoming / "1.fastq").rename(calls.incoming / "one.fastq")
    machine.run("systemctl", "start", NAME)
    # Some looks at the folder.
    time.sleep(1)
    check(calls.output.read_bytes() == before, "nothing is annotated twice")
    process = machine.state(NAME, "MainPID")
    machine.run("dpkg", "-i", "/root/strandline.deb")
    check(machine.state(NAME, "MainPID") not in ("0", process), "an upgrade starts it again")
    calls.bring(3)
    calls.wait_for(4)
    print(f"started, fed, stopped, started and installed again: {len(before)} bytes, none twice")


def hang(machine, calls, library):
    """The disk hangs, until the watchdog has ended the service."""
    folder = machine / f"etc/systemd/system/{NAME}.service.d"
    folder.mkdir()
    (folder / "trial.conf").write_text(TRIAL)
    shutil.copy(library, machine / "opt/hang.so")
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "restart", NAME)
    process = machine.state(NAME, "MainPID")
    time.sleep(5)
    check(machine.state(NAME, "MainPID") == process, "it lives while nothing comes")
    (machine / "opt/hang").touch()
    calls.bring(4)
    wait_for(lambda: machine.state(NAME, "NRestarts") != "0", "an end by the watchdog")
    (machine / "opt/hang").unlink()
    check("Watchdog timeout" in machine.log(), machine.log())
    calls.wait_for(5)
    process = machine.state(NAME, "MainPID")
    time.sleep(3)
    check(machine.state(NAME, "MainPID") == process, "it lives once the disk goes on")
    shutil.rmtree(folder)
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "stop", NAME)
    print("the disk hung: the watchdog started it again, and each read came out once")


def misuse(machine):
    """What the sandbox forbids, and settings that are wrong."""
    settings = machine / SETTINGS
    text = settings.read_text()
    (machine / "srv").chmod(0o777)
    settings.write_text(text.replace(f"/{STATE}/calls.tsv", "/srv/calls.tsv"))
    machine.run("systemctl", "start", NAME, code=1)
    check("/srv/calls.tsv: Read-only file system" in machine.log(), machine.log())
    machine.run("systemctl", "stop", NAME)
    settings.write_text(text + "thread = 1\n")
    machine.run("systemctl", "reset-failed", NAME)
    machine.run("systemctl", "start", NAME, code=1)
    line = f"/{SETTINGS}: line {len(text.splitlines()) + 1}, column 1: "
    check(line in machine.log(), machine.log())
    # The state "activating" would say that it is tried again.
    state = [machine.state(NAME, name) for name in ("ActiveState", "ExecMainStatus", "NRestarts")]
    check(state == ["failed", "2", "0"], f"after wrong settings: {state}")
    settings.write_text(text + "threads = 1\n")
    machine.run("systemctl", "start", NAME)
    print("wrong settings are named, and not tried again; nothing is written elsewhere")


def remove(machine):
    machine.run("dpkg", "-r", NAME)
    check(machine.state(NAME, "ActiveState") == "inactive", "it is stopped")
    check(not (machine / "usr/bin/strandline").exists(), "the program is gone")
    check("threads = 1" in (machine / SETTINGS).read_text(), "the settings stay")
    machine.run("dpkg", "-P", NAME)
    left = [path for path in machine.left() if not path.startswith("opt/")]
    check(left and all(path.startswith(f"{STATE}/") for path in left), f"left: {left}")
    check((machine / STATE / "calls.tsv").exists(), "the calls stay")
    # Where there are none, nothing stays.
    machine.run("rm", "-r", f"/{STATE}")
    machine.run("dpkg", "-i", "/root/strandline.deb")
    machine.run("dpkg", "-P", NAME)
    left = [path for path in machine.left() if not path.startswith("opt/")]
    check(left == [] and not (machine / STATE).exists(), f"left: {left}")
    print("removed and purged: reads and calls are left, and where there were none nothing is")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program", type=Path)
    program = parser.parse_args().program.resolve()
    if os.environ.get("MOUNTS") != "own":
        os.environ["MOUNTS"] = "own"
        os.execvp("unshare", ["unshare", "--mount", sys.executable, *sys.argv])
    package = build(program)
    print(f"{package.name}: {package.stat().st_size / 1e6:.1f} MB")
    check_pages()
    scratch = Path(tempfile.mkdtemp())
    machine = None
    try:
        machine = Machine(scratch)
        source, library = scratch / "hang.c", scratch / "hang.so"
        source.write_text(HANGING_DISK)
        subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
        install(machine, package)
        calls = Calls(machine, texts())
        serve(machine, calls)
        hang(machine, calls, library)
        misuse(machine)
        remove(machine)
    finally:
        if machine:
            machine.end()
        subprocess.run(["umount", "-R", "-l", scratch], check=False)
        scratch.rmdir()


if __name__ == "__main__":
    main()
