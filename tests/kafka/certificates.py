"""Certificates for a test: an authority, what it has signed, and another authority that has signed nothing."""

import subprocess
from pathlib import Path

KEY_PASSWORD = "key-secret"  # noqa: S105 - of a key that is made for a test
_CONFIG = """
[req]
distinguished_name = name
prompt = no
[name]
CN = {name}
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[signed]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = IP:127.0.0.1, DNS:localhost
"""


class Certificates:
    """PEM files: `ca` signed `server` (its key in the same file) and `client` (its key has a password)."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True)
        self.ca = self._authority("ca")
        self.other_ca = self._authority("other-ca")
        certificate, key = self._signed("server", ["-noenc"])
        self.server = directory / "server.pem"
        self.server.write_bytes(key.read_bytes() + certificate.read_bytes())
        self.client, self.client_key = self._signed("client", ["-passout", f"pass:{KEY_PASSWORD}"])

    def _authority(self, name: str) -> Path:
        certificate, _ = self._request(name, "authority", ["-noenc"])
        return certificate

    def _signed(self, name: str, options: list[str]) -> tuple[Path, Path]:
        authority = ["-CA", str(self.ca), "-CAkey", str(self.ca.with_suffix(".key"))]
        return self._request(name, "signed", [*options, *authority])

    def _request(self, name: str, extensions: str, options: list[str]) -> tuple[Path, Path]:
        config, certificate, key = (self._directory / f"{name}.{suffix}" for suffix in ("cnf", "crt", "key"))
        config.write_text(_CONFIG.format(name=name))
        new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-keyout", str(key)]
        command = ["openssl", "req", "-x509", "-days", "2", "-config", str(config), "-extensions", extensions]
        done = subprocess.run(
            [*command, *new_key, "-out", str(certificate), *options], check=False, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return certificate, key
