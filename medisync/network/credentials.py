"""Certificates and keys: the federation's own certificate authority, the server's certificate, a key pair per hospital.

Private keys are written with mode 0600 and are never replaced.
"""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from medisync.errors import ConfigError
from medisync.network.addresses import as_ip_address

VALID_FOR = timedelta(days=730)
CURVE = ec.SECP384R1()


def write_private(file: Path, data: bytes) -> None:
    """Writes a new file that only its owner may read. Raises ConfigError if the file exists."""
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise ConfigError(f"{file} already exists and is not replaced; remove it, or choose another folder") from None
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(data)


def make_authority(folder: Path, *, now: datetime | None = None) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    """Writes ca.key and ca.crt to `folder` and returns both. Whoever holds the key can impersonate the server."""
    key, name = ec.generate_private_key(CURVE), _name("MediSync FL federation authority")
    certificate = (
        _certificate(name, name, key.public_key(), now)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA384())
    )
    write_private(folder / "ca.key", _private_bytes(key))
    (folder / "ca.crt").write_bytes(certificate.public_bytes(Encoding.PEM))
    return key, certificate


def make_server_certificate(
    folder: Path,
    hosts: list[str],
    authority: tuple[ec.EllipticCurvePrivateKey, x509.Certificate],
    *,
    now: datetime | None = None,
) -> None:
    """Writes server.key and server.crt to `folder`, valid for `hosts` (names or addresses) and for this machine."""
    key, (authority_key, authority_certificate) = ec.generate_private_key(CURVE), authority
    names = x509.SubjectAlternativeName(
        [_host(host) for host in dict.fromkeys([*hosts, "localhost", "127.0.0.1", "::1"])]
    )
    certificate = (
        _certificate(_name("MediSync FL server"), authority_certificate.subject, key.public_key(), now)
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False)
        .sign(authority_key, hashes.SHA384())
    )
    write_private(folder / "server.key", _private_bytes(key))
    (folder / "server.crt").write_bytes(certificate.public_bytes(Encoding.PEM))


def make_hospital_keys(private: Path, public: Path) -> None:
    """Writes a hospital's key pair in OpenSSH's format: its node signs with `private`, the server knows `public`."""
    key = ec.generate_private_key(CURVE)
    write_private(private, key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    public.parent.mkdir(parents=True, exist_ok=True)
    public.write_bytes(key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH))


def require_private(file: Path) -> None:
    """Raises ConfigError if a private key is missing, or others may read it."""
    if not file.is_file():
        raise ConfigError(f"{file}: this private key does not exist; make one with `medisync federation init`")
    if (mode := file.stat().st_mode & 0o777) & 0o077:
        raise ConfigError(f"{file}: others may read this private key (mode {mode:03o}); run chmod 600 {file.name}")


def require_valid(certificate: Path) -> None:
    """Raises ConfigError if a certificate cannot be read, has expired or is not valid yet."""
    try:
        found = x509.load_pem_x509_certificate(certificate.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{certificate}: is not a certificate ({error})") from None
    begin, end = found.not_valid_before_utc, found.not_valid_after_utc
    if not begin <= datetime.now(UTC) <= end:
        raise ConfigError(
            f"{certificate}: is valid only from {begin:%Y-%m-%d} to {end:%Y-%m-%d}, not today; make a new one with"
            " `medisync federation init`"
        )


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime | None
) -> x509.CertificateBuilder:
    moment = now or datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(moment - timedelta(minutes=5))
        .not_valid_after(moment + VALID_FOR)
    )


def _usage(**allowed: bool) -> x509.KeyUsage:
    kinds = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
    more = ("key_cert_sign", "crl_sign", "encipher_only", "decipher_only")
    return x509.KeyUsage(**{kind: allowed.get(kind, False) for kind in (*kinds, *more)})


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _host(host: str) -> x509.GeneralName:
    address = as_ip_address(host)
    return x509.IPAddress(address) if address else x509.DNSName(host)


def _private_bytes(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
