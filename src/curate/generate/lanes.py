"""Connections to one server: a request in, status and body out, or a failure that says whether it may be charged.

httpx looks through all connections of a pool several times for each request: with 256 of them that is 15 ms of a core,
against 0.7 for all the rest. So each connection is a pool of its own, a lane, and each request takes the lane that was
free last. Nothing follows a redirect, TLS is verified, and a body that never ends is cut off.
"""

import asyncio
import os
import ssl
from types import TracebackType
from typing import NamedTuple
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx

from curate.errors import AssetError, RecipeError
from curate.generate.service import Service

LARGEST = 32 << 20
"""Bytes of an answer."""

_CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR")
_CONNECTING = 15.0
_IDLE = 4.0  # servers close what is idle for 5 s or more: a request must not cross that


class Reply(NamedTuple):
    """Status, the headers Retry-After and Location, and the body."""

    status: int
    retry_after: str | None
    location: str | None
    body: bytes


class Failure(Exception):
    """No whole reply. `charged`: the server may have worked, and take money for it. `slower`: it has too much to do."""

    def __init__(self, reason: str, *, charged: bool, slower: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.charged, self.slower = reason, charged, slower


class Lanes:
    """Open connections; close them with `async with`."""

    def __init__(self, service: Service) -> None:
        parts = urlsplit(service.url)
        try:
            self._url = httpx.URL(service.url)
        except httpx.InvalidURL:
            raise RecipeError("the server's address is no URL that can be asked: check its host and path") from None
        self._timeout = service.timeout
        self._extensions = {"timeout": {"connect": min(_CONNECTING, service.timeout)}}
        self._headers = [
            (b"Host", self._url.netloc),
            (b"Accept", b"application/json"),
            (b"Accept-Encoding", b"identity"),
            (b"Content-Type", b"application/json"),
            (b"User-Agent", b"curate"),
        ]
        if service.authorization:
            self._headers.append((b"Authorization", service.authorization.encode()))
        trust = _trust()
        limits = httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=_IDLE)
        proxy = _proxy(parts.scheme, parts.hostname or "")
        try:
            self._lanes = [
                httpx.AsyncHTTPTransport(verify=trust, limits=limits, proxy=proxy) for _ in range(service.most)
            ]
        except ImportError:
            raise RecipeError(
                "the environment names a SOCKS proxy, which needs the package socksio (pip install 'httpx[socks]'); "
                "or take the server out with NO_PROXY"
            ) from None
        self._free = [*reversed(self._lanes)]

    async def __aenter__(self) -> "Lanes":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for lane in self._lanes:
            await lane.aclose()

    async def post(self, body: bytes) -> Reply:
        """Send one request. Failure if no whole reply comes in time; AssetError if the server cannot prove its name."""
        lane = self._free.pop()
        try:
            async with asyncio.timeout(self._timeout):
                return await self._post(lane, body)
        except TimeoutError:
            raise Failure("timeout", charged=True, slower=True) from None
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError) as error:
            if _untrusted(error):
                raise AssetError("its certificate is not valid for this address or signed by nobody we know") from None
            raise Failure("no connection", charged=False) from None
        except httpx.DecodingError:
            raise Failure("garbled", charged=True) from None
        except (httpx.TransportError, OSError):
            raise Failure("connection lost", charged=True) from None
        finally:
            self._free.append(lane)

    async def _post(self, lane: httpx.AsyncHTTPTransport, body: bytes) -> Reply:
        headers = [*self._headers, (b"Content-Length", b"%d" % len(body))]
        request = httpx.Request("POST", self._url, headers=headers, content=body, extensions=self._extensions)
        response = await lane.handle_async_request(request)
        try:
            coded = "content-encoding" in response.headers
            parts, size = [], 0
            async for part in response.aiter_bytes() if coded else response.aiter_raw():
                parts.append(part)
                size += len(part)
                if size > LARGEST:
                    raise Failure("garbled", charged=True)
        finally:
            await response.aclose()
        told = response.headers
        return Reply(response.status_code, told.get("retry-after"), told.get("location"), b"".join(parts))


def _proxy(scheme: str, host: str) -> httpx.Proxy | None:
    """The proxy that the environment names; none to this machine itself."""
    if host in ("localhost", "::1") or host.startswith("127.") or proxy_bypass(host):
        return None
    known = getproxies()
    found = known.get(scheme) or known.get("all")
    if not found:
        return None
    try:
        proxy = httpx.Proxy(found if "://" in found else f"http://{found}")
        if proxy.url.host and 0 <= (proxy.url.port or 0) < 1 << 16 and proxy.url.host.encode("idna"):
            return proxy
    except (ValueError, httpx.InvalidURL):  # a scheme that is none of a proxy's, or no address
        pass
    # Not what it is: it may hold a password.
    raise RecipeError(
        f"the proxy that the environment names for {scheme} (HTTP_PROXY, HTTPS_PROXY, ALL_PROXY) is none that can be "
        "used: http://HOST:PORT is wanted; or take the server out with NO_PROXY"
    )


def _trust() -> ssl.SSLContext:
    """The certificates that are believed."""
    try:
        return httpx.create_ssl_context()
    except (OSError, ssl.SSLError) as error:  # SSLError is an OSError, named for the reader
        named = " and ".join(f"{name}={os.environ[name]}" for name in _CERTIFICATES if os.environ.get(name))
        raise AssetError(
            f"the certificates to believe cannot be read from {named or 'their file'}: {error.strerror or error}; mend "
            "or unset the variable"
        ) from None


def _untrusted(error: BaseException | None) -> bool:
    while error is not None and not isinstance(error, ssl.SSLCertVerificationError):
        error = error.__cause__ or error.__context__
    return error is not None
