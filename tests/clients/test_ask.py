"""`satmeter ask` as a person runs it."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import pytest

from tests.helpers.patience import PATIENCE_S, PROGRAM_S
from tests.helpers.served import Served, patiently


def run(command: str, environment: dict[str, str], *words: str, told: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [command, "ask", *words],
        env=environment,
        input=told,
        capture_output=True,
        text=True,
        timeout=PROGRAM_S,
        check=False,
    )


def test_the_answer_is_on_standard_output_and_the_cost_beside_it(
    server: Served, command: str, environment: dict[str, str], tmp_path: Path
) -> None:
    first = run(command, environment, "--server", server.url, "--deposit", "300", "Name three uses of a sextant.")
    assert first.returncode == 0, first.stderr
    assert "Name three uses of a sextant." in first.stdout and "sats" not in first.stdout
    assert "are left in the session, 1700 of the budget" in first.stderr
    second = run(command, environment, "--server", server.url, "--quiet", "-", told="hello from a pipe")
    assert "hello from a pipe" in second.stdout and second.stderr == ""
    (file,) = (tmp_path / "satmeter").glob("*.json")
    assert file.stat().st_mode & 0o777 == 0o600 and json.loads(file.read_text())["paid_sats"] == 300
    rejected = run(command, environment, "--server", server.url, "[reject] this")
    assert rejected.returncode == 3 and "was rejected" in rejected.stderr
    closed = run(command, environment, "--server", server.url, "--close")
    assert closed.returncode == 0 and "sats came back" in closed.stderr and closed.stdout == ""
    assert json.loads(file.read_text())["session"] is None


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        ([], 2, "Say what to ask"),
        (["hi", "--server", "nonsense"], 2, "not the address"),
        (["hi", "--wallet", "lnbits"], 2, "SATMETER_WALLET_LNBITS_KEY"),
        (["hi", "--budget", "5", "--server", "SERVER"], 4, "--budget counts"),
        (["hi", "--max-sats", "1", "--max-tokens", "100000", "--model", "none", "--server", "SERVER"], 1, "model"),
    ],
    ids=["nothing", "address", "wallet", "budget", "model"],
)
def test_what_is_wrong_is_said_and_told_by_the_status(
    server: Served, command: str, environment: dict[str, str], words: list[str], status: int, said: str
) -> None:
    found = run(command, environment, *[word.replace("SERVER", server.url) for word in words])
    assert found.returncode == status and said in found.stderr and "Traceback" not in found.stderr


def test_a_person_sees_a_code_to_pay_and_the_answer_once_it_is_paid(
    server: Served, command: str, environment: dict[str, str], tmp_path: Path
) -> None:
    words = [command, "ask", "hello", "--server", server.url, "--wallet", "terminal", "--deposit", "100"]
    log = tmp_path / "log"
    with log.open("wb") as shown:
        asking = subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=shown, text=True)
        patiently(lambda: "Waiting for the payment" in log.read_text(), "no invoice was shown")
        (file,) = (tmp_path / "satmeter").glob("*.json")
        payment_hash = json.loads(file.read_text())["session"]["deposit"]["paymentHash"]
        server.client.post(f"/dev/stub/pay/{payment_hash}").raise_for_status()
        answer, _ = asking.communicate(timeout=PATIENCE_S)
    assert asking.returncode == 0 and "hello" in answer and "█" in log.read_text()


def test_ctrl_c_while_waiting_ends_it_and_says_where_the_session_is(
    server: Served, command: str, environment: dict[str, str], tmp_path: Path
) -> None:
    words = [command, "ask", "hello", "--server", server.url, "--wallet", "terminal"]
    log = tmp_path / "log"
    with log.open("wb") as shown:
        # Tests run in the background have Ctrl-C ignored, and a child would inherit that.
        ours = signal.signal(signal.SIGINT, signal.default_int_handler)
        with subprocess.Popen(words, env=environment, stderr=shown) as asking:
            signal.signal(signal.SIGINT, ours)
            patiently(lambda: "Waiting for the payment" in log.read_text(), "no invoice was shown")
            asking.send_signal(signal.SIGINT)
            try:
                assert asking.wait(PATIENCE_S) == 130
            finally:
                asking.kill()
    said = log.read_text()
    assert "What was paid is in" not in said and "ask again, and it goes on with" in said and "Traceback" not in said
