"""Stand-in for ``python`` that asks the fork server for a process with the heavy imports already done.

Ray (``runtime_env.py_executable``) and vLLM (``multiprocessing.set_executable``) start their workers through it. It
sends its own argv, environment, directory and open files to the fork server, stays as the worker's proxy (forwards
signals, repeats the exit code), and becomes a plain interpreter where no fork server answers: on another node, or after
the server is gone. Who answers gets all of that, so it must be this user, in a folder that nobody else can write.
Standard library only, since every start pays for its imports.
"""

import contextlib
import json
import os
import signal
import socket
import stat
import struct
import sys

ENV = "MRPO_FORK_SERVER"


def peer(connection: socket.socket) -> int:
    """User id of the process at the other end, as the kernel knows it."""
    size = struct.calcsize("3i")
    return int(struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))[1])


def connect(address: str) -> socket.socket:
    """A connection to this user's fork server.

    Raises:
        PermissionError: it isn't this user's, or somebody else could put another in its place.
        OSError: none answers.
    """
    folder = os.path.dirname(address)
    status = os.lstat(folder)
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise PermissionError(f"{folder} is not a folder that only this user can write")
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    server.connect(address)
    if peer(server) != os.geteuid():
        raise PermissionError(f"{address} is answered by user {peer(server)}")
    return server


def open_files() -> list[int]:
    """File descriptors that an exec'ed interpreter would inherit."""
    inheritable = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the listing's own descriptor is closed by now
            if os.get_inheritable(int(name)):
                inheritable.append(int(name))
    return sorted(inheritable)


def main() -> None:
    files = open_files()
    try:
        server = connect(os.environ[ENV])
    except PermissionError as error:
        sys.exit(f"fork server: {error}")
    except (KeyError, OSError):
        os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
    request = json.dumps({"argv": sys.argv[1:], "env": dict(os.environ), "cwd": os.getcwd(), "files": files}).encode()
    socket.send_fds(server, [len(request).to_bytes(8, "little")], files)
    server.sendall(request)
    replies = server.makefile("r")
    pid = int(replies.readline() or 0)
    if not pid:
        sys.exit("the fork server went away before it started this process")
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, lambda received, _frame: os.kill(pid, received))
    code = int(replies.readline() or 1)
    if code < 0:  # killed by a signal: die the same way, so that the parent sees the same status
        signal.signal(-code, signal.SIG_DFL) if -code != signal.SIGKILL else None
        os.kill(os.getpid(), -code)
    os._exit(code)


if __name__ == "__main__":
    main()
