"""The command line: what is printed, and the status that tells."""

import re
import subprocess

import pytest

from gateway import BINARY, ROOT

GOOD = (ROOT / "config" / "coapgw.yaml").read_text()


def coapgw(*arguments):
    return subprocess.run([BINARY, *map(str, arguments)], capture_output=True, text=True, timeout=60)


@pytest.mark.core
def test_version():
    result = coapgw("--version")
    assert result.returncode == 0
    assert re.fullmatch(r"coapgw \d+\.\d+\.\d+\S*.*\n?", result.stdout, re.S), result.stdout


def test_help():
    result = coapgw("--help")
    assert result.returncode == 0
    for option in ("-c", "--check", "--version", "--help"):
        assert option in result.stdout


@pytest.mark.parametrize("arguments", [("--nonsense",), ("-x",), ("-c",), ("extra",), ()])
def test_wrong_usage(arguments):
    result = coapgw(*arguments)
    assert result.returncode == 2
    assert result.stderr


@pytest.mark.core
def test_check_accepts_the_example():
    result = coapgw("-c", ROOT / "config" / "coapgw.yaml", "--check")
    assert (result.returncode, result.stderr) == (0, "")


def line_of(text, needle):
    return next(i for i, line in enumerate(text.splitlines(), 1) if needle in line)


@pytest.mark.core
@pytest.mark.parametrize("old, new, key", [
    ("workers: 1", "workers: none", "workers"),
    ("workers: 1", "worker: 1", "worker"),
    ("size: 512MiB", "size: 512", "size"),
    ("size: 512MiB", "size: 512MiB\n  speed: fast", "speed"),
    ("device: tap:coapgw0", "device: tun:coapgw0", "device"),
    ("    to: origin", "    to: nowhere", "to"),
    ("  - uri: coap://10.99.0.2", "  - uri: coap://10.99.0.3", "uri"),
    ("ack_timeout: 2s", "ack_timeout: 2", "ack_timeout"),
    ("ack_random_factor: 1.5", "ack_random_factor: 0.5", "ack_random_factor"),
    ("addresses: [10.99.0.2/24,", "addresses: [10.99.0.2,", "addresses"),
])
def test_check_names_file_line_and_key(tmp_path, old, new, key):
    active = "\n" + old + "\n" if not old.endswith(",") else old
    assert GOOD.count(old) >= 1, active
    text = GOOD.replace(old, new, 1)
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    result = coapgw("-c", path, "--check")
    assert result.returncode == 1, result.stderr
    line = line_of(text, new.splitlines()[-1])
    assert re.search(rf"^{re.escape(str(path))}:{line}: \S*{key}\S*: .+; .+", result.stderr, re.M), \
        result.stderr


def test_check_reports_all_errors_at_once(tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text(GOOD.replace("workers: 1", "workers: 0").replace("body: 64KiB", "body: huge"))
    result = coapgw("-c", path, "--check")
    assert result.returncode == 1
    assert len(re.findall(rf"^{re.escape(str(path))}:\d+: ", result.stderr, re.M)) == 2, result.stderr


def test_missing_file():
    result = coapgw("-c", "/nonexistent/coapgw.yaml", "--check")
    assert result.returncode == 1
    assert "/nonexistent/coapgw.yaml" in result.stderr


def test_start_without_the_device_fails_with_its_name(tmp_path):
    """An interface that does not exist: not ready, status 1, and the message names it."""
    path = tmp_path / "nodevice.yaml"
    path.write_text(GOOD.replace("tap:coapgw0", "af_packet:nodev9").replace(
        '    host_addresses: [10.99.0.1/24, "fd99::1/64"]\n', "").replace("512MiB", "64MiB").replace(
            "directory: /run/coapgw", f"directory: {tmp_path}/journal"))
    result = coapgw("-c", path)
    assert result.returncode == 1, result.stderr
    assert "nodev9" in result.stderr
    assert "ready" not in result.stdout + result.stderr
