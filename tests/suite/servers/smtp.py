"""A real SMTP server (aiosmtpd). Prints its port, then each accepted mail as one line of JSON, parsed by Python's email package.

usage: smtp.py OPTIONS-AS-JSON      It ends when its standard input closes.
options: cert, key, starttls, tls (from the first byte), user, password, mechanisms, refuse (addresses), busy (addresses, first time only)
"""

import asyncio
import email
import email.policy
import hashlib
import hmac
import json
import logging
import ssl
import sys
import warnings

from aiosmtpd.smtp import SMTP, AuthResult

# What a refused login or a broken handshake looks like here is the point of the tests.
logging.disable(logging.CRITICAL)
warnings.simplefilter("ignore")
options = json.loads(sys.argv[1])
busy = set(options.get("busy", []))


class Handler:
    async def handle_RCPT(self, server, session, envelope, address, rcpt_options):
        if address in options.get("refuse", []):
            return "550 5.1.1 no such mailbox"
        if address in busy:
            busy.discard(address)
            return "451 4.7.1 greylisted, come back later"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        message = email.message_from_bytes(envelope.content, policy=email.policy.default)
        def described(part):
            kind = part.get_content_type()
            if part.get_content_maintype() == "text":
                return {"type": kind, "text": part.get_content()}
            return {"type": kind, "id": part["Content-ID"], "size": len(part.get_payload(decode=True))}

        parts = [described(part) for part in message.walk() if not part.is_multipart()]
        login = session.auth_data
        print(
            json.dumps(
                {
                    "from": envelope.mail_from,
                    "to": envelope.rcpt_tos,
                    "hello": session.host_name,
                    "tls": session.ssl is not None or bool(options.get("tls")),
                    "login": login.decode() if isinstance(login, bytes) else login,
                    "type": message.get_content_type(),
                    "headers": [[name, str(value)] for name, value in message.items()],
                    "defects": [str(d) for part in message.walk() for d in part.defects],
                    "parts": parts,
                }
            ),
            flush=True,
        )
        return "250 accepted"

    async def auth_CRAM__MD5(self, server, args):
        challenge = b"<1896.697170952@mail.example.org>"
        answer = await server.challenge_auth(challenge)
        user, _, digest = answer.decode().partition(" ")
        wanted = hmac.new(options["password"].encode(), challenge, hashlib.md5).hexdigest()
        if user == options["user"] and digest == wanted:
            return AuthResult(success=True, auth_data=f"CRAM-MD5 {user}")
        return AuthResult(success=False, handled=False)


def authenticate(server, session, envelope, mechanism, data):
    user, password = data.login.decode(), data.password.decode()
    if user == options["user"] and password == options["password"]:
        return AuthResult(success=True, auth_data=f"{mechanism} {user}")
    return AuthResult(success=False, handled=False)


def factory():
    extra = {}
    if options.get("starttls"):
        extra |= {"tls_context": context, "require_starttls": True}
    if options.get("user"):
        every = {"PLAIN", "LOGIN", "CRAM-MD5"}
        extra |= {
            "authenticator": authenticate,
            "auth_required": True,
            "auth_require_tls": False,
            "auth_exclude_mechanism": every - set(options.get("mechanisms", every)),
        }
    return SMTP(Handler(), hostname="mail.example.org", enable_SMTPUTF8=True, **extra)


async def main():
    server = await asyncio.get_running_loop().create_server(
        factory, "127.0.0.1", 0, ssl=context if options.get("tls") else None
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


context = None
if options.get("cert"):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(options["cert"], options["key"])
asyncio.run(main())
