"""TLS as the gateway speaks it: version 1.3, nothing older."""

import ssl
from pathlib import Path
from typing import NamedTuple

from gateway.options import CommandFailed, ExitCode


class TlsFiles(NamedTuple):
    """PEM files: the certificate with its chain, its key, and perhaps the authorities of client
    certificates, which are then asked for."""

    certificate: Path
    key: Path
    client_authorities: Path | None = None


def tls_context(files: TlsFiles) -> ssl.SSLContext:
    """How connections are secured. Raises CommandFailed for files that can't be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(files.certificate, files.key)
        if files.client_authorities is not None:
            context.load_verify_locations(files.client_authorities)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ssl.SSLError) as exc:
        named = ", ".join(str(file) for file in files if file is not None)
        raise CommandFailed(
            ExitCode.USAGE,
            f"TLS can't be set up from {named}: {exc.strerror or exc}.",
            "Give PEM files: --tls-cert (with its chain), --tls-key (without a passphrase), --tls-client-ca.",
        ) from exc
    return context
