"""Eyot's process driver: a bind of the usual port {usual} goes to this sandbox's own, {real}.

All agents share the host's ports here, and many (every one written with the bedrock-agentcore SDK) bind a fixed one.
Only the process driver does this; a container has its ports to itself.
"""

import os
import socket
import sys

_HERE = os.path.dirname(os.path.abspath(__file__))
_USUAL, _REAL = int("{usual}"), int("{real}")
_bind = socket.socket.bind


def _moved(self, address):
    if (
        self.family in (socket.AF_INET, socket.AF_INET6)
        and isinstance(address, tuple)
        and len(address) >= 2
        and address[1] == _USUAL
    ):
        address = (address[0], _REAL, *address[2:])
    return _bind(self, address)


socket.socket.bind = _moved

# This module stands before the one that the interpreter would have loaded; that one is loaded now.
_path = [entry for entry in sys.path if os.path.abspath(entry or os.curdir) != _HERE]
from importlib.machinery import PathFinder as _Finder  # noqa: E402

_spec = _Finder.find_spec("sitecustomize", _path)
if _spec is not None and _spec.loader is not None:
    from importlib.util import module_from_spec as _module_from_spec

    _module = _module_from_spec(_spec)
    sys.modules["sitecustomize"] = _module
    _spec.loader.exec_module(_module)
