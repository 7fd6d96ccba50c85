"""TLS: version 1.3 only, and client certificates where they are asked for. Handshakes happen in memory."""

import ssl
from pathlib import Path

import pytest

from gateway.options import CommandFailed
from gateway.security.tls import TlsFiles, tls_context
from tests.certificates import CertificateFiles, make_certificate


class Side:
    """One end of a connection."""

    def __init__(self, context: ssl.SSLContext, *, server: bool) -> None:
        self.came, self.goes = ssl.MemoryBIO(), ssl.MemoryBIO()
        name = None if server else "localhost"
        self.tls = context.wrap_bio(self.came, self.goes, server_side=server, server_hostname=name)

    def step(self, other: "Side") -> bool:
        """Take what has come, and give what is to go; whether the handshake is done."""
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        finally:
            other.came.write(self.goes.read())
        return True


def handshake(server: ssl.SSLContext, client: ssl.SSLContext) -> str | None:
    """The version that both agree on. Raises SSLError."""
    sides = Side(server, server=True), Side(client, server=False)
    for _ in range(10):
        done = [sides[1].step(sides[0]), sides[0].step(sides[1])]
        if all(done):
            return sides[0].tls.version()
    raise AssertionError("they never agree")


@pytest.fixture
def files(tmp_path: Path) -> CertificateFiles:
    return make_certificate(tmp_path, "server")


def client_of(files: CertificateFiles) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(files.certificate))


def test_version_1_3_and_nothing_older(files: CertificateFiles) -> None:
    server = tls_context(TlsFiles(*files))
    assert handshake(server, client_of(files)) == "TLSv1.3"
    old = client_of(files)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError):
        handshake(server, old)


def test_client_certificates(files: CertificateFiles, tmp_path: Path) -> None:
    known, stranger = make_certificate(tmp_path, "known"), make_certificate(tmp_path, "stranger")
    server = tls_context(TlsFiles(*files, known.certificate))
    client = client_of(files)
    with pytest.raises(ssl.SSLError):
        handshake(server, client)
    client.load_cert_chain(*stranger)
    with pytest.raises(ssl.SSLError):
        handshake(server, client)
    client.load_cert_chain(*known)
    assert handshake(server, client) == "TLSv1.3"


def test_files_that_do_not_go_together(files: CertificateFiles, tmp_path: Path) -> None:
    other = make_certificate(tmp_path, "other")
    with pytest.raises(CommandFailed, match="--tls-key"):
        tls_context(TlsFiles(files.certificate, other.key))
    with pytest.raises(CommandFailed, match="No such file"):
        tls_context(TlsFiles(tmp_path / "none.pem", files.key))
    with pytest.raises(CommandFailed, match="--tls-client-ca"):
        tls_context(TlsFiles(*files, files.key))
