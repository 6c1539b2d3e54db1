"""What gateways and clients over DTLS need: pre-shared keys, certificates, commands."""

import os
import re
import subprocess
import tempfile
from pathlib import Path

from conftest import Answer
from gateway import BINARY
from transports import GATEWAY4, GATEWAY6

# libcoap takes keys as text, so these are printable.
TEXT_KEYS = {"device-1": "sesame-sesame-01", "device-2": "sesame-sesame-02"}
KEYS = {identity: text.encode().hex() for identity, text in TEXT_KEYS.items()}


def openssl(*arguments, **kwargs):
    result = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True, **kwargs)
    assert result.returncode == 0, result.stderr
    return result.stdout


class Authority:
    """A certificate authority in a folder: what it issues are files there, NAME.pem and NAME.key."""

    def __init__(self, folder, name="ca"):
        self.folder, self.name, self.serial = Path(folder), name, 0
        self.certificate = self._key_and_certificate(name, f"/CN={name}", "-x509")
        (self.folder / f"{name}.index").write_text("")

    def path(self, name):
        return self.folder / name

    def _key_and_certificate(self, name, subject, *arguments):
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-sha256",
                "-keyout", self.path(f"{name}.key"), "-out", self.path(f"{name}.pem"), "-subj", subject,
                *(arguments or ["-new"]))
        return self.path(f"{name}.pem")

    def issue(self, name, san, days=30):
        """`san` as openssl has it: DNS:..., IP:...; days < 0: it has expired."""
        request = self._key_and_certificate(name, f"/CN={name}")
        extensions = self.path(f"{name}.ext")
        extensions.write_text(f"subjectAltName={san}\n")
        self.serial += 1
        dates = ["-days", days]
        if days < 0:
            # x509 makes none that end in the past; ca does.
            return self._issue_expired(name, request, extensions)
        openssl("x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey",
                self.path(f"{self.name}.key"), "-set_serial", self.serial, "-extfile", extensions, "-sha256",
                "-out", self.path(f"{name}.pem"), *dates)
        return self.path(f"{name}.pem")

    def _configuration(self):
        file = self.path(f"{self.name}.cnf")
        file.write_text(f"[ca]\ndefault_ca=own\n[own]\ndatabase={self.path(self.name)}.index\n"
                        f"new_certs_dir={self.folder}\nserial={self.path(self.name)}.serial\n"
                        f"default_md=sha256\npolicy=any\ndefault_crl_days=30\nunique_subject=no\n"
                        f"[any]\ncommonName=supplied\n")
        return file

    def _issue_expired(self, name, request, extensions):
        self.path(f"{self.name}.serial").write_text(f"{self.serial + 4096:04x}\n")
        certificate = self.path(f"{name}.new")
        openssl("ca", "-batch", "-config", self._configuration(), "-cert", self.certificate, "-keyfile",
                self.path(f"{self.name}.key"), "-in", request, "-out", certificate, "-extfile", extensions,
                "-startdate", "20200101000000Z", "-enddate", "20200201000000Z", "-notext")
        certificate.rename(self.path(f"{name}.pem"))
        return self.path(f"{name}.pem")

    def revoke(self, *names):
        """The list of what has been revoked, as a file."""
        common = ["-config", self._configuration(), "-cert", self.certificate, "-keyfile",
                  self.path(f"{self.name}.key")]
        for name in names:
            openssl("ca", *common, "-revoke", self.path(f"{name}.pem"))
        openssl("ca", *common, "-gencrl", "-out", self.path("crl.pem"))
        return self.path("crl.pem")


def write_keys(folder, keys=None):
    path = Path(folder) / "psk"
    path.write_text("".join(f"{identity}:{key}\n" for identity, key in (keys or KEYS).items()))
    path.chmod(0o600)
    return path


def listeners(dtls, more=""):
    """A plain listener and one with DTLS, on IPv4, and one with DTLS on IPv6."""
    inner = "".join(f"      {line}\n" for line in (dtls + more).splitlines())
    return (f"\nlisteners:\n  - uri: coap://{GATEWAY4}\n"
            f"  - uri: coaps://{GATEWAY4}\n    dtls:\n{inner}"
            f"  - uri: \"coaps://[{GATEWAY6}]\"\n    dtls:\n{inner}")


def coaps_client(namespace, path, *arguments, library="openssl", host=GATEWAY4, timeout=10, verbose=7):
    """libcoap's client: code None when there was no answer."""
    with tempfile.NamedTemporaryFile() as body:
        command = [f"coap-client-{library}", "-B", timeout, "-v", verbose, "-o", body.name, *arguments,
                   f"coaps://{host}{path}"]
        result = namespace.run(*command, check=False, timeout=timeout + 20)
        payload = Path(body.name).read_text(errors="replace")
    output = result.stdout + result.stderr
    codes = [c for c in re.findall(r"^v:1 t:\w+ c:(\d\.\d\d) ", output, re.M) if c != "0.00"]
    return Answer(codes[-1] if codes else None, payload, output)


def psk(identity="device-1", key=None):
    return "-u", identity, "-k", key or TEXT_KEYS[identity]


def certificate(authority, name):
    """libcoap's arguments for a client with a certificate, which checks the server's."""
    return "-c", authority.path(f"{name}.pem"), "-j", authority.path(f"{name}.key"), "-C", authority.certificate


# The script-driven client (tests/dtls).
PEER = Path(os.environ.get("DTLSPEER", BINARY.parent / "tests" / "dtls" / "dtlspeer"))


def peer(namespace, *steps, identity="device-1", key=None, host=GATEWAY4, options=(), check=True):
    """Runs dtlspeer; its result."""
    result = namespace.run(PEER, "--psk", f"{identity}:{key or KEYS[identity]}", *options, f"{host}:5684",
                           *steps, check=False, timeout=60)
    assert not check or result.returncode == 0, result.stdout + result.stderr
    return result
