"""A client that knows hash_name.proto and nothing else of hashfinder.

Usage: client.py ADDRESS FOLDER_OF_STUBS

Prints one JSON object a line: what each call gave. Before it cancels a Find it says so and waits for a line of input.
"""

import json
import sys

import grpc

sys.path.insert(0, sys.argv[2])
import hash_name_pb2  # noqa: E402
import hash_name_pb2_grpc  # noqa: E402


def row(response):
    return [response.secret, response.hashed_name, response.hamming_distance]


def job(call):
    return dict(call.initial_metadata())["hashfinder-job"]


def main():
    def say(what, value):
        print(json.dumps({what: value}), flush=True)

    with grpc.insecure_channel(sys.argv[1]) as channel:
        stub = hash_name_pb2_grpc.HashFinderStub(channel)
        request = hash_name_pb2.HashNameRequest

        say("find", row(stub.Find(request(desired_name="seed"))))
        say("range", [row(r) for r in stub.FindRange(request(desired_name="seed", interesting_hamming_distance=1))])

        try:
            stub.Find(request(desired_name=""))
        except grpc.RpcError as error:
            say("refused", error.code().name)

        hard = request(desired_name="zzzzzzzzzzzz", interesting_hamming_distance=9)
        unary = stub.Find.future(hard)
        say("running", True)
        sys.stdin.readline()
        unary.cancel()

        stream = stub.FindRange(hard)
        say("first", row(next(stream)))
        say("cancelled_range", job(stream))
        stream.cancel()

        try:
            stub.Find(hard, timeout=3)
        except grpc.RpcError as error:
            say("late", error.code().name)


main()
