"""A development authority and a certificate for each process, for mutual TLS (`services.common.rpc.tls`)."""

import ipaddress
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from cli.local.suite import SERVICES, SuiteSettings
from cli.running import console, fail
from services.common.config import load, write_private
from services.common.rpc.tls import AUTHORITY, CERTIFICATE, KEY

AUTHORITY_LIFETIME = timedelta(days=3650)
CERTIFICATE_LIFETIME = timedelta(days=397)
LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")
CLOCKS_DIFFER = timedelta(minutes=5)


def make_certificates(folder: Path, names: Sequence[str], hosts: Sequence[str] = ()) -> list[Path]:
    """Makes a folder with `ca.crt`, `tls.crt` and `tls.key` for each process.

    An existing authority in the folder is used again, so that single certificates can be renewed.

    Args:
        folder: of the authority, whose key must not leave it, and of the new folders.
        names: the processes.
        hosts: further names and addresses of each process, besides its own name and this machine's.

    Returns:
        The folders.

    Raises:
        OSError: something cannot be written.
        ValueError: the authority in the folder was not made by this command.
    """
    authority, authority_key = _authority(folder)
    made = []
    for name in names:
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(name, authority.subject, key.public_key(), CERTIFICATE_LIFETIME)
        certificate = (
            builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(
                x509.SubjectAlternativeName([_general_name(host) for host in (name, *LOCAL_NAMES, *hosts)]),
                critical=False,
            )
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
                critical=False,
            )
            .sign(authority_key, hashes.SHA256())
        )
        own = folder / name
        _write(own / AUTHORITY, authority)
        _write(own / CERTIFICATE, certificate)
        write_private(own / KEY, _pem(key))
        made.append(own)
    return made


def _authority(folder: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    certificate_file, key_file = folder / AUTHORITY, folder / "ca.key"
    if key_file.exists():
        known = serialization.load_pem_private_key(key_file.read_bytes(), password=None)
        if not isinstance(known, ec.EllipticCurvePrivateKey):
            raise ValueError(f"{key_file} is not a key of `stemtube admin make-certs`")
        return x509.load_pem_x509_certificate(certificate_file.read_bytes()), known
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "StemTube development authority")])
    certificate = (
        _builder("StemTube development authority", subject, key.public_key(), AUTHORITY_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=True,
                key_cert_sign=True,
                crl_sign=True,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
        .sign(key, hashes.SHA256())
    )
    _write(certificate_file, certificate)
    write_private(key_file, _pem(key))
    return certificate, key


def _builder(
    name: str, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey, lifetime: timedelta
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCKS_DIFFER)
        .not_valid_after(now + lifetime)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _write(path: Path, certificate: x509.Certificate) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


def _pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def make_certs_command(
    out: Annotated[Path | None, typer.Option(help="DATA_DIR/certs unless given.")] = None,
    host: Annotated[
        list[str] | None, typer.Option(help="Name or address of the services; can be given several times.")
    ] = None,
) -> None:
    """Makes a development authority and certificates for mutual TLS between the five processes."""
    folder = out or load(SuiteSettings).data_dir / "certs"
    try:
        made = make_certificates(folder, ("gateway", *SERVICES), host or ())
    except (OSError, ValueError) as error:
        fail(str(error))
    for path in made:
        console.print(f"{path}", markup=False, highlight=False)
    console.print(f"Set STEMTUBE_NETWORK__TLS_DIR: each process its own, or {folder} for `stemtube up`.")
