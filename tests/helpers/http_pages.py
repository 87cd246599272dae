"""Pages of web servers: a folder's listing, and pages for signing in."""

from __future__ import annotations

NGINX = (
    '<html><head><title>Index of /p/</title></head><body><h1>Index of /p/</h1><hr><pre><a href="../">../</a>\n{}'
    "</pre><hr></body></html>"
)
LOGIN = '<h1>Welcome</h1><form action="/login"><input name="user"><input type="password"></form><a href="jay.png">x</a>'
"""A page for logging in, at the URL that was asked for, with a link that looks like a photo."""
SIGN_IN = "<title>Sign in</title><form action='/login'><INPUT NAME='user'></form><a href='help/'>Help</a>"
"""One that asks for a password on its next page, with a link that looks like a folder."""
SSO = "<form action='/sso'><button>Sign in</button></form><a href='help/'>Help</a> <a href='logo.jpg'>"
"""One that asks for no text at all."""
