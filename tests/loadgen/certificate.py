"""A certificate for 'localhost' that is its own authority, for servers in tests."""

import ssl
import subprocess
from pathlib import Path


def make_certificate(folder: Path) -> Path:
    """Make it and its key in `folder`, by the command openssl; gives the file of both."""
    command = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1"
        " -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    )
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    subprocess.run([*command.split(), "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    certificate.write_bytes(certificate.read_bytes() + key.read_bytes())
    return certificate


def server_context(certificate: Path) -> ssl.SSLContext:
    """What a server needs that shows it."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    return tls
