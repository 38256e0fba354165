#!/usr/bin/env python3
"""A gRPC client that is not ours: it knows the address, and learns everything else by reflection.

    grpc_client.py setup DIR    makes a virtual environment with what it needs, unless it is there
    grpc_client.py run TARGET   goes through the services at TARGET, such as unix:/run/bootjack/api.sock: makes reservations one by one
                                and together, watches, lists, moves, uploads, deletes; prints what it saw as one JSON object
"""

import hashlib
import json
import os
import subprocess
import sys

# The last one has the messages of error details, which no server's reflection tells.
PACKAGES = ["grpcio>=1.60,<2", "grpcio-reflection>=1.60,<2", "googleapis-common-protos>=1.60,<2"]
PACKAGE = "bootjack.v1"


def fail(text):
    sys.exit(f"grpc_client.py: {text}")


def setup(directory):
    done = os.path.join(directory, "complete")
    if os.path.exists(done) and open(done).read() == "\n".join(PACKAGES):
        return
    # Its own interpreter, not a shim that looks at the directory it is called in.
    made = subprocess.run([sys.executable, "-m", "venv", "--clear", directory], capture_output=True, text=True)
    if made.returncode != 0:
        fail(f"cannot make a virtual environment; install python3-venv: {made.stdout}{made.stderr}")
    pip = [os.path.join(directory, "bin", "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    got = subprocess.run(pip + PACKAGES, capture_output=True, text=True)
    if got.returncode != 0:
        fail(f"cannot install {' '.join(PACKAGES)} from the package index (is there a network?): {got.stderr}")
    with open(done, "w") as file:
        file.write("\n".join(PACKAGES))


class Client:
    def __init__(self, target):
        import grpc
        from google.protobuf import descriptor_pool
        from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

        # For a unix socket, gRPC's C core says the path where HTTP/2 has the authority, and strict servers refuse that
        # (hyperium/h2#487); grpcurl has -authority for it.
        options = [("grpc.default_authority", "localhost")] if target.startswith("unix:") else []
        self.channel = grpc.insecure_channel(target, options)
        self.reflection = ProtoReflectionDescriptorDatabase(self.channel)
        self.pool = descriptor_pool.DescriptorPool(self.reflection)

    def methods(self, service):
        return [method.name for method in self.pool.FindServiceByName(f"{PACKAGE}.{service}").methods]

    def stub(self, path, kind):
        """What calls a method such as Reservations.GetReservation, and what its request is made of."""
        from google.protobuf import message_factory

        service, name = path.split(".")
        method = self.pool.FindServiceByName(f"{PACKAGE}.{service}").methods_by_name[name]
        request = message_factory.GetMessageClass(method.input_type)
        answer = message_factory.GetMessageClass(method.output_type)
        stub = getattr(self.channel, kind)(
            f"/{PACKAGE}.{service}/{name}",
            request_serializer=request.SerializeToString,
            response_deserializer=answer.FromString,
        )
        return stub, request

    def message(self, request, made_of):
        from google.protobuf import json_format

        return json_format.ParseDict(request, made_of(), descriptor_pool=self.pool)

    def plain(self, answer):
        from google.protobuf import json_format

        return json_format.MessageToDict(answer, preserving_proto_field_name=True, descriptor_pool=self.pool)

    def call(self, path, request):
        import grpc

        stub, made_of = self.stub(path, "unary_unary")
        try:
            return self.plain(stub(self.message(request, made_of), timeout=60))
        except grpc.RpcError as error:
            return refusal(error)

    def upload(self, path, requests):
        import grpc

        stub, made_of = self.stub(path, "stream_unary")
        try:
            return self.plain(stub((self.message(request, made_of) for request in requests), timeout=60))
        except grpc.RpcError as error:
            return refusal(error)

    def watch(self, path, request, most):
        """The first messages of a stream, which is then left."""
        import grpc

        stub, made_of = self.stub(path, "unary_stream")
        stream = stub(self.message(request, made_of), timeout=60)
        try:
            seen = [self.plain(next(stream)) for _ in range(most)]
            stream.cancel()
            return seen
        except grpc.RpcError as error:
            return refusal(error)


def refusal(error):
    """A status with its details: which fields, which resource, and the reason."""
    from google.rpc import error_details_pb2, status_pb2

    seen = {"code": error.code().name, "message": error.details()}
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            for detail in status_pb2.Status.FromString(value).details:
                info, fields = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
                if detail.Unpack(info):
                    seen.update(reason=info.reason, domain=info.domain, metadata=dict(info.metadata))
                elif detail.Unpack(fields):
                    seen["fields"] = [violation.field for violation in fields.field_violations]
    return seen


def run(target):
    client = Client(target)
    call = client.call
    reservation = {
        "mac": "52:54:00:00:00:0C",
        "address": "198.18.0.12",
        "hostname": "node-12",
        "vars": {"ssh_key": "ssh-ed25519 AAAA me", "disks": [1, {"size": 2.5}], "swap": False},
    }
    seen = {
        "services": sorted(client.reflection.get_services()),
        "methods": client.methods("Reservations"),
        "created": call("Reservations.CreateReservation", {"reservation": reservation}),
        "conflict": call("Reservations.CreateReservation", {"reservation": reservation, "reservation_id": "other"}),
        "listed": call("Reservations.ListReservations", {}),
    }
    several(client, seen)
    move(client, seen)
    others(client, seen)
    seen["deleted"] = call("Reservations.DeleteReservation", {"name": "reservations/node-12"})
    seen["gone"] = call("Reservations.GetReservation", {"name": "reservations/node-12"})
    json.dump(seen, sys.stdout)


def several(client, seen):
    """Many in one call, said twice, and what a watch tells of it, from the list on and from the middle."""
    requests = [
        {"reservation": {"mac": f"52:54:00:00:01:{n:02x}", "address": f"198.18.0.{n}", "hostname": f"node-{n}"}}
        for n in (20, 21)
    ]
    batch = {"requests": requests, "request_id": "6ba7b810-9dad-41d1-80b4-00c04fd430c8"}
    seen["batch"] = client.call("Reservations.BatchCreateReservations", batch)
    seen["batch_again"] = client.call("Reservations.BatchCreateReservations", batch)
    seen["batch_refused"] = client.call("Reservations.BatchCreateReservations", {"requests": requests})
    after = {"resume_token": seen["listed"]["resume_token"]}
    seen["watched"] = client.watch("Reservations.WatchReservations", after, 2)
    after = {"resume_token": seen["watched"][0]["resume_token"]}
    seen["resumed"] = client.watch("Reservations.WatchReservations", after, 1)
    seen["foreign_token"] = client.watch("Reservations.WatchReservations", {"resume_token": "mine"}, 1)


def move(client, seen):
    """A machine that is to move and does not come."""
    change = {
        "reservation": {"name": "reservations/node-20", "address": "198.18.0.30"},
        "update_mask": "address",
        "convergence_timeout": "1s",
    }
    seen["moved"] = client.call("Reservations.UpdateReservation", change)
    seen["operation"] = client.call("Operations.WaitOperation", {"name": seen["moved"]["operation"]})
    stale = {"reservation": {"name": "reservations/node-20", "hostname": "other", "etag": "1"}}
    seen["stale"] = client.call("Reservations.UpdateReservation", stale)


def others(client, seen):
    """Leases, profiles, artefacts and the server itself."""
    import base64

    seen["leases"] = client.call("Leases.ListLeases", {"filter": "state = RESERVED"})
    seen["profile"] = client.call("Profiles.GetProfile", {"name": "profiles/debian-12"})
    octets = b"a kernel" * 1000
    parts = [{"octets": base64.b64encode(octets[at : at + 4096]).decode()} for at in range(0, len(octets), 4096)]
    said = {"name": "artifacts/k", "sha256": hashlib.sha256(octets).hexdigest()}
    seen["uploaded"] = client.upload("Artifacts.UploadArtifact", [{"artifact": said}, *parts])
    said = {"name": "artifacts/l", "sha256": "0" * 64}
    seen["wrong_digest"] = client.upload("Artifacts.UploadArtifact", [{"artifact": said}, *parts])
    seen["machines"] = client.call("Machines.ListMachines", {"page_size": 10})
    seen["server"] = client.call("Server.GetServerInfo", {})


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["setup", directory]:
            setup(directory)
        case ["run", target]:
            run(target)
        case _:
            fail(f"wanted setup DIR or run TARGET{os.linesep}{__doc__}")
