"""What the ASGI middleware and the aiohttp one share: sessions, events, routes, the life of the buffer."""
