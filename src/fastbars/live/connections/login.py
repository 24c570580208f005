"""Login: what some exchanges require of a connection: a request to their REST API first, and a session token.

Units: seconds on the loop's clock.
"""

from __future__ import annotations

from fastbars.clocks import steady_s
from fastbars.errors import RestError
from fastbars.exchanges.declaration import Exchange
from fastbars.live.config import StreamConfig
from fastbars.live.rest import RestClient, body_of
from fastbars.live.secrets import without_credentials
from fastbars.log import log

_TIMEOUT_S = 5.0
_LOGIN_EVERY_S = 5.0


async def ask_first(exchange: Exchange, config: StreamConfig, url: str) -> None:
    """Send the REST requests that the exchange requires before a connection to `url`.

    A failure is only logged: another program may have sent them.
    """
    ssl = config.ssl or config.connect_options.get("ssl")
    for address in exchange.asked_first(url, config.rest_url):
        try:
            async with RestClient(_TIMEOUT_S, ssl=ssl, proxy=config.proxy) as client:
                body_of(await client(address, {}, {}), f"GET {address}")
        except RestError as error:
            shown = without_credentials(address)
            log.warning("not_asked_first", exchange=exchange.name, url=shown, why=str(error).replace(address, shown))


class SessionToken:
    """The session token of one connection, sent when the exchange asks for it.

    Args:
        exchange: builds the frames.
        token: None: there is none, and nothing is sent.
    """

    def __init__(self, exchange: Exchange, token: str | None) -> None:
        self._exchange = exchange
        self._token = token
        self._wanted_s = float("-inf")

    def frames(self, reason: str) -> list[bytes]:
        """The frames that send the token the exchange asks for; none if they were sent moments ago."""
        now_s = steady_s()
        if now_s - self._wanted_s < _LOGIN_EVERY_S:
            return []
        self._wanted_s = now_s
        if self._token is None:
            log.warning("session_token_wanted", exchange=self._exchange.name, reason=reason)
            return []
        return self._exchange.login(self._token)
