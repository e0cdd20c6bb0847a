"""Where a language model is served, and what may be asked of it. The key is said to the server and to nobody else."""

import base64
import json
import os
import re
from dataclasses import dataclass, field, fields
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from curate.errors import RecipeError
from curate.generate.budget import Budget

LOCAL = 64
"""Requests at once, for a server with a GPU of ours; a paid service says what it allows."""


@dataclass(frozen=True, repr=False)
class Service:
    """An OpenAI-compatible server. Times are seconds.

    base: URL with or without `/v1`. key: sent as `Authorization: Bearer`, never shown. most: requests at once.
    timeout: for one try, from the first byte sent to the last received. tries: of one request. pause: before its second
    try; doubled each time. breaker: so many requests in a row that failed all their tries end the run.
    names: what else answers may call the model; its own name, a path that ends in it, and its dated editions are known.
    """

    base: str
    key: str = field(default="", repr=False)
    model: str = ""
    most: int = LOCAL
    timeout: float = 300.0
    tries: int = 6
    budget: Budget | None = None
    pause: float = 1.0
    breaker: int = 20
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        parts = _split(self.base)
        if re.search(r"[\x00-\x20\x7f-\xa0]", self.base):
            raise RecipeError("the server's address has white space or control characters in it")
        if parts is None or parts.scheme not in ("http", "https") or not _is_host(parts.hostname):
            raise RecipeError("the server's address is no URL of the form https://HOST[:PORT][/PATH]")
        if not re.fullmatch(r"[\x21-\x7e]*", self.key):
            raise RecipeError("the server's key has white space or other characters that no key has")
        for name in ("most", "tries", "breaker"):
            if getattr(self, name) < 1:
                raise RecipeError(f"{name} is {getattr(self, name)}; at least 1 is wanted")
        if not self.timeout > 0 or not self.pause >= 0:
            raise RecipeError(f"timeout is {self.timeout} and pause {self.pause}; a positive and no negative is wanted")

    @property
    def url(self) -> str:
        """The address to which requests go, without user and password."""
        parts = urlsplit(self.base)
        path = parts.path.rstrip("/")
        if not path.endswith("/chat/completions"):
            path += "/chat/completions" if re.search(r"/v[0-9]+$", path) else "/v1/chat/completions"
        return parts._replace(netloc=_host(parts.netloc), path=path, fragment="").geturl()

    @property
    def shown(self) -> str:
        """The address as it may be shown: without user, password and query."""
        return urlsplit(self.url)._replace(query="").geturl()

    @property
    def authorization(self) -> str:
        """The header's value, "" for none. User and password in the address count where there is no key; a character
        that an address cannot have is written in it as %40 and the like."""
        user, found, _ = urlsplit(self.base).netloc.rpartition("@")
        if self.key:
            return f"Bearer {self.key}"
        return f"Basic {base64.b64encode(unquote(user).encode()).decode()}" if found else ""

    @property
    def called(self) -> tuple[str, ...]:
        """Names that an answer may bear; empty if any will do."""
        return (self.model, *self.names) if self.model else ()

    def clean(self, text: str) -> str:
        """`text` without the key, the password and the query, should a server have said them, in any form in which it
        may. Of text that was cut a part of a secret may be left: clean first."""
        parts = urlsplit(self.base)
        said = {self.key, self.authorization.partition(" ")[2], parts.netloc.rpartition("@")[0], parts.password or ""}
        said |= {parts.query, *(value for _, value in parse_qsl(parts.query) if len(value) >= 6)}
        plain = said | {unquote(one) for one in said}
        forms = plain | {quote(one, safe="") for one in plain} | {json.dumps(one)[1:-1] for one in plain}
        for secret in sorted(forms, key=len, reverse=True):
            if len(secret) >= 3:
                text = text.replace(secret, "***")
        return text

    def __repr__(self) -> str:
        hidden: dict[str, Any] = {"base": self.shown, "key": "***" if self.key else ""}
        told = {one.name: hidden.get(one.name, getattr(self, one.name)) for one in fields(self)}
        return f"Service({', '.join(f'{name}={value!r}' for name, value in told.items())})"


def service(server: str, **more: Any) -> Service:
    """The service at `env:NAME`: its URL is in the variable NAME, its key, if it wants one, in NAME_KEY. Or at a URL,
    without a key. `more` are other fields of Service."""
    if not server.startswith("env:"):
        return Service(server, **more)
    name = server.removeprefix("env:")
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise RecipeError(f"server: {server} names no variable; env:NAME is wanted, for instance env:CURATE_LLM")
    base = os.environ.get(name, "").strip()
    if not base:
        raise RecipeError(
            f"server: the variable {name} is not set; it holds the server's URL, {name}_KEY the key if one is needed"
        )
    try:
        return Service(base, key=os.environ.get(f"{name}_KEY", "").strip(), **more)
    except RecipeError as error:
        raise RecipeError(f"server: {server}: {error}") from None


def _host(netloc: str) -> str:
    return netloc.rpartition("@")[2]


def _is_host(name: str | None) -> bool:
    """True for what may be looked up: labels of 1 to 63 bytes (RFC 1035, 2.3.4), without characters that end a host."""
    if not name or re.search(r"[\\<>^`{|}\"%]", name):
        return False
    if ":" in name:  # IPv6, which urlsplit has looked at
        return True
    try:
        return len(name.encode("idna")) <= 255
    except UnicodeError:
        return False


def _split(base: str) -> Any:
    try:
        parts = urlsplit(base)
        _ = parts.port  # a port that is none raises only when it is asked for
        return parts
    except ValueError:
        return None
