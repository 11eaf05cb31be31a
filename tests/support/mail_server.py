"""What the mail server of the tests does with mail: see mail_server.rs."""

import base64
import json
import pathlib

from aiosmtpd.smtp import AuthResult, LoginPassword


class Handler:
    def __init__(self, folder, password):
        self.folder = pathlib.Path(folder)
        self.password = password.encode()
        self.greylist = set()
        self.count = 0

    @classmethod
    def from_cli(cls, parser, *args):
        return cls(*args)

    async def handle_EHLO(self, server, session, envelope, hostname, responses):
        session.host_name = hostname
        if session.peer and server.transport.get_extra_info("ssl_object") and not session.ssl:
            # With TLS from the beginning this server does not see by itself that nobody can read along.
            server._auth_require_tls = False
            responses.insert(1, "250-AUTH PLAIN LOGIN")
        return responses

    async def auth_PLAIN(self, server, args):
        _, user, password = base64.b64decode(args[1]).split(b"\0")
        self.note("login", user.decode())
        # A server that tells others what it was told: whoever shows its answers must know what not to show.
        refused = f"535 5.7.8 {password.decode()} ({args[1]}) is not the password"
        if password != self.password:
            await server.push(refused)
        return AuthResult(success=password == self.password, handled=True, auth_data=LoginPassword(user, password))

    async def handle_RCPT(self, server, session, envelope, address, options):
        if address.startswith("nobody"):
            return "550 5.1.1 no such user here"
        if address.startswith("grey") and address not in self.greylist:
            self.greylist.add(address)
            return "451 4.7.1 greylisted, come back later"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        login = session.login_data
        tls = bool(session.ssl or server.transport.get_extra_info("ssl_object"))
        mail = {
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "tls": tls,
            "user": login.decode() if login else None,
            "content": envelope.content.decode(),
        }
        self.note("mail", mail)
        return "250 OK: taken"

    def note(self, kind, value):
        self.count += 1
        part = self.folder / f"{self.count:04}.part"
        part.write_text(json.dumps({kind: value}))
        part.rename(part.with_suffix(".json"))
