"""What stalls and strangers cost a run that listens, and an hour of both.

    python3 tests/field/link.py target/release/strandline [--stalls 200] [--strangers 200]
        [--board-stalls 200] [--minutes 60] [--seed 1]

A host listens while `replay` sends the sample reads. A stall is SIGSTOP for five seconds, longer
than the link's keep-alive: of the host, which must lose nothing, or of the board, which is then
taken for gone and must say so, while what the host makes of its open reads is marked `partial`. A
stranger connects and says nothing, drips bytes, scans, speaks HTTP, noise or another version. The
last part plays a MinION at its own pace, with stalls and strangers all the time, and watches the
host's memory. The calls must be those of the same reads from a file. Exits with 1 where they are
not, or where a host or a board ends otherwise than it should.
"""

import argparse
import concurrent.futures
import random
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))
import link_client  # noqa: E402

READS = ROOT / "tests/data/reads.fastq.gz"
STALL = 5.0
AT_ONCE = 8


class Cell:
    """A schedule of `replay`, and the calls of its reads from a file."""

    def __init__(self, program, scratch, channels, speed, duration):
        self.program = program
        self.words = [program, "replay", READS, "--channels", str(channels), "--pause", "0", "-q"]
        self.words += ["--duration", str(duration)]
        self.speed = speed
        fastq = scratch / f"{channels} {duration}.fastq"
        with fastq.open("wb") as out:
            subprocess.run([*self.words, "--speed", "1000000"], stdout=out, check=True)
        output = fastq.with_suffix(".tsv")
        subprocess.run(
            [program, "annotate", "-q", "--tier", "fast", fastq, "-o", output], check=True
        )
        self.calls = calls(output)
        fastq.unlink()

    def board(self, url):
        words = [*self.words, "--speed", str(self.speed), "--to", url]
        return subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def calls(path):
    return Counter(path.read_text().splitlines())


def host(program, url, folder, listens):
    """Starts a host, and waits until it listens."""
    words = [program, "annotate", url, "--tier", "fast", "--threads", "1"]
    with (folder / "host.log").open("w") as log:
        started = subprocess.Popen([*words, "-o", folder / "calls.tsv"], stderr=log)
    deadline = time.monotonic() + 30
    while not listens():
        assert time.monotonic() < deadline and started.poll() is None, "the host does not listen"
        time.sleep(0.02)
    return started


def stalls(cell, folder, rng, of_board):
    """Host or board stands still once, in the middle."""
    url = f"unix://{folder}/link"
    listening = host(cell.program, url + "?once", folder, (folder / "link").exists)
    board = cell.board(url)
    try:
        return stalled(cell, folder, rng, of_board, listening, board)
    finally:
        listening.kill()
        board.kill()


def stalled(cell, folder, rng, of_board, listening, board):
    """The same, of processes that are ended whatever comes of it."""
    time.sleep(rng.uniform(0.1, 1.5))
    still = board if of_board else listening
    still.send_signal(signal.SIGSTOP)
    time.sleep(STALL)
    still.send_signal(signal.SIGCONT)
    said = board.communicate(timeout=120)[1].decode()
    try:
        ended = listening.wait(timeout=20)
    except subprocess.TimeoutExpired:
        # It stood still before its hello, and is nobody's end of a run.
        listening.send_signal(signal.SIGINT)
        ended = listening.wait(timeout=60)
    found = calls(folder / "calls.tsv")
    if ended == 0 and board.returncode == 0:
        return "exact" if found == cell.calls else "WRONG calls"
    told = "not delivered" in said or "ended the connection" in said
    marked = all("partial" in line.split("\t")[7].split(",") for line in found - cell.calls)
    if of_board and ended == 0 and told and marked:
        return "said so"
    return f"WRONG: host {ended}, board {board.returncode}: {said}"


def stranger(port, rng):
    """Somebody who is no board. Raises nothing: a closed door is an answer."""
    kind = rng.choice(["scan", "silent", "drip", "http", "noise", "version", "hello"])
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as door:
            if kind == "scan":
                return kind
            if kind == "http":
                door.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            elif kind == "noise":
                door.sendall(rng.randbytes(20_000))
            elif kind in ("version", "hello"):
                version = 99 if kind == "version" else 1
                door.sendall(hello(version))
            until = time.monotonic() + 6
            while time.monotonic() < until:
                if kind == "drip":
                    door.sendall(rng.randbytes(1))
                door.settimeout(0.2)
                try:
                    if not door.recv(4096):
                        break
                except TimeoutError:
                    pass
    except OSError:
        pass
    return kind


def hello(major):
    """The frame that a board begins with."""
    body = struct.pack("<BHBBBHI", link_client.HELLO, 0, major, 0, 0, 2, 7)
    return link_client.stuff(body + struct.pack("<I", zlib.crc32(body)))


def answers(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def crowd(port, rng, wanted, over):
    """Strangers, a few at a time, until there were enough or it is over; how many of each."""
    seen = Counter()
    seeds = (random.Random(rng.random()) for _ in range(wanted))
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        for kind in pool.map(lambda seed: None if over() else stranger(port, seed), seeds):
            seen[kind] += kind is not None
    return +seen


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def memory(pid):
    """Resident memory in kilobytes."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in text.splitlines() if line.startswith("VmRSS")).split()[1])


def visited(cell, folder, rng, strangers, minutes=0):
    """Strangers while a board sends, and stalls too where it takes minutes."""
    port = free_port()
    url = f"tcp://127.0.0.1:{port}"
    listening = host(cell.program, f"{url}?boards=8", folder, lambda: answers(port))
    board = cell.board(url)
    sizes, end = [], time.monotonic() + 60 * minutes

    def stall():
        # As often as a laptop's lid is closed.
        while board.poll() is None and time.monotonic() < end - 60:
            time.sleep(50)
            sizes.append(memory(listening.pid))
            listening.send_signal(signal.SIGSTOP)
            time.sleep(STALL)
            listening.send_signal(signal.SIGCONT)

    staller = threading.Thread(target=stall)
    if minutes:
        staller.start()
    seen = crowd(port, rng, strangers, lambda: minutes and time.monotonic() > end)
    said = board.communicate()[1].decode()
    if minutes:
        staller.join()
    time.sleep(4)
    listening.send_signal(signal.SIGINT)
    ended = listening.wait(timeout=120)
    same = calls(folder / "calls.tsv") == cell.calls
    what = ", ".join(f"{count} {kind}" for kind, count in sorted(seen.items()))
    print(f"strangers: {seen.total()}: {what}")
    if minutes and sizes:
        early, late = sizes[min(2, len(sizes) - 1)], sizes[-1]
        print(f"{minutes} minutes, {len(sizes)} stalls: resident {early} kB early, {late} kB late")
        if late > 1.2 * early + 4096:
            return "WRONG: memory grows"
    if ended == 0 and board.returncode == 0 and same:
        return "exact"
    return f"WRONG: host {ended}, board {board.returncode}, same calls {same}: {said}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program", type=Path)
    parser.add_argument("--stalls", type=int, default=200)
    parser.add_argument("--board-stalls", type=int, default=200)
    parser.add_argument("--strangers", type=int, default=200)
    parser.add_argument("--minutes", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    program = arguments.program.resolve()
    rng = random.Random(arguments.seed)
    wrong = 0
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)

        def room(name):
            folder = scratch / name
            folder.mkdir()
            return folder

        # About two seconds on the wire: room for a stall in the middle.
        short = Cell(program, scratch, 8, 200, 400)
        for name, times, of_board in (
            ("host stalls", arguments.stalls, False),
            ("board stalls", arguments.board_stalls, True),
        ):
            with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
                tries = [
                    pool.submit(
                        stalls, short, room(f"{name} {i}"), random.Random(rng.random()), of_board
                    )
                    for i in range(times)
                ]
                seen = Counter(one.result() for one in tries)
            print(f"{name}: {times}: " + ", ".join(f"{n} {what}" for what, n in seen.items()))
            wrong += sum(n for what, n in seen.items() if what.startswith("WRONG"))
        if arguments.strangers:
            # As long as the strangers take.
            long = Cell(program, scratch, 16, 20, 12 * arguments.strangers + 400)
            verdict = visited(long, room("strangers"), rng, arguments.strangers)
            print(f"strangers: the board's calls: {verdict}")
            wrong += verdict != "exact"
        if arguments.minutes:
            cell = Cell(program, scratch, 512, 1, 60 * arguments.minutes)
            many = 100 * arguments.minutes
            verdict = visited(cell, room("hour"), rng, many, arguments.minutes)
            print(f"{arguments.minutes} minutes: the board's calls: {verdict}")
            wrong += verdict != "exact"
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
