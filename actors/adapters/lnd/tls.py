"""TLS towards LND, which signs its certificate itself: the certificate is pinned by its file."""

from __future__ import annotations

import ssl
from pathlib import Path


def trust(cert_file: Path | None) -> ssl.SSLContext | bool:
    """Return the trust in this certificate and those it signed; without a file, in the usual authorities.

    The name in the URL must stand in the certificate in either case. Raises `OSError`, also for a file without a
    certificate.
    """
    if cert_file is None:
        return True
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # Without it, a certificate that is not its own authority could not be pinned.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(cafile=cert_file)
    return context
