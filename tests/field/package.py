"""A Debian package of a program: installed, its service started, fed, stopped and removed.

    python3 tests/field/package.py target/release/strandline

The package is made by docs/packages/build.sh and installed by dpkg in a copy of this machine's
root: an overlay, so that its maintainer scripts run for good and nothing of it stays. There the
command of the unit is started as the unit's user, with a socket in the place of systemd's. Reads
are renamed into the folder of /etc/strandline.toml. Their calls must be those of a run on files,
over a restart too, and signs of life must come as long as steps are made, and none while the disk
hangs: its fdatasync is made to wait. After a purge nothing may be left but what is documented.

Needs root, and a C compiler, man-db, systemd and binutils as Debian has them. zsh, fish and mandoc
are used where they are there. Exits with 1 where something is not as it should be.
"""

import argparse
import gzip
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NAME = "strandline"
CONFIGURATION = "etc/strandline.toml"
STATE = "var/lib/strandline"
UNIT = "usr/lib/systemd/system/strandline.service"
FILES = 5
# What the program takes for the manager's patience, in seconds; a sign of life comes twice in it.
PATIENCE = 1.0

HANGING_DISK = """
#include <unistd.h>
int fdatasync(int file) {
    while (access("/run/hang", F_OK) == 0) usleep(10000);
    return fsync(file);
}
"""

# What dpkg, the system and its users keep of every package that was there once.
KEPT = re.compile(
    r"etc/(passwd|group|shadow|gshadow|subuid|subgid)-?|etc/\.(pwd|updated)\S*|etc/ld\.so\.cache"
    r"|var/(cache|log|lib/dpkg|lib/apt)/.*|(run|dev|proc|tmp)/.*|root/strandline\.deb"
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


class Copy:
    """A copy of this machine's root, of which only the changes take room."""

    def __init__(self, scratch):
        mount("-t", "tmpfs", "none", scratch)
        self.changes, work, self.root = scratch / "changes", scratch / "work", scratch / "root"
        for folder in (self.changes, work, self.root):
            folder.mkdir()
        layers = f"lowerdir=/,upperdir={self.changes},workdir={work}"
        mount("-t", "overlay", "overlay", "-o", layers, self.root)
        mount("-t", "proc", "proc", self.root / "proc")
        mount("--bind", "/dev", self.root / "dev")
        mount("-t", "tmpfs", "none", self.root / "run")

    def run(self, *words, code=0, user=None):
        """Runs a command; what it printed."""
        who = [f"--userspec={user}"] if user else []
        ran = subprocess.run(
            ["chroot", *who, self.root, *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive"},
            check=False,
        )
        check(ran.returncode == code, f"{words} ended with {ran.returncode}: {ran.stdout}")
        return ran.stdout

    def __truediv__(self, path):
        return self.root / path

    def left(self):
        """What is there that was not before."""
        return sorted(
            str(path.relative_to(self.changes))
            for path in self.changes.rglob("*")
            # Removed files are devices here.
            if path.is_file() and not KEPT.fullmatch(str(path.relative_to(self.changes)))
        )


def mount(*words):
    subprocess.run(["mount", *words], check=True)


def settings(unit):
    """The settings of a unit; of those that are given twice the last one."""
    lines = [line for line in unit.read_text().splitlines() if "=" in line and line[0] != "#"]
    return dict(line.split("=", 1) for line in lines)


class Service:
    """The command of the unit, as its user, with a socket in the place of the manager's."""

    def __init__(self, copy, preload=None):
        unit = settings(copy / UNIT)
        path = copy / "run/notify"
        path.unlink(missing_ok=True)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        path.chmod(0o666)
        variables = ["NOTIFY_SOCKET=/run/notify", f"WATCHDOG_USEC={int(PATIENCE * 1e6)}"]
        if preload:
            variables.append(f"LD_PRELOAD={preload}")
        self.process = subprocess.Popen(
            [
                "chroot", f"--userspec={unit['User']}:{unit['Group']}", copy.root,
                "env", "-i", *variables, *shlex.split(unit["ExecStart"]),
            ],
            stderr=subprocess.PIPE,
            text=True,
            umask=int(unit["UMask"], 8),
        )  # fmt: skip

    def message(self, seconds):
        """The next message's lines; none where there is none for so long."""
        self.socket.settimeout(seconds)
        try:
            return self.socket.recv(4096).decode().splitlines()
        except TimeoutError:
            return []

    def ready(self):
        first = self.message(30)
        check("READY=1" in first, f"ready: {first}: {self.process.poll()}")

    def signs(self, seconds):
        """How many signs of life there were in so many seconds."""
        signs, end = 0, time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            signs += "WATCHDOG=1" in self.message(left)
        return signs

    def stop(self):
        """Ends it as the manager does."""
        self.process.send_signal(signal.SIGTERM)
        said = self.process.communicate(timeout=30)[1]
        check(self.process.returncode == 0, f"{self.process.returncode}: {said}")
        messages = []
        while message := self.message(0.1):
            messages.append(message)
        check("STOPPING=1" in messages[-1], f"the last message: {messages}")
        return said


def wait_for(good, what):
    end = time.monotonic() + 60
    while not good():
        check(time.monotonic() < end, what)
        time.sleep(0.05)


def lines(path):
    return Counter(path.read_text().splitlines())


def serve(copy, texts, hanging):
    """Starts the service, feeds it, stops it and starts it again."""
    incoming, output = copy / STATE / "incoming", copy / STATE / "calls.tsv"

    def bring(number):
        """A file comes as a basecaller has it come: it gets its name when it is whole."""
        begun = incoming / f"{number}.fastq.part"
        begun.write_text(texts[number])
        begun.rename(incoming / f"{number}.fastq")

    def expected(count):
        (copy / "run/reads.fastq").write_text("".join(texts[:count]))
        calls = copy.run("strandline", "-q", "annotate", "/run/reads.fastq")
        return Counter(calls.splitlines())

    def wait_for_calls_of(count):
        wanted = expected(count)
        check(len(wanted) > 5 * count, f"{len(wanted)} calls")
        wait_for(lambda: lines(output) == wanted, f"the calls of {count} files")

    service = Service(copy)
    service.ready()
    check(service.signs(2 * PATIENCE) >= 2, "signs of life while nothing comes")
    for number in (0, 1):
        bring(number)
    wait_for_calls_of(2)
    bring(2)
    wait_for_calls_of(3)
    check(output.stat().st_mode & 0o777 == 0o640, "calls are for the group to read")
    said = service.stop()
    check("0 rejected" in said, said)
    print(f"started, fed and stopped: {sum(lines(output).values())} lines")

    before = output.read_bytes()
    (incoming / "1.fastq").rename(incoming / "one.fastq")
    service = Service(copy, preload=hanging)
    service.ready()
    check(service.signs(2 * PATIENCE) >= 2, "signs of life after a restart")
    check(output.read_bytes() == before, "nothing is annotated twice")
    bring(3)
    wait_for_calls_of(4)
    hang = copy / "run/hang"
    hang.touch()
    bring(4)
    # What was on its way when the disk began to hang.
    service.signs(PATIENCE)
    check(service.signs(4 * PATIENCE) == 0, "no sign of life while the disk hangs")
    hang.unlink()
    check(service.signs(2 * PATIENCE) >= 2, "signs of life once it goes on")
    wait_for_calls_of(5)
    service.stop()
    print("started again: nothing twice; no sign of life while the disk hung")

    configuration = copy / CONFIGURATION
    text = configuration.read_text()
    configuration.write_text(text + "thread = 1\n")
    service = Service(copy)
    said = service.process.communicate(timeout=30)[1]
    line = f"/{CONFIGURATION}: line {len(text.splitlines()) + 1}, column 1: "
    check(service.process.returncode == 2 and line in said, said)
    configuration.write_text(text + "threads = 1\n")


def install(copy, package):
    shutil.copy(package, copy / "root/strandline.deb")
    copy.run("dpkg", "-i", "/root/strandline.deb")
    check(copy.run("systemctl", "is-enabled", NAME, code=1).strip() == "disabled", "disabled")
    said = copy.run("systemd-analyze", "verify", f"/{UNIT}")
    check(NAME not in said, said)
    said = copy.run("systemd-analyze", "security", "--offline=true", "--threshold=30", f"/{UNIT}")
    print(said.splitlines()[-1])
    said = copy.run("strandline", "--version")
    check(re.fullmatch(r"strandline \d+\.\d+\.\d+\n", said), said)
    # Somebody else gets at neither reads nor calls.
    copy.run("ls", f"/{STATE}", code=2, user="nobody")


def remove(copy):
    copy.run("dpkg", "-r", NAME)
    check(not (copy / "usr/bin/strandline").exists(), "the program is gone")
    check("threads = 1" in (copy / CONFIGURATION).read_text(), "the configuration stays")
    copy.run("dpkg", "-P", NAME)
    left = copy.left()
    check(left and all(path.startswith(f"{STATE}/") for path in left), f"left: {left}")
    check((copy / STATE / "calls.tsv").exists(), "the calls stay")
    # Where there are none, nothing stays.
    shutil.rmtree(copy / STATE)
    copy.run("dpkg", "-i", "/root/strandline.deb")
    copy.run("dpkg", "-P", NAME)
    check(copy.left() == [] and not (copy / STATE).exists(), f"left: {copy.left()}")
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
    try:
        copy = Copy(scratch)
        source, hanging = copy / "run/hang.c", copy / "run/hang.so"
        source.write_text(HANGING_DISK)
        subprocess.run(["cc", "-shared", "-fPIC", "-o", hanging, source], check=True)
        install(copy, package)
        serve(copy, texts(), "/run/hang.so")
        remove(copy)
    finally:
        subprocess.run(["umount", "-R", "-l", scratch], check=False)
        scratch.rmdir()


if __name__ == "__main__":
    main()
