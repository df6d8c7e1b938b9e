"""A stand-in for systemd's manager on a real message bus: python3 systemd_on_bus.py SOCKET UNITS.json

UNITS.json: {"manager": {property: value}, "units": {name: {"state": …, "loaded": …, "properties": {property: value}}}}.
It speaks the D-Bus protocol itself; prints "ready" once the bus has given it systemd's name.
"""
import json, os, socket, struct, sys

address, described = sys.argv[1], json.load(open(sys.argv[2]))
bus = socket.socket(socket.AF_UNIX)
bus.connect(address)


def pad(data, to):
    return data + bytes(-len(data) % to)


def text(data, value):
    raw = value.encode()
    return pad(data, 4) + struct.pack("<I", len(raw)) + raw + b"\0"


def signature(data, value):
    return data + bytes([len(value)]) + value.encode() + b"\0"


def message(kind, serial, fields, body=b""):
    head = b""
    for code, sign, value in fields:
        head = signature(pad(head, 8) + bytes([code]), sign)
        if sign == "u":
            head = pad(head, 4) + struct.pack("<I", value)
        else:
            head = signature(head, value) if sign == "g" else text(head, value)
    return pad(struct.pack("<BBBBIII", ord("l"), kind, 0, 1, len(body), serial, len(head)) + head, 8) + body


def exactly(count):
    data = b""
    while len(data) < count:
        more = bus.recv(count - len(data))
        if not more:
            sys.exit(0)
        data += more
    return data


def text_at(data, at):
    at = (at + 3) // 4 * 4
    length = struct.unpack_from("<I", data, at)[0]
    return data[at + 4 : at + 4 + length].decode(), at + 5 + length


def receive():
    fixed = exactly(16)
    kind, length, serial, fields = fixed[1], *struct.unpack("<III", fixed[4:])
    head = exactly((fields + 7) // 8 * 8)[:fields]
    found, at = {}, 0
    while at < fields:
        at = (at + 7) // 8 * 8
        code, sign = head[at], chr(head[at + 2])
        at += 4
        if sign == "u":
            at = (at + 3) // 4 * 4
            found[code], at = struct.unpack_from("<I", head, at)[0], at + 4
        elif sign == "g":
            found[code], at = head[at + 1 : at + 1 + head[at]].decode(), at + 2 + head[at]
        else:
            found[code], at = text_at(head, at)
    return kind, serial, found, exactly(length)


def call(serial, member, signs="", body=b""):
    name = "org.freedesktop.DBus"
    fields = [(1, "o", "/org/freedesktop/DBus"), (2, "s", name), (3, "s", member), (6, "s", name)]
    bus.sendall(message(1, serial, fields + ([(8, "g", signs)] if signs else []), body))


def variant(value):
    if isinstance(value, str):
        return text(signature(b"", "s"), value)
    if value > 0xFFFFFFFF:
        return pad(signature(b"", "t"), 8) + struct.pack("<Q", value)
    return pad(signature(b"", "u"), 4) + struct.pack("<I", value)


def path_of(name):
    return "/org/freedesktop/systemd1/unit/" + "".join(c if c.isalnum() else "_%02x" % ord(c) for c in name)


def list_units():
    units = b""
    for name, unit in described["units"].items():
        units = pad(units, 8)
        for value in [name, "A unit", unit.get("loaded", "loaded"), unit["state"], "sub", "", path_of(name)]:
            units = text(units, value)
        units = text(text(pad(units, 4) + struct.pack("<I", 0), ""), "/")
    return pad(struct.pack("<I", len(units)), 8) + units


bus.sendall(b"\0AUTH EXTERNAL " + str(os.getuid()).encode().hex().encode() + b"\r\n")
assert bus.recv(512).startswith(b"OK ")
bus.sendall(b"BEGIN\r\n")
call(1, "Hello")
call(2, "RequestName", "su", pad(text(b"", "org.freedesktop.systemd1"), 4) + struct.pack("<I", 0))
of_path = {path_of(name): unit.get("properties", {}) for name, unit in described["units"].items()}
of_path["/org/freedesktop/systemd1"] = described["manager"]
serial = 2
while True:
    kind, asked, fields, body = receive()
    if kind == 2 and fields.get(5) == 2:
        print("ready", flush=True)
    if kind != 1:
        continue
    serial += 1
    to = [(5, "u", asked), (6, "s", fields[7])]
    if fields[3] == "ListUnits":
        bus.sendall(message(2, serial, to + [(8, "g", "a(ssssssouso)")], list_units()))
        continue
    interface, at = text_at(body, 0)
    value = of_path[fields[1]].get(text_at(body, at)[0])
    if value is None:
        bus.sendall(message(3, serial, to + [(4, "s", "org.freedesktop.DBus.Error.UnknownProperty")]))
    else:
        bus.sendall(message(2, serial, to + [(8, "g", "v")], variant(value)))
