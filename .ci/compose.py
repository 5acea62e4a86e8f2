"""The checks of .ci/compose, which calls it in namespaces of their own: compose.py SCRATCH

It builds and starts what Dockerfile and compose.yaml describe, uses it as other people's programs do (Python's gRPC,
Chromium, docker), kills parts of it in the middle of a job, and compares every answer, bit for bit, with that of
"hashfinder find", which is the same search in one process. It ends with the first check that fails.
"""

import base64
import contextlib
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid

import grpc

SCRATCH = pathlib.Path(sys.argv[1])
GRPC, DASHBOARD = "127.0.0.1:50051", "http://127.0.0.1:8080/"
LARGEST_IMAGE = 40_000_000
PATIENCE = 180  # seconds that something may take before it has failed
MOST_HITS = 1_000_000  # the server's bound
JOB_SECONDS = 12  # that the long job takes all workers when nothing disturbs it; what is done to it takes a third

OURS = {**os.environ, "TAG": "ci", "COMPOSE_BAKE": "false"}
SCHEMA = "hashfinder:{p0}:schema"


class Failed(Exception):
    """A check has failed."""


def check(ok, what):
    if not ok:
        raise Failed(what)


def expect(text, *words):
    for word in words:
        check(word in text, f"{word!r} is missing in:\n{text}")


def say(text):
    print(text, flush=True)


@contextlib.contextmanager
def step(name):
    say(f"-- {name}")
    begin = time.monotonic()
    yield
    say(f"-- {name}: {time.monotonic() - begin:.1f} s")


def until(what, condition):
    """Waits for a condition, and returns what it has returned."""
    end = time.monotonic() + PATIENCE
    while not (value := condition()):
        check(time.monotonic() < end, f"waited {PATIENCE} s until {what}")
        time.sleep(0.1)
    return value


def run(*command, status=0, timeout=PATIENCE, env=None):
    """Runs a command, and returns what it has printed, standard error included."""
    done = subprocess.run(
        command, env={**OURS, **(env or {})}, timeout=timeout, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    check(done.returncode == status, f"{command} ended with status {done.returncode}, not {status}:\n{done.stdout}")
    return done.stdout.strip()


def docker(*args, **options):
    return run("docker", *args, **options)


def compose(*args, **options):
    return docker("compose", *args, **options)


def containers(service):
    return compose("ps", "--all", "--quiet", service).split()


def only(service):
    (container,) = containers(service)
    return container


def inspect(container):
    (facts,) = json.loads(docker("inspect", container))
    return facts


def crash(container):
    """Kills what runs in a container, and waits until the daemon has started it again.

    docker kill would not do: the daemon takes that for a wish that it stays dead.
    """
    before = inspect(container)
    os.kill(before["State"]["Pid"], signal.SIGKILL)

    def again():
        now = inspect(container)
        return now["RestartCount"] > before["RestartCount"] and now["State"]["Running"]

    until("the container runs again", again)


def redis(*command):
    return compose("exec", "-T", "redis", "redis-cli", "-e", *command)


# -- A client that has nothing of ours but the protos


def messages():
    """The modules of both protos."""
    out = SCRATCH / "proto"
    out.mkdir()
    run("protoc", "-Iproto/hash_name", "-Iproto", "-Iproto/third_party", "-I/usr/include", f"--python_out={out}",
        "hash_name.proto", "hashfinder/v1/jobs.proto", "google/rpc/status.proto")  # fmt: skip
    sys.path.insert(0, str(out))
    import hash_name_pb2
    from hashfinder.v1 import jobs_pb2

    return hash_name_pb2, jobs_pb2


def call(channel, method, request, reply, timeout=PATIENCE):
    make = channel.unary_unary(f"/{method}", type(request).SerializeToString, reply.FromString)
    return make(request, timeout=timeout)


def stream(channel, method, request, reply):
    make = channel.unary_stream(f"/{method}", type(request).SerializeToString, reply.FromString)
    return make(request, timeout=10 * PATIENCE)


class Stream(threading.Thread):
    """One stream, read to its end: no reconnecting."""

    def __init__(self, channel, method, request, reply):
        super().__init__(daemon=True)
        self.responses, self.error = [], None
        self.call = stream(channel, method, request, reply)
        self.start()

    def run(self):
        try:
            for response in self.call:
                self.take(response)
        except grpc.RpcError as error:
            self.error = error

    def take(self, response):
        self.responses.append(response)

    def going(self):
        check(self.is_alive(), f"the stream has ended after {len(self.responses)} responses: {self.error}")
        return True


class Watch(Stream):
    """All events of a job, from the first on."""

    def __init__(self, channel, pb, name):
        self.job, self.searched, self.end = name, 0, None
        self.numbers, self.hits = [], []
        request = pb.WatchJobRequest(name=name)
        super().__init__(channel, "hashfinder.v1.JobService/WatchJob", request, pb.WatchJobResponse)

    def take(self, response):
        kind = response.WhichOneof("event")
        if kind == "progress":
            self.searched = response.progress.candidates_searched
            return
        self.numbers.append(response.sequence)
        if kind == "hit":
            self.hits.append(response.hit.SerializeToString(deterministic=True))
        else:
            self.end = response.end

    def answer(self):
        """Waits for the end, and returns it and the hits, each as the bytes that came."""
        self.join(timeout=10 * PATIENCE)
        check(self.end and not self.error, f"the stream ended with {self.error} after {len(self.numbers)} events")
        check(self.numbers == list(range(1, len(self.hits) + 2)), "the stream's sequence numbers have a gap")
        return self.end.state, self.end.end_reason, self.hits


# -- What is done


def build():
    for line in compose("build", timeout=15 * PATIENCE).splitlines():
        if re.search(r" (DONE \d{2,}|CACHED|naming to)", line):
            say(line)
    facts = inspect("hashfinder:ci")
    say(f"image: {facts['Size'] / 1e6:.1f} MB, user {facts['Config']['User']}, {facts['Config']['Entrypoint']}")
    check(facts["Size"] <= LARGEST_IMAGE, f"the image has {facts['Size']} bytes, more than {LARGEST_IMAGE}")
    expect(docker("run", "--rm", "hashfinder:ci", "version"), "hashfinder ci ")
    expect(docker("run", "--rm", "--entrypoint", "/bin/sh", "hashfinder:ci", status=127), "no such file")


def program():
    """The image's program, which needs nothing of the image."""
    container = docker("create", "hashfinder:ci")
    docker("cp", f"{container}:/hashfinder", str(SCRATCH / "hashfinder"))
    docker("rm", container)
    return str(SCRATCH / "hashfinder")


def table():
    say(f"{'CONTAINER':22} {'USER':9} {'CAPABILITIES':12} {'READ-ONLY':9} {'NO-NEW-PRIV':11} {'MEMORY':7} PUBLISHED")
    for service in "redis", "api", "worker":
        for container in containers(service):
            facts = inspect(container)
            host = facts["HostConfig"]
            status = pathlib.Path(f"/proc/{facts['State']['Pid']}/status").read_text()
            value = dict(re.findall(r"(\w+):\t(\S+)", status))
            published = [f"{b['HostIp']}:{b['HostPort']}" for p in host["PortBindings"].values() for b in p]
            memory = f"{host['Memory'] >> 20}M"
            say(f"{facts['Name'][1:]:22} {value['Uid']:9} {value['CapBnd'].lstrip('0') or 'none':12} "
                f"{host['ReadonlyRootfs']!s:9} {value['NoNewPrivs']:11} {memory:7} {' '.join(published) or '-'}")  # fmt: skip
            check(value["Uid"] != "0", "it runs as root")
            check(int(value["CapBnd"], 16) == 0, "it has capabilities")
            check(host["ReadonlyRootfs"], "its root can be written to")
            check(value["NoNewPrivs"] == "1", "it may gain privileges")
            check(host["Memory"], "it may use any amount of memory")
            check(all(p.startswith("127.0.0.1:") for p in published), "it is published beyond loopback")
            check((service == "api") == bool(published), "the wrong services are published")


def browse(screenshot):
    """The dashboard, in a browser, lists both queues. The picture of it is kept if somebody wants it."""
    chromium = ("chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={SCRATCH}/chromium",
                "--virtual-time-budget=10000", "--window-size=1280,800")  # fmt: skip
    page = run(*chromium, "--dump-dom", DASHBOARD, env={"HOME": str(SCRATCH)})
    expect(page, ">interactive<", ">batch<")
    if screenshot:
        run(*chromium, f"--screenshot={screenshot}", DASHBOARD, env={"HOME": str(SCRATCH)})


class Submitter(threading.Thread):
    """Submits short jobs one after the other, each as often as it takes until it is acknowledged."""

    def __init__(self, channel, pb):
        super().__init__(daemon=True)
        self.channel, self.pb = channel, pb
        self.acknowledged, self.refused, self.error = [], 0, None
        self.enough = threading.Event()
        self.start()

    def run(self):
        while not self.enough.wait(0.1):
            spec = self.pb.JobSpec(desired_name="gopher", ideal_hamming_distance=1, interesting_hamming_distance=2)
            request = self.pb.SubmitJobRequest(job=self.pb.Job(spec=spec), request_id=str(uuid.uuid4()))
            while True:
                try:
                    job = call(self.channel, "hashfinder.v1.JobService/SubmitJob", request, self.pb.Job)
                    self.acknowledged.append(job.name)
                    break
                except grpc.RpcError as error:
                    if error.code() != grpc.StatusCode.UNAVAILABLE:
                        self.error = error
                        return
                    self.refused += 1
                    time.sleep(0.1)


def port_taken():
    """up says which port; so does the log of a container whose own port is taken."""
    with socket.create_server(("127.0.0.1", 8080)):
        said = compose("up", "--detach", status=1)
    expect(said, "127.0.0.1:8080", "address already in use")
    say(said.splitlines()[-1])
    compose("down", "--volumes")
    said = compose("run", "--rm", "--no-deps", "-e", "HASHFINDER_HTTP_LISTEN=0.0.0.0:50051", "api", status=1)
    expect(said, "--http-listen: listen tcp 0.0.0.0:50051: bind: address already in use")
    say(said.splitlines()[-1])


def wrong_variables():
    for variable, words in {
        "HASHFINDER_CONCURRENCY=many": ["HASHFINDER_CONCURRENCY", '"many"'],
        "HASHFINDER_REDIS=redis:6379": ["--redis", "redis://host:port"],
        "HASHFINDER_REDDIS=redis://redis:6379": ["HASHFINDER_REDDIS is none of"],
        "GOMEMLIMIT=lots": ["malformed GOMEMLIMIT"],
    }.items():
        said = compose("run", "--rm", "--no-deps", "-e", variable, "worker", status=2)
        expect(said, *words)
        say(said.splitlines()[0])


def other_schema():
    """Data of another version: each process says so and what to do, and leaves them alone."""
    compose("stop", "api", "worker")
    redis("SET", SCHEMA, "0")
    compose("up", "--detach")
    for container in only("api"), only("worker"):
        until("it was started again", lambda: inspect(container)["RestartCount"] >= 1)
        said = docker("logs", container)
        expect(said, 'schema "0", of an older version', "docs/operations.md")
    say(next(line for line in said.splitlines() if "schema" in line))
    compose("stop", "api", "worker")
    check(redis("GET", SCHEMA) == "0", "the schema was changed")
    redis("SET", SCHEMA, "1")
    compose("up", "--detach", "--wait")


def redis_hangs():
    """The others say so, end in time when they are told to, and come back."""
    api, worker = only("api"), only("worker")
    docker("pause", only("redis"))
    until("api says so", lambda: "not serving: redis does not answer" in docker("logs", "--tail", "5", api))
    until("worker says so", lambda: "msg=failing" in docker("logs", "--tail", "20", worker))
    for container in worker, api:
        say(docker("exec", container, "/hashfinder", "healthcheck", status=1))
    begin = time.monotonic()
    compose("stop", "api", "worker", timeout=2 * PATIENCE)
    say(f"they have ended {time.monotonic() - begin:.1f} s after they were told to")
    for container in worker, api:
        check(inspect(container)["State"]["ExitCode"] == 0, "it did not end by itself")
    docker("unpause", only("redis"))
    until("it is healthy", lambda: inspect(only("redis"))["State"]["Health"]["Status"] == "healthy")
    compose("up", "--detach", "--wait")


def redis_unhealthy():
    """The volume outlives the containers; Redis that cannot read its file there says why, and up says that it is Redis."""
    compose("down")
    spoil = "echo spoilt >appendonlydir/appendonly.aof.manifest"
    compose("run", "--rm", "--no-deps", "--entrypoint", "sh", "redis", "-c", spoil)
    said = compose("up", "--detach", status=1)
    expect(said, "hashfinder-redis-1", "is unhealthy")
    say(said.splitlines()[-1])
    said = docker("logs", "--tail", "20", only("redis"))
    expect(said, "AOF manifest file format")
    say(next(line for line in said.splitlines() if "AOF" in line))


def main():
    with step("docker compose config"):
        compose("config", "--quiet")
    with step("docker compose build"):
        build()
        hashfinder = program()
    hash_name, pb = messages()
    with step("a port taken"):
        port_taken()
    with step("wrong environment variables"):
        wrong_variables()
    with step("docker compose up --detach --wait"):
        compose("up", "--detach", "--wait")
    table()

    channel = grpc.insecure_channel(GRPC)

    def find(*args, status):
        """The hits that the image's program finds by itself, as bytes of messages."""
        hits = []
        for line in run(hashfinder, "find", *args, "--output", "json", "--quiet", status=status, timeout=10 * PATIENCE).splitlines():
            hit = json.loads(line)
            hits.append(pb.Hit(
                index=int(hit["index"]), secret=base64.b64decode(hit["secret"]),
                hashed_name=hit["hashed_name"], hamming_distance=hit["hamming_distance"],
            ).SerializeToString(deterministic=True))  # fmt: skip
        return hits

    def submit():
        budget = pb.Budget(max_candidates=candidates, max_hits=MOST_HITS)
        spec = pb.JobSpec(desired_name=name, interesting_hamming_distance=distance, budget=budget)
        request = pb.SubmitJobRequest(job=pb.Job(spec=spec), request_id=str(uuid.uuid4()))
        return call(channel, "hashfinder.v1.JobService/SubmitJob", request, pb.Job).name

    def watch(name):
        return Watch(channel, pb, name)

    with step("Find, through the published port"):
        found = call(channel, "hash_name.HashFinder/Find", hash_name.HashNameRequest(desired_name="doctor"), hash_name.HashNameResponse)
        say(f"{found.secret} {found.hashed_name} {found.hamming_distance}")
        check((found.secret, found.hashed_name) == ("pO0G", "Sp0dOCTORuYUE/jHhX6sk5+8rvA="), "that is wrong")

    with step("what the answer is, by hashfinder find in one process"):
        name, distance = "hashfinder", 4
        request = pb.EstimateSearchRequest(desired_name=name)
        rate = until("the worker has told its rate", lambda: call(
            channel, "hashfinder.v1.JobService/EstimateSearch", request, pb.Estimate).candidates_per_second)  # fmt: skip
        candidates = int(rate * JOB_SECONDS)
        want = (pb.Job.EXHAUSTED, pb.Job.CANDIDATES_EXHAUSTED, find(
            name, "--show-inferior", str(distance), "--max-candidates", str(candidates), "--max-hits", str(MOST_HITS), status=3,
        ))  # fmt: skip
        say(f"{candidates} candidates at {rate / 1e6:.0f} M/s, {len(want[2])} hits")
        check(len(want[2]) > 100, "those are too few to tell anything")

    with step("the job, undisturbed"):
        first = submit()
        watching = watch(first)
        until("it runs", lambda: watching.searched)
        browse(os.environ.get("SCREENSHOT"))
        check(watching.answer() == want, "the answer is another one")

    def first_is_kept():
        check(watch(first).answer() == want, "the answer of a job that has ended is not what it was")

    with step("the job again: workers scaled, one killed, Redis killed"):
        watching = watch(submit())

        def note(what):
            watching.going()
            say(f"{watching.searched / candidates:4.0%} searched, {len(watching.hits):5} hits: {what}")

        until("a tenth is searched", lambda: watching.going() and watching.searched > candidates / 10)
        compose("up", "--detach", "--scale", "worker=3")
        check(len(containers("worker")) == 3, "there are not 3 workers")
        note("3 workers")
        crash(containers("worker")[0])
        note("a worker was killed, and runs again")
        first_is_kept()

        request = hash_name.HashNameRequest(desired_name=name, interesting_hamming_distance=distance)
        finding = Stream(channel, "hash_name.HashFinder/FindRange", request, hash_name.HashNameResponse)
        submitting = Submitter(channel, pb)
        until("jobs are acknowledged, hits stream", lambda: len(submitting.acknowledged) > 5 and finding.responses)
        note(f"Redis is killed; {len(submitting.acknowledged)} jobs acknowledged, {len(finding.responses)} hits of FindRange")
        before = len(watching.hits), len(finding.responses), len(submitting.acknowledged)
        crash(only("redis"))
        until("both streams go on, and jobs are acknowledged", lambda: watching.going() and finding.going() and all(
            now > then for now, then in zip((len(watching.hits), len(finding.responses), len(submitting.acknowledged)), before)
        ))  # fmt: skip
        submitting.enough.set()
        submitting.join()
        note(f"Redis runs again; {len(submitting.acknowledged)} jobs acknowledged, {len(finding.responses)} hits of FindRange")
        check(not submitting.error, f"submitting failed: {submitting.error}")
        first_is_kept()

        compose("up", "--detach", "--scale", "worker=1")
        check(len(containers("worker")) == 1, "there is not 1 worker")
        note("1 worker")
        finding.going()
        finding.call.cancel()
        finding.join()
        check(watching.answer() == want, "the answer is another one")
        say(f"the same answer; sequence numbers 1 to {watching.numbers[-1]} on one stream")
        rows = [(base64.b64encode(h.secret).decode(), h.hashed_name, h.hamming_distance) for h in map(pb.Hit.FromString, want[2])]
        found = [(r.secret, r.hashed_name, r.hamming_distance) for r in finding.responses]
        check(found == rows[: len(found)], "FindRange found something else")
        short = find("gopher", "--distance", "1", "--show-inferior", "2", status=0)
        for job in submitting.acknowledged:
            check(watch(job).answer() == (pb.Job.SUCCEEDED, pb.Job.FOUND, short), f"{job} has another answer")
        say(f"FindRange: {len(found)} hits, the same; {len(submitting.acknowledged)} short jobs, none lost, the same answers; "
            f"{submitting.refused} calls told to try again")  # fmt: skip

    with step("a worker told to stop in the middle of a job"):
        watching = watch(submit())
        until("it runs", lambda: watching.searched)
        worker, begin = only("worker"), time.monotonic()
        compose("stop", "worker")
        say(f"{time.monotonic() - begin:.1f} s")
        check(inspect(worker)["State"]["ExitCode"] == 0, "it did not end by itself")
        expect(docker("logs", "--tail", "3", worker), "worker draining", "hashfinder has ended")
        compose("up", "--detach")
        request = pb.CancelJobRequest(name=watching.job)
        call(channel, "hashfinder.v1.JobService/CancelJob", request, pb.Job)
        state, _, hits = watching.answer()
        check(state == pb.Job.CANCELLED and hits == want[2][: len(hits)], "its hits are not the first ones")

    with step("all of it killed"):
        for service in "worker", "api", "redis":
            crash(only(service))
        compose("up", "--detach", "--wait")
        first_is_kept()

    with step("a backup, restored"):
        redis("CONFIG", "SET", "auto-aof-rewrite-percentage", "0")
        expect(redis("INFO", "persistence"), "aof_rewrite_in_progress:0")
        backup = SCRATCH / "backup.tar"
        run("sh", "-c", f"docker compose exec -T redis tar -c appendonlydir >{backup}")
        compose("down", "--volumes")
        run("sh", "-c", f"docker compose run --rm --no-deps -T --entrypoint tar redis -x <{backup}")
        compose("up", "--detach", "--wait")
        first_is_kept()

    with step("data of another version"):
        other_schema()
        first_is_kept()
    with step("Redis hangs"):
        redis_hangs()
        first_is_kept()
    with step("Redis cannot read its file"):
        redis_unhealthy()
    with step("docker compose down --volumes"):
        compose("down", "--volumes")
        left = [docker(*kind, "--filter", "label=com.docker.compose.project=hashfinder")
                for kind in (("ps", "-aq"), ("volume", "ls", "-q"), ("network", "ls", "-q"))]  # fmt: skip
        check(not any(left), f"it left {left}")


if __name__ == "__main__":
    try:
        main()
    except BaseException:
        say(docker("ps", "--all"))
        say(compose("logs", "--tail", "30"))
        raise
