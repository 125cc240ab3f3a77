"""Reads report.html."""

from html.parser import HTMLParser

VOID = {"meta", "link", "input", "br", "img", "hr"}


class Page(HTMLParser):
    """A parsed page: elements with their attributes, and text by section."""

    def __init__(self, html):
        super().__init__()
        self.html = html
        self.elements, self.open, self.sections = [], [], {}
        self.feed(html)
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append((tag, dict(attributes).get("id")))

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag, f"unexpected </{tag}> at {self.getpos()}"

    def handle_data(self, data):
        for tag, name in self.open:
            if tag == "section":
                self.sections[name] = self.sections.get(name, "") + data

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    def text(self, name):
        return " ".join(self.sections[name].split())
