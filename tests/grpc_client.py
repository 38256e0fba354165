#!/usr/bin/env python3
"""A gRPC client that is not ours: it knows the address, and learns everything else by reflection.

    grpc_client.py setup DIR    makes a virtual environment with what it needs, unless it is there
    grpc_client.py run TARGET   creates, lists and deletes a reservation at TARGET, such as unix:/run/bootjack/api.sock;
                                prints what it saw as one JSON object
"""

import json
import os
import subprocess
import sys

PACKAGES = ["grpcio>=1.60,<2", "grpcio-reflection>=1.60,<2"]
SERVICE = "bootjack.v1.Reservations"


def fail(text):
    sys.exit(f"grpc_client.py: {text}")


def setup(directory):
    done = os.path.join(directory, "complete")
    if os.path.exists(done):
        return
    # Its own interpreter, not a shim that looks at the directory it is called in.
    made = subprocess.run([sys.executable, "-m", "venv", "--clear", directory], capture_output=True, text=True)
    if made.returncode != 0:
        fail(f"cannot make a virtual environment; install python3-venv: {made.stdout}{made.stderr}")
    pip = [os.path.join(directory, "bin", "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    got = subprocess.run(pip + PACKAGES, capture_output=True, text=True)
    if got.returncode != 0:
        fail(f"cannot install {' '.join(PACKAGES)} from the package index (is there a network?): {got.stderr}")
    open(done, "w").close()


def run(target):
    import grpc
    from google.protobuf import descriptor_pool, json_format, message_factory
    from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

    # For a unix socket, gRPC's C core says the path where HTTP/2 has the authority, and strict servers refuse that
    # (hyperium/h2#487); grpcurl has -authority for it.
    options = [("grpc.default_authority", "localhost")] if target.startswith("unix:") else []
    channel = grpc.insecure_channel(target, options)
    reflection = ProtoReflectionDescriptorDatabase(channel)
    pool = descriptor_pool.DescriptorPool(reflection)
    service = pool.FindServiceByName(SERVICE)

    def call(name, request):
        method = service.methods_by_name[name]
        request_class = message_factory.GetMessageClass(method.input_type)
        answer_class = message_factory.GetMessageClass(method.output_type)
        stub = channel.unary_unary(
            f"/{SERVICE}/{name}",
            request_serializer=request_class.SerializeToString,
            response_deserializer=answer_class.FromString,
        )
        message = json_format.ParseDict(request, request_class(), descriptor_pool=pool)
        try:
            answer = stub(message, timeout=60)
        except grpc.RpcError as error:
            return {"code": error.code().name, "message": error.details()}
        return json_format.MessageToDict(answer, preserving_proto_field_name=True, descriptor_pool=pool)

    reservation = {
        "mac": "52:54:00:00:00:0C",
        "address": "198.18.0.12",
        "hostname": "node-12",
        "vars": {"ssh_key": "ssh-ed25519 AAAA me", "disks": [1, {"size": 2.5}], "swap": False},
    }
    seen = {
        "services": sorted(reflection.get_services()),
        "methods": [method.name for method in service.methods],
        "created": call("CreateReservation", {"reservation": reservation}),
        "conflict": call("CreateReservation", {"reservation": reservation, "reservation_id": "other"}),
        "listed": call("ListReservations", {}),
        "deleted": call("DeleteReservation", {"name": "reservations/node-12"}),
        "gone": call("GetReservation", {"name": "reservations/node-12"}),
    }
    json.dump(seen, sys.stdout)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["setup", directory]:
            setup(directory)
        case ["run", target]:
            run(target)
        case _:
            fail(f"wanted setup DIR or run TARGET{os.linesep}{__doc__}")
