"""The llama.cpp server of the package xllamacpp: `llama_server.py PORT FILE THREADS STREAMS`.

Run by `contenders` with the Python of an environment of its own; imports nothing of ours.
"""

import signal
import sys

import xllamacpp  # type: ignore[import-not-found]

CONTEXT_TOKENS = 1024  # of each stream


def main(port: str, file: str, threads: str, streams: str) -> None:
    """Serve until SIGTERM."""
    options = xllamacpp.CommonParams()
    options.model.path = file
    options.hostnames, options.port = ["127.0.0.1"], int(port)
    options.n_parallel = int(streams)
    options.n_ctx = int(streams) * CONTEXT_TOKENS
    options.cpuparams.n_threads = options.cpuparams_batch.n_threads = int(threads)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    server = xllamacpp.Server(options)
    print(server.listening_address, flush=True)
    while True:
        signal.pause()


if __name__ == "__main__":
    main(*sys.argv[1:])
