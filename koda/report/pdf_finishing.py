"""What an archive and a screen reader ask of a PDF and WeasyPrint leaves out; the same bytes for the same bytes."""

from __future__ import annotations

import io
import re
import zlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import quoteattr

import pikepdf
from pikepdf import Array, Dictionary, Name

# PDF/UA's schema is none of those PDF/A knows, so PDF/A asks for its description beside its mark.
_UA_MARK = b"""<rdf:Description rdf:about="" xmlns:pdfuaid="http://www.aiim.org/pdfua/ns/id/" pdfuaid:part="1" />\
<rdf:Description rdf:about="" xmlns:pdfaExtension="http://www.aiim.org/pdfa/ns/extension/" \
xmlns:pdfaSchema="http://www.aiim.org/pdfa/ns/schema#" xmlns:pdfaProperty="http://www.aiim.org/pdfa/ns/property#">\
<pdfaExtension:schemas><rdf:Bag><rdf:li rdf:parseType="Resource">\
<pdfaSchema:schema>PDF/UA identification schema</pdfaSchema:schema>\
<pdfaSchema:namespaceURI>http://www.aiim.org/pdfua/ns/id/</pdfaSchema:namespaceURI>\
<pdfaSchema:prefix>pdfuaid</pdfaSchema:prefix>\
<pdfaSchema:property><rdf:Seq><rdf:li rdf:parseType="Resource">\
<pdfaProperty:name>part</pdfaProperty:name><pdfaProperty:valueType>Integer</pdfaProperty:valueType>\
<pdfaProperty:category>internal</pdfaProperty:category>\
<pdfaProperty:description>Part of ISO 14289 that the file follows</pdfaProperty:description>\
</rdf:li></rdf:Seq></pdfaSchema:property></rdf:li></rdf:Bag></pdfaExtension:schemas></rdf:Description>"""
# WeasyPrint writes one operand or operator a line, and its text as hexadecimal: no string looks like this.
_MARKED = re.compile(rb"^/\w+\n<</MCID (\d+)>>\nBDC$", re.MULTILINE)
_BEGIN_OR_END = re.compile(rb"^(?:B[DM]C|EMC)$", re.MULTILINE)
_PRODUCER = re.compile(rb'pdf:Producer="[^"]*"')
_TEXT_PLACE = re.compile(rb"^1 0 0 -1 \S+ (\S+) Tm$", re.MULTILINE)
_POINTS = 0.75  # of a pixel; WeasyPrint counts pixels from the top of the page
_MOST_TRIES = 8
_LEVEL = 6  # of compression; the highest takes three times as long for a fiftieth less


def finish(pdf: bytes, producer: str = "") -> bytes:
    """Return a tagged PDF of WeasyPrint with the marks of its lists, tables, links, margins and standards completed.

    Args:
        pdf: the file as WeasyPrint wrote it.
        producer: what drew the file; "" leaves what it says itself.
    """
    with pikepdf.open(io.BytesIO(pdf)) as document:
        root = document.Root
        if "/AF" in root:
            root.AF = Array(list({file.objgen: file for file in root.AF}.values()))
        if "/Metadata" in root:
            packet = root.Metadata.read_bytes()
            if b"pdfuaid" not in packet:
                packet = packet.replace(b"</rdf:RDF>", _UA_MARK + b"</rdf:RDF>")
            if producer:
                document.docinfo["/Producer"] = producer
                named = b"pdf:Producer=" + quoteattr(producer).encode()
                packet = _PRODUCER.sub(lambda _: named, packet)
            root.Metadata.write(packet)
        tree = list(_nodes(root.StructTreeRoot)) if "/StructTreeRoot" in root else []
        if tree:
            _scope_headings(tree)
            _list_names(document, tree)
            _gather_bodies(document, tree)
            _bring_links_home(document, tree)
            _free_margins(document, tree)
        return _saved(document)


@dataclass(frozen=True)
class _Node:
    """A structure element read once, since each look into the file takes its time."""

    element: Any
    kind: str
    kids: list[Any]
    above: tuple[_Node, ...]  # outermost first

    def nearest(self, kind: str) -> _Node | None:
        return next((node for node in reversed(self.above) if node.kind == kind), None)


def _nodes(top: Any) -> Iterator[_Node]:
    """Yield each structure element that the root reaches, in reading order."""
    waiting: list[tuple[Any, tuple[_Node, ...]]] = [(kid, ()) for kid in reversed(_kids(top))]
    while waiting:
        element, above = waiting.pop()
        if isinstance(element, Dictionary) and (kind := element.get("/S")) is not None:
            node = _Node(element, str(kind), _kids(element), above)
            yield node
            below = (*above, node)
            waiting += [(kid, below) for kid in reversed(node.kids)]


def _kids(element: Any) -> list[Any]:
    kids = element.get("/K")
    return [] if kids is None else list(kids) if isinstance(kids, Array) else [kids]


def _scope_headings(tree: list[_Node]) -> None:
    """Say of each TH whether it heads a column (in a THead, or in a table's first row of headings alone) or a row."""
    tables_begun = set()
    first_rows = set()
    plain = set()  # rows that hold something else than headings
    for node in tree:
        if node.kind == "/TR" and (table := node.nearest("/Table")) and id(table) not in tables_begun:
            tables_begun.add(id(table))
            first_rows.add(id(node))
        elif node.kind == "/TD" and (row := node.nearest("/TR")):
            plain.add(id(row))
    for node in tree:
        if node.kind != "/TH":
            continue
        row = node.nearest("/TR")
        column = node.nearest("/THead") or (id(row) in first_rows and id(row) not in plain)
        scope = Name.Column if column else Name.Row
        said = node.element.get("/A")
        if isinstance(said, Dictionary) and said.get("/O") == Name.Table:
            said.Scope = scope
        else:
            others = [] if said is None else list(said) if isinstance(said, Array) else [said]
            node.element.A = Array([*others, Dictionary(O=Name.Table, Scope=scope)])


def _list_names(document: Any, tree: list[_Node]) -> None:
    """List the elements that have a name, since cells call their headings by it."""
    named = {bytes(node.element.ID): node.element for node in tree if "/ID" in node.element}
    if named:
        pairs = [part for name in sorted(named) for part in (pikepdf.String(name), named[name])]
        document.Root.StructTreeRoot.IDTree = document.make_indirect(Dictionary(Names=Array(pairs)))


def _gather_bodies(document: Any, tree: list[_Node]) -> None:
    """Put what an item of a list holds beside its label into one body, where WeasyPrint left it in the item itself."""
    for node in tree:
        if node.kind != "/LI":
            continue
        label = [kid for kid in node.kids if isinstance(kid, Dictionary) and kid.get("/S") == Name.Lbl]
        rest = [
            kid for kid in node.kids if not (isinstance(kid, Dictionary) and kid.get("/S") in (Name.Lbl, Name.LBody))
        ]
        if not rest:
            continue
        body = document.make_indirect(
            Dictionary(Type=Name.StructElem, S=Name.LBody, P=node.element, Pg=node.element.Pg, K=Array(rest))
        )
        for kid in rest:
            kid.P = body
        node.element.K = Array([*label, body])


def _bring_links_home(document: Any, tree: list[_Node]) -> None:
    """Hang each link annotation on a Link element: the nearest above it, or a new one in its place."""
    parents = _parents(document)
    for node in tree:
        links = [] if node.kind == "/Link" else [place for place, kid in enumerate(node.kids) if _is_link(kid)]
        if not links:
            continue
        kept = list(node.kids)
        for place in reversed(links):
            link = kept.pop(place)
            if above := node.nearest("/Link"):
                home = above.element
                home.K = Array([link, *_kids(home)])
            else:
                home = document.make_indirect(
                    Dictionary(Type=Name.StructElem, S=Name.Link, P=node.element, Pg=link.Pg, K=Array([link]))
                )
                kept.insert(place, home)
            if "/StructParent" in link.Obj:
                numbers, entry = parents[int(link.Obj.StructParent)]
                numbers[entry] = home
        node.element.K = Array(kept)


def _is_link(kid: Any) -> bool:
    if not isinstance(kid, Dictionary) or kid.get("/Type") != Name.OBJR:
        return False
    return bool(kid.Obj.get("/Subtype") == Name.Link)


def _free_margins(document: Any, tree: list[_Node]) -> None:
    """Turn marked content that no element of the tree holds (running heads, page numbers) into artifacts."""
    held = defaultdict(set)
    for node in tree:
        for kid in node.kids:
            if isinstance(kid, int):
                held[node.element.Pg.objgen].add(int(kid))
            elif isinstance(kid, Dictionary) and "/MCID" in kid:
                held[(kid.get("/Pg") or node.element.Pg).objgen].add(int(kid.MCID))
    parents = _parents(document)
    for page in document.pages:
        mine = held[page.obj.objgen]
        content = page.obj.Contents.read_bytes()
        freed = {int(number) for number in _MARKED.findall(content)} - mine
        if not freed:
            continue
        half = float(page.mediabox[3]) / 2
        content = _MARKED.sub(
            lambda found, freed=freed, half=half: _margin(found, half) if int(found[1]) in freed else found[0],  # type: ignore[misc]
            content,
        )
        page.obj.Contents.write(_compressed(content), filter=Name.FlateDecode)
        if "/StructParents" in page.obj:
            numbers, place = parents[int(page.obj.StructParents)]
            for number in freed:
                if number < len(numbers[place]):
                    numbers[place][number] = None


def _parents(document: Any) -> dict[int, tuple[Any, int]]:
    """Return where the parent tree keeps what belongs to each number; WeasyPrint writes it as one flat list."""
    numbers = document.Root.StructTreeRoot.ParentTree.Nums
    return {int(numbers[place]): (numbers, place + 1) for place in range(0, len(numbers), 2)}


def _margin(found: re.Match[bytes], half: float) -> bytes:
    """Return the mark of a running head or foot, told apart by how far down the page its text begins, if it has any."""
    text = _TEXT_PLACE.search(found.string, found.end(), _end_of_mark(found.string, found.end()))
    if text is None:
        return b"/Artifact\n<</Type /Pagination>>\nBDC"
    kind = b"Header" if _POINTS * float(text[1]) < half else b"Footer"
    return b"/Artifact\n<</Type /Pagination /Subtype /%s>>\nBDC" % kind


def _end_of_mark(content: bytes, start: int) -> int:
    """Return where marked content ends that begins at a place."""
    depth = 1
    for found in _BEGIN_OR_END.finditer(content, start):
        depth += -1 if found[0] == b"EMC" else 1
        if not depth:
            return found.start()
    return len(content)


def _saved(document: Any) -> bytes:
    """Save the file so that no stream's data end with a carriage return.

    With the line feed before ``endstream`` that would be one end of line, and PDF/A holds it against the stream's
    length. What follows the end of compressed data is not read, so that a line feed is added there.
    """
    for stream in _streams(document):
        raw = stream.read_raw_bytes()
        if "/Filter" not in stream and stream.get("/Type") != Name.Metadata:
            stream.write(_compressed(raw), filter=Name.FlateDecode)
        elif raw.endswith(b"\r"):
            stream.write(raw + b"\n", filter=stream.Filter, decode_parms=stream.get("/DecodeParms"))
    content = _written(document)
    for _ in range(_MOST_TRIES):
        if b"\r\nendstream" not in content:
            break
        with pikepdf.open(io.BytesIO(content)) as again:
            _change_tables(again)
            content = _written(again)
    return content


def _change_tables(document: Any) -> None:
    """Change what is in the tables of objects whose data end with a carriage return, without saying anything else.

    The library writes them itself, last of all. An element whose revision is not stated is of revision 0.
    """
    for table in [stream for stream in _streams(document) if stream.read_raw_bytes().endswith(b"\r")]:
        inside = document.objects
        if table.get("/Type") == "/ObjStm":
            numbers = table.read_bytes()[: int(table.First)].split()[::2]
            inside = (document.get_object(int(number), 0) for number in numbers)
        for element in inside:
            if isinstance(element, Dictionary) and element.get("/Type") == "/StructElem" and "/R" not in element:
                element.R = 0
                break


def _streams(document: Any) -> Iterator[Any]:
    return (entry for entry in document.objects if isinstance(entry, pikepdf.Stream))


def _written(document: Any) -> bytes:
    made = io.BytesIO()
    document.save(
        made,
        deterministic_id=True,
        fix_metadata_version=False,
        object_stream_mode=pikepdf.ObjectStreamMode.generate,
        stream_decode_level=pikepdf.StreamDecodeLevel.none,
    )
    return made.getvalue()


def _compressed(content: bytes) -> bytes:
    data = zlib.compress(content, _LEVEL)
    return data + b"\n" if data.endswith(b"\r") else data
