# SPDX-License-Identifier: Apache-2.0
"""The language that a source describes, and its manifest."""

from model.data.manifest import Manifest
from model.data.source import Language, Zipf
from model.data.synthetic import recall, zipf
from model.data.synthetic.records import RecordLanguage


def describe_language(source: Language) -> Manifest:
    """The manifest: of unlimited tokens whose entropy is known, nothing on disk."""
    return zipf.describe(source) if isinstance(source, Zipf) else recall.describe(source)


def open_language(source: Language) -> RecordLanguage:
    """What makes its windows, and knows what they cost."""
    if isinstance(source, Zipf):
        return zipf.ZipfLanguage(source)
    return recall.RecallLanguage(source)
