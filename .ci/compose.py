"""The checks of .ci/compose, which calls it in namespaces of their own: compose.py SCRATCH

It builds and starts what Dockerfile and compose.yaml describe, uses it as other people's programs do (Python's gRPC,
Chromium, docker), kills parts of it in the middle of a job, and compares every answer, bit for bit, with that of
"hashfinder find", which is the same search in one process. It ends with the first check that fails.
"""

import base64
import contextlib
import hashlib
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
import urllib.error
import urllib.request
import uuid

import grpc

SCRATCH = pathlib.Path(sys.argv[1])
GRPC, DASHBOARD = "127.0.0.1:50051", "http://127.0.0.1:8080/"
LARGEST_IMAGE = 40_000_000
PATIENCE = 600  # seconds that something may take before it has failed, on a machine that is busy with other things
MOST_HITS = 1_000_000  # the server's bound
MOST_CANDIDATES = 1 << 50  # which nobody searches in a day
JOB_SECONDS = 4  # that the first job takes

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


def run(*command, status=0, timeout=PATIENCE, env=None, errors=subprocess.STDOUT):
    """Runs a command, and returns what it has printed, standard error included unless that is to be elsewhere."""
    done = subprocess.run(
        command, env={**OURS, **(env or {})}, timeout=timeout, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors,
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


def crash(*names):
    """Kills what runs in containers, and waits until the daemon has started them again.

    docker kill would not do: the daemon takes that for a wish that they stay dead.
    """
    before = [inspect(name) for name in names]
    for facts in before:
        os.kill(facts["State"]["Pid"], signal.SIGKILL)

    def again(then):
        now = inspect(then["Id"])
        return now["RestartCount"] > then["RestartCount"] and now["State"]["Running"]

    for facts in before:
        until("the container runs again", lambda: again(facts))


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
    return make(request, timeout=timeout, wait_for_ready=True)


def stream(channel, method, request, reply):
    make = channel.unary_stream(f"/{method}", type(request).SerializeToString, reply.FromString)
    return make(request, timeout=10 * PATIENCE, wait_for_ready=True)


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


def digest(answer):
    """The hash of an answer: of its state, its reason and its hits."""
    return hashlib.sha256(repr(answer).encode()).hexdigest()[:16]


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


def limits():
    """The kernel knows the limits, Go's heap stays below that of memory, and a worker uses all cores."""
    units = {"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
    for service in "api", "worker":
        facts = inspect(only(service))
        variables = dict(v.split("=", 1) for v in facts["Config"]["Env"])
        number, unit = re.fullmatch(r"(\d+)(\w*)", variables["GOMEMLIMIT"]).groups()
        held = int(cgroup(facts, "memory", "memory.limit_in_bytes", "memory.max"))
        say(f"{service}: {held >> 20} MiB, GOMEMLIMIT {variables['GOMEMLIMIT']}")
        check(held == facts["HostConfig"]["Memory"], f"its control group has {held} bytes")
        check(held * 8 < int(number) * units[unit] * 10 < held * 95 // 10, "GOMEMLIMIT does not fit that")
    worker = only("worker")
    ready = until("the worker is ready", lambda: re.search(r"worker ready.* slots=(\d+)", docker("logs", worker)))
    threads, cores = int(ready[1]), len(os.sched_getaffinity(0))
    say(f"it searches with {threads} of {cores} cores")
    check(threads == cores, "that is wrong, as WORKER_CPUS is not set")


def cgroup(facts, controller, *names):
    """What a container's control group says, of version 1 or 2."""
    of = pathlib.Path(f"/proc/{facts['State']['Pid']}/cgroup").read_text()
    for line in of.splitlines():
        _, controllers, path = line.split(":", 2)
        folders = {controller: f"/sys/fs/cgroup/{controller}", "": "/sys/fs/cgroup"}
        for each in controllers.split(","):
            for name in names:
                file = pathlib.Path(folders.get(each, "/none") + path) / name
                if file.exists():
                    return file.read_text().strip()
    raise Failed(f"no control group of {controller} in:\n{of}")


def rebound():
    """A browser that another name has led to the published port reads nothing."""
    for host, want in {"localhost:8080": 200, "127.0.0.1:8080": 200, "evil.example:8080": 403}.items():
        request = urllib.request.Request(DASHBOARD + "queues/", headers={"Host": host})
        try:
            got = urllib.request.urlopen(request, timeout=PATIENCE).status
        except urllib.error.HTTPError as error:
            got = error.code
        say(f"{host}: {got}")
        check(got == want, f"that should be {want}")


def browse(screenshot):
    """The dashboard, in a browser, lists the queues that have been used: of jobs, and of Find. The picture of it is kept if somebody wants it."""
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


def tear():
    """Leaves the beginning of a transaction at the end of Redis's file, as a write that kill -9 has cut in half."""
    begun = r"*1\r\n$5\r\nMULTI\r\n*3\r\n$3\r\nSET\r\n$9\r\nha"
    compose("run", "--rm", "--no-deps", "--entrypoint", "sh", "redis", "-c",
            f"printf '{begun}' >>$(ls appendonlydir/*.incr.aof | tail -n 1)")  # fmt: skip


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
    say(next(line for line in said.splitlines() if "AOF manifest" in line))
    left = compose("run", "--rm", "--no-deps", "--entrypoint", "cat", "redis", "appendonlydir/appendonly.aof.manifest")
    check(left == "spoilt", f"of a file that it cannot read, {left!r} was left")


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
    with step("limits"):
        limits()

    channel = grpc.insecure_channel(GRPC)

    with step("Find, through the published port"):
        found = call(channel, "hash_name.HashFinder/Find", hash_name.HashNameRequest(desired_name="doctor"), hash_name.HashNameResponse)
        say(f"{found.secret} {found.hashed_name} {found.hamming_distance}")
        check((found.secret, found.hashed_name) == ("pO0G", "Sp0dOCTORuYUE/jHhX6sk5+8rvA="), "that is wrong")

    name = "hashfinder"
    request = pb.EstimateSearchRequest(desired_name=name)
    rate = until("the worker has told its rate", lambda: call(
        channel, "hashfinder.v1.JobService/EstimateSearch", request, pb.Estimate).candidates_per_second)  # fmt: skip
    # One candidate in 3e5 is within the first distance, one in 2e7 within the second.
    distance, candidates = 4 if rate < 1e9 else 3, int(rate * JOB_SECONDS)

    def submit(candidates):
        budget = pb.Budget(max_candidates=candidates, max_hits=MOST_HITS)
        spec = pb.JobSpec(desired_name=name, interesting_hamming_distance=distance, budget=budget)
        request = pb.SubmitJobRequest(job=pb.Job(spec=spec), request_id=str(uuid.uuid4()))
        return call(channel, "hashfinder.v1.JobService/SubmitJob", request, pb.Job).name

    def watch(name):
        return Watch(channel, pb, name)

    def find(*args, status):
        """The hits that the image's program finds by itself, as bytes of messages."""
        hits = []
        command = hashfinder, "find", *args, "--output", "json", "--quiet"
        # What it complains of, on a machine that leaves it no time, is no answer.
        for line in run(*command, status=status, timeout=10 * PATIENCE, errors=None).splitlines():
            hit = json.loads(line)
            hits.append(pb.Hit(
                index=int(hit["index"]), secret=base64.b64decode(hit["secret"]),
                hashed_name=hit["hashed_name"], hamming_distance=hit["hamming_distance"],
            ).SerializeToString(deterministic=True))  # fmt: skip
        return hits

    with step("a job, undisturbed, and the same search in one process"):
        first = submit(candidates)
        want = watch(first).answer()
        state, reason, hits = want
        check((state, reason) == (pb.Job.EXHAUSTED, pb.Job.CANDIDATES_EXHAUSTED), f"it ended {state} {reason}")
        inferior = "--show-inferior", str(distance), "--max-candidates"
        check(hits == find(name, *inferior, str(candidates), "--max-hits", str(MOST_HITS), status=3), "they differ")
        check(len(hits) > 20, "those are too few hits to tell anything")
        say(f"{candidates} candidates at {rate / 1e6:.0f} M/s, {len(hits)} hits, the same: answer {digest(want)}")

    def first_is_kept():
        got = watch(first).answer()
        say(f"the first job's answer: {digest(got)}")
        check(got == want, "the answer of a job that has ended is not what it was")

    with step("the dashboard, in Chromium"):
        rebound()
        browse(os.environ.get("SCREENSHOT"))

    with step("a job without an end: workers scaled, one killed, Redis killed"):
        watching = watch(submit(MOST_CANDIDATES))

        def note(what):
            watching.going()
            say(f"{watching.searched:12} candidates, {len(watching.hits):6} hits: {what}")

        def goes_on():
            seen = len(watching.hits)
            until("the stream goes on", lambda: watching.going() and len(watching.hits) > seen)

        goes_on()
        compose("up", "--detach", "--scale", "worker=3")
        check(len(containers("worker")) == 3, "there are not 3 workers")
        note("3 workers")
        crash(containers("worker")[0])
        goes_on()
        note("a worker was killed, and runs again")
        first_is_kept()

        request = hash_name.HashNameRequest(desired_name=name, interesting_hamming_distance=distance)
        finding = Stream(channel, "hash_name.HashFinder/FindRange", request, hash_name.HashNameResponse)
        submitting = Submitter(channel, pb)

        until("jobs are acknowledged, hits stream", lambda: len(submitting.acknowledged) > 5 and finding.responses)
        note(f"Redis is killed; {len(submitting.acknowledged)} jobs acknowledged, {len(finding.responses)} hits of FindRange")
        crash(only("redis"))
        seen, submitted = len(finding.responses), len(submitting.acknowledged)
        until("FindRange goes on", lambda: finding.going() and len(finding.responses) > seen)
        until("jobs are acknowledged", lambda: len(submitting.acknowledged) > submitted)
        goes_on()
        submitting.enough.set()
        submitting.join()
        note(f"Redis runs again; {len(submitting.acknowledged)} jobs acknowledged, {len(finding.responses)} hits of FindRange")
        check(not submitting.error, f"submitting failed: {submitting.error}")
        first_is_kept()

        compose("up", "--detach", "--scale", "worker=1")
        check(len(containers("worker")) == 1, "there is not 1 worker")
        goes_on()
        finding.going()
        note("1 worker")
        finding.call.cancel()
        finding.join()

        worker, begin = only("worker"), time.monotonic()
        compose("stop", "worker")
        note(f"the worker has ended, {time.monotonic() - begin:.1f} s after it was told to")
        check(inspect(worker)["State"]["ExitCode"] == 0, "it did not end by itself")
        expect(docker("logs", "--tail", "3", worker), "worker draining", "hashfinder has ended")
        compose("up", "--detach")
        goes_on()
        request = pb.CancelJobRequest(name=watching.job)
        check(call(channel, "hashfinder.v1.JobService/CancelJob", request, pb.Job).state == pb.Job.CANCELLED, "it goes on")
        _, _, hits = watching.answer()
        check(watch(watching.job).answer() == watching.answer(), "the log has something else")

    with step("what it streamed, and the same search in one process"):
        check(hits == find(name, *inferior, str(MOST_CANDIDATES), "--max-hits", str(len(hits)), status=3), "they differ")
        say(f"WatchJob: sequence numbers 1 to {watching.numbers[-1]} on one stream, {len(hits)} hits, the same")
        rows = [(base64.b64encode(h.secret).decode(), h.hashed_name, h.hamming_distance) for h in map(pb.Hit.FromString, hits)]
        found = [(r.secret, r.hashed_name, r.hamming_distance) for r in finding.responses]
        check(found == rows[: len(found)], "FindRange found something else")
        say(f"FindRange: {len(found)} hits on one stream, the same")
        short = pb.Job.SUCCEEDED, pb.Job.FOUND, find("gopher", "--distance", "1", "--show-inferior", "2", status=0)
        for job in submitting.acknowledged:
            check(watch(job).answer() == short, f"{job} has another answer")
        say(f"SubmitJob: none of {len(submitting.acknowledged)} lost, the same answers; told to try again {submitting.refused} times")

    with step("all of it killed, in the middle of the first job again"):
        watching = watch(submit(candidates))
        until("it runs", lambda: watching.searched)
        watching.going()
        crash(only("worker"), only("api"), only("redis"))
        compose("up", "--detach", "--wait")
        got = watch(watching.job).answer()
        say(f"the answer of the same search, disturbed: {digest(got)}")
        check(got == want, "the answer is another one")
        first_is_kept()

    with step("a backup, restored"):
        redis("CONFIG", "SET", "auto-aof-rewrite-percentage", "0")
        expect(redis("INFO", "persistence"), "aof_rewrite_in_progress:0")
        backup = SCRATCH / "backup.tar"
        run("sh", "-c", f"docker compose exec -T redis tar -c appendonlydir >{backup}")
        compose("down", "--volumes")
        run("sh", "-c", f"docker compose run --rm --no-deps -T --entrypoint tar redis -x <{backup}")
        tear()
        compose("up", "--detach", "--wait")
        redis("SET", "written-behind", "the tear")
        crash(only("redis"))
        compose("up", "--detach", "--wait")
        check(redis("GET", "written-behind") == "the tear", "what was written behind a torn transaction is gone")
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
