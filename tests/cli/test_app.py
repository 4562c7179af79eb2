import socket


def test_a_taken_port_is_one_line(refusal):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        message = refusal("app", "--device", "cpu", "--port", port)
    assert message.startswith(f"macr: error: --port {port} cannot be used ")
    assert message.endswith(": choose another one, or 0 for any\n")


def test_missing_packages_are_named(refusal, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "macr app needs the package starlette: pip install starlette uvicorn" in refusal("app")
