#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compares the numbers of stream/format.h with those of colod-stream(7).

Usage: manual.py FORMAT.H COLOD-STREAM.7

Both ways: what only one of the two has is an error too.
"""

import re
import sys

# Section of the page, and the structure of the header that it describes.
STRUCTS = {
    "Frames": "wire_header",
    "HELLO": "wire_hello",
    "DOMAIN": "wire_domain",
    "IMAGE": "wire_image",
    "IMAGE_END": "wire_image_end",
    "PAGES": "wire_pages",
    "STATE": "wire_record_header",
    "EPOCH_END": "wire_epoch_end",
    "ACK": "wire_ack",
    "BYE": "wire_bye",
    "DISKS": "wire_disks",
    "Offers": "wire_disk_offer",
    "DISKS_TAKEN": "wire_disks_taken",
    "DISK_MARKS": "wire_disk_blocks",
    "DISK_HASHES": "wire_disk_hashes",
    "Changes": "wire_change",
}
# First two words of a table's head, and the enumeration that it lists.
ENUMS = {
    "Number Role": "wire_role",
    "Number Kind": None,  # by section
    "Number Encoding": "wire_encoding",
    "Number Record": "wire_record",
}
KINDS = {"DOMAIN": "wire_guest_kind", "PAGES": "wire_page_kind",
         "Changes": "wire_change_kind"}
PREFIX = {
    "wire_role": "WIRE_ROLE_",
    "wire_guest_kind": "WIRE_GUEST_",
    "wire_encoding": "WIRE_ENCODING_",
    "wire_page_kind": "WIRE_PAGE_",
    "wire_record": "WIRE_RECORD_",
    "wire_change_kind": "CHANGE_",
}
# Of what follows the fixed part of a payload.
VARIABLE = ("u8[n]", "u64[n]", "u32[count]", "u64[count]")


def value(text, known):
    """The value of a constant expression of C."""
    text = re.sub(r"\bU?INT(?:16|32|64)_C\((\w+)\)", r"\1", text)
    text = re.sub(r"\(int\)", "", text)
    text = re.sub(r"\bWIRE_\w+", lambda m: str(known[m.group()]), text)
    if not re.fullmatch(r"[\s0-9a-fA-FxX()*+<-]+", text):
        sys.exit("manual.py: cannot evaluate " + text)
    return eval(text)


def struct_fields(body):
    """name: (offset, type), laid out as C does; the header asserts it."""
    offset, fields = 0, {}
    for bits, name, count in re.findall(
            r"uint(\d+)_t (\w+)(?:\[(\d+)\])?;", body):
        size = int(bits) // 8
        offset = -(-offset // size) * size
        fields[name] = (offset, "u%s%s" % (bits,
                                           "[%s]" % count if count else ""))
        offset += size * int(count or 1)
    return fields, offset


def read_header(text):
    """(kind of fact, name): number, and the lengths of structures."""
    facts, sizes, limits = {}, {}, {}
    text = re.sub(r"\\\n", " ", text)
    words = {name: re.sub(r'"\s*"', "", text) for name, text in
             re.findall(r'X\(\d+, (\w+),\s*"((?:[^"]|"\s*")*)"\)', text)}
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.S)

    anonymous = re.search(r"\benum \{(.*?)\}", text, re.S).group(1)
    for name, expression in re.findall(r"(WIRE_\w+) = ([^,]+),", anonymous):
        limits[name] = value(expression, limits)
    for name in ("WIRE_GFN_MAX", "WIRE_OPTIONAL"):
        limits[name] = value(re.search(
            r"#define %s (.*)" % name, text).group(1), limits)
    for name, number in limits.items():
        facts["limit", name[len("WIRE_"):]] = number

    for number, name, limit in re.findall(
            r"X\((\d+), (\w+), ([^\")]+)\)", text.split("enum wire_type")[0]):
        facts["type", name] = int(number)
        facts["longest payload", name] = value(limit, limits)
    reasons = re.search(r"#define WIRE_REASONS.*?(?=enum wire_reason)", text,
                        re.S).group()
    for number, name in re.findall(r"X\((\d+), (\w+),", reasons):
        facts["reason", name] = int(number)
        facts["words of reason", name] = words[name]

    for name, number in re.findall(
            r"#define WIRE_DISK_(\w+) (UINT32_C\(\w+\))", text):
        facts["flag", name] = value(number, limits)

    for enum, prefix in PREFIX.items():
        body = re.search(r"enum %s\s*\{(.*?)\}" % enum, text, re.S).group(1)
        for name, number in re.findall(prefix + r"(\w+)\s*=\s*([^,}]+)",
                                       body):
            facts[enum, name] = value(number.strip(), limits)

    for name, body in re.findall(r"struct (wire_\w+) \{(.*?)\};", text, re.S):
        fields, sizes[name] = struct_fields(body)
        for field, (offset, kind) in fields.items():
            facts[name, field] = "%s at %d" % (kind, offset)

    magic = re.search(r'#define WIRE_MAGIC "(.*)"', text).group(1)
    magic = magic.encode().decode("unicode_escape").encode("latin-1")
    facts["magic", "bytes"] = magic.hex(" ")
    return facts, sizes


def tables(page):
    """(section, words of the head, rows) for each table of columns."""
    section, rows = None, None
    for line in page.splitlines():
        if line.startswith((".Ss ", ".Sh ")):
            section = line[4:]
        elif line.startswith(".Bl -column"):
            rows = []
        elif line.startswith(".El") and rows:
            yield section, rows[0], rows[1:]
            rows = None
        elif line.startswith(".It ") and rows is not None:
            cells = re.split(r"\s+Ta(?:\s+|$)", line[4:])
            rows.append([re.sub(r"^Em ", "", cell) for cell in cells])


def read_field(facts, sizes, section, row):
    offset, kind, name = row[:3]
    struct = STRUCTS.get(section)
    # It has no member in the header.
    if kind in VARIABLE:
        if int(offset) != sizes[struct]:
            print("%s: %s is at %s, the structure has %d bytes" % (
                section, name, offset, sizes[struct]))
            return False
        return True
    facts[struct, name] = "%s at %s" % (kind, offset)
    if name == "magic":
        facts["magic", "bytes"] = row[3]
    if struct == "wire_hello" and name == "version":
        facts["limit", "VERSION in HELLO"] = int(row[3])
    return True


def read_manual(page, sizes):
    facts, good = {}, True
    for section, head, rows in tables(page):
        title = " ".join(head[:2])
        for row in rows:
            if title == "Number Type":
                facts["type", row[1]] = int(row[0])
                facts["longest payload", row[1]] = int(row[2])
            elif title == "Limit Value":
                facts["limit", row[0]] = int(row[1], 0)
            elif title == "Number Reason":
                facts["reason", row[1]] = int(row[0])
                facts["words of reason", row[1]] = row[2]
            elif title == "Bit Flag":
                facts["flag", row[1]] = int(row[0])
            elif title in ENUMS:
                enum = ENUMS[title] or KINDS[section]
                facts[enum, row[1]] = int(row[0], 0)
            elif (title == "Offset Type" and section in STRUCTS and
                  rows[0][2] != "mac"):
                good &= read_field(facts, sizes, section, row)
    return facts, good


def main():
    with open(sys.argv[1], encoding="utf-8") as f:
        header, sizes = read_header(f.read())
    with open(sys.argv[2], encoding="utf-8") as f:
        manual, good = read_manual(f.read(), sizes)
    # The page names the version twice, the header once.
    header["limit", "VERSION in HELLO"] = header["limit", "VERSION"]
    for fact in sorted(set(header) | set(manual)):
        if header.get(fact) != manual.get(fact):
            good = False
            print("%s %s: %s in the header, %s in the manual" % (
                *fact, header.get(fact, "missing"),
                manual.get(fact, "missing")))
    print("%d numbers compared" % len(header))
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
