"""A real Kubernetes on a bare Debian machine, in one command. Standard library only.

`python3 -m devcluster --help`. The cluster lives in network namespaces without a way out;
everything it writes is under two folders, and `down` leaves nothing running.
"""
